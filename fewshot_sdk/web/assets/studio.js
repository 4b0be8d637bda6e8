// The page of `fewshot studio`: wires the project, its cards, the trial and the saving together, and learns after each change.
import { Sheet } from "./studio_camera.js";
import { Cards } from "./studio_classes.js";
import { at, counted, dismiss, make, notice, quoted, say, undoLast } from "./studio_dom.js";
import { chosen, dropped, isZip, takeDrops } from "./studio_files.js";
import { openKeeper } from "./studio_keep.js";
import { Project } from "./studio_project.js";
import { saving } from "./studio_saving.js";
import { Trial } from "./studio_try.js";
import { View } from "./studio_view.js";

const settings = JSON.parse(at("settings").textContent);
export const opening = openStudio(settings); // of project.js
const least = settings.nWay ?? 2; // classes
const project = new Project(opening, settings.labelsMax);
const sheet = new Sheet(project, (file, group) => addFiles(group, [file]));
const cards = new Cards(project, { add, capture: (kind, group) => sheet.open(kind, group), view: (...those) => view.open(...those) });
const view = new View(project, (group, picture) => cards.removePicture(group, picture));
const trial = new Trial(settings.photographs, opening, correct);
let asked = 0, learning = false, soon = 0, current = false, ready = false, keeper = null;

/** Learns anew, once no picture is waiting; of the changes made meanwhile, only the last state counts. */
async function learn() {
  if (learning || project.busy) return;
  learning = true;
  for (let mine; mine !== asked && !project.busy; ) {
    mine = asked;
    await learnOnce(() => mine === asked).catch((error) => status(error.message, true));
  }
  learning = false;
  if (!project.busy) project.dispatchEvent(new Event("settled"));
}

async function learnOnce(newest) {
  const studio = await opening, { taught } = project;
  const groups = taught.map(({ name }) => project.find(name));
  general(cards.show(taught.length ? await studio.findings(taught) : []));
  if (taught.length < least) {
    trial.learned(null);
    status(settings.nWay ? `Add pictures to ${least} classes: this network tells exactly so many apart.`
      : taught.length ? "Now add pictures to another class." : "Add pictures to two or more classes. It learns as you add them.");
    return;
  }
  status("Learning\u2026");
  let found;
  try {
    found = await studio.fit(taught, options());
  } catch (error) {
    if (newest()) trial.learned(null);
    throw error;
  }
  if (!newest()) return;
  current = true;
  const time = found.milliseconds < 1000 ? `${Math.round(found.milliseconds)} ms` : `${(found.milliseconds / 1000).toFixed(1)} s`;
  status(`Learned ${counted(found.total, "picture")} of ${counted(taught.length, "class")} in ${time}; recognizes ${found.recognized === found.total ? "all" : found.recognized}.`);
  document.body.dataset.fits = Number(document.body.dataset.fits ?? 0) + 1;
  trial.learned(groups);
}

function options() {
  return settings.stepsDefault ? { steps: Number(at("steps").value) } : {};
}

/** Resolves once what was learned is about the project as it is. Rejects with a sentence if there is no such classifier. */
async function settled() {
  if (soon || learning || project.busy) await new Promise((resolve) => project.addEventListener("settled", resolve, { once: true }));
  if (!current) throw new Error(at("status").textContent);
}

function general(findings) {
  at("general").replaceChildren(...findings.map(({ message, severity, pictures }) => make("li", { textContent: pictures.length ? message : `${message[0].toUpperCase()}${message.slice(1)}.`, dataset: { severity } })));
}

function status(text, bad = false) {
  at("status").classList.toggle("bad", bad);
  say(at("status"), text);
}

function progress() {
  const { done, total } = project.progress;
  at("progress").hidden = !project.busy;
  if (!project.busy) return;
  at("progress").max = total;
  at("progress").value = done;
  status(ready ? `Reading ${counted(total, "picture")}\u2026` : "Loading the network\u2026");
}

function changed() {
  asked++;
  current = false;
  delete document.body.dataset.kept;
  progress();
  clearTimeout(soon);
  soon = setTimeout(() => {
    soon = 0;
    learn();
    keep(asked);
  }, 120);
}

async function keep(mine) {
  try {
    await keeper?.save(project.classes);
    if (keeper && mine === asked) document.body.dataset.kept = "yes";
  } catch (error) {
    notKept(error);
  }
}

function notKept(error) {
  notice(error.message, { bad: true });
  at("kept").textContent = error.message;
}

/** Adds what was chosen, dropped or pasted to a class; without one, folders and zips become classes of their own. */
async function add(content, group = null) {
  try {
    const { loose, folders, zips } = await content, jobs = [], unreadable = [];
    for (const zip of zips) {
      status(`Opening ${zip.name}\u2026`);
      for (const { name, files, findings } of await (await opening).unpack(zip)) {
        jobs.push([group ?? named(name), files]);
        unreadable.push(...findings.map(({ message }) => message));
      }
    }
    for (const { name, files } of folders) jobs.push([group ?? named(name), files]);
    if (jobs.length && !group) project.drop((other) => other.fresh && !jobs.some(([each]) => each === other));
    if (loose.length) jobs.push([group ?? project.classes.find(({ fresh }) => fresh) ?? project.add(), loose]);
    if (!jobs.length) throw new Error("There are no pictures in this.");
    const added = await Promise.all(jobs.map(([each, files]) => project.addFiles(each, files)));
    complain([...unreadable, ...added.flatMap(({ complaints }) => complaints)]);
  } catch (error) {
    changed(); // the status no longer says that a zip is being opened
    notice(error.message, { bad: true });
  }
}

function named(name) {
  return project.find(name.normalize("NFC").trim()) ?? project.add(name);
}

async function addFiles(group, files) {
  const { pictures, complaints } = await project.addFiles(group, files);
  complain(complaints);
  return pictures;
}

function complain(sentences) {
  if (!sentences.length) return;
  const others = sentences.length > 2 ? ` And ${counted(sentences.length - 2, "other file")} could not be read.` : "";
  notice(`${sentences.slice(0, 2).map((each) => each.replace(/[^.]$/, "$&.")).join(" ")}${others}`, { bad: true });
}

/** Adds a picture that was judged to its class, or moves it there; resolves to what to move next time. */
async function correct(file, group, before) {
  if (before && project.picture((each) => each === before)) {
    const { group: from } = project.picture((each) => each === before);
    if (from !== group) project.move(from, before, group);
    notice(`Moved to ${quoted(group.name)}.`);
    return before;
  }
  const [picture] = await addFiles(group, [file]);
  if (picture) {
    notice(`Added to ${quoted(group.name)}.`, {
      undo: () => {
        const found = project.picture((each) => each === picture);
        if (found) project.removePicture(found.group, picture).settle();
      },
    });
  }
  return picture ?? null;
}

function listen() {
  project.addEventListener("change", changed);
  project.addEventListener("progress", progress);
  at("add").addEventListener("click", () => {
    try {
      cards.name(project.add());
    } catch (error) {
      notice(error.message, { bad: true });
    }
  });
  at("add-folder").addEventListener("change", () => add(chosen(at("add-folder"))));
  at("add-zip").addEventListener("change", () => add(chosen(at("add-zip"))));
  at("anew").addEventListener("click", () => {
    const { undo, settle } = project.replace([]);
    notice("Emptied. All pictures were removed from this page.", { undo, settle });
    fresh();
  });
  at("steps")?.addEventListener("input", () => { at("steps-shown").value = at("steps").value; changed(); });
  at("undo").addEventListener("click", undoLast);
  at("dismiss").addEventListener("click", dismiss);
  takeDrops(document.body, (content) => add(content));
  document.addEventListener("paste", paste);
  document.addEventListener("keydown", (event) => {
    const writing = event.target.closest("input[type=text]");
    if ((event.ctrlKey || event.metaKey) && event.key === "z" && !event.shiftKey && !writing && undoLast()) event.preventDefault();
    if (event.key === "Escape" && !document.querySelector("dialog[open]") && !writing) dismiss();
  });
  addEventListener("beforeunload", (event) => { if (!document.body.dataset.kept && !project.empty) event.preventDefault(); });
}

/** Pastes pictures into the class that has the focus or is under the pointer, else into the trial. */
function paste(event) {
  if (document.querySelector("dialog[open]") || !event.clipboardData?.files.length) return;
  event.preventDefault();
  const key = (document.activeElement?.closest(".class") ?? document.querySelector(".class:hover"))?.dataset.key, content = dropped(event.clipboardData);
  const group = project.classes.find((each) => String(each.key) === key);
  if (group || [...event.clipboardData.files].some(isZip)) add(content, group);
  else trial.use(content);
}

/** Classes to begin with, which go when others come. */
function fresh() {
  for (let i = 0; i < least; i++) project.add().fresh = true;
}

async function begin() {
  listen();
  saving({ project, opening, options, settled, complain: (error) => notice(error.message, { bad: true }) });
  status("Loading the network\u2026");
  opening.then(() => { ready = true; progress(); changed(); }, (error) => status(error.message, true));
  try {
    keeper = await openKeeper();
    await keeper.load(project);
  } catch (error) {
    notKept(error);
  }
  if (!project.classes.length) fresh();
  document.body.dataset.opened = "yes";
  if (!(await opening.catch(() => null))) return;
  document.body.dataset.ready = "yes";
  if (!navigator.serviceWorker) return;
  await navigator.serviceWorker.register("studio-sw.js").catch(() => {});
  await navigator.serviceWorker.ready;
  at("offline").hidden = false;
}

begin();
