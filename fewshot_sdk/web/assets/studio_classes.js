// The cards of the classes: names, pictures, what the doctor says of them, and how they are added and removed.
import { at, counted, icon, make, notice, quoted, say } from "./studio_dom.js";
import { chosen, takeDrops } from "./studio_files.js";

const SHOWN = 3; // findings of a class; the others are behind a summary
const SEVERITY = { error: "Problem", warning: "Look at this", note: "Note" };
const NEXT = { ArrowRight: 1, ArrowLeft: -1 };

/** The cards; `actions` are { add, capture, view }: to add what was chosen, open a camera or pad, and look at a picture. */
export class Cards {
  constructor(project, actions) {
    this.project = project;
    this.actions = actions;
    this.cards = new Map();
    this.findings = [];
    project.addEventListener("change", () => this.update());
  }

  update() {
    const { classes } = this.project;
    for (const [group, card] of this.cards) {
      if (classes.includes(group)) continue;
      card.element.remove();
      this.cards.delete(group);
    }
    classes.forEach((group, i) => {
      if (!this.cards.has(group)) this.cards.set(group, new Card(group, this.project, this.actions));
      const card = this.cards.get(group), there = at("cards").children[i];
      if (there !== card.element) at("cards").insertBefore(card.element, there ?? null);
      card.update(this.findings);
    });
  }

  /** Shows the findings, each at its class, and returns those that concern no single one. */
  show(findings) {
    this.findings = findings;
    this.update();
    return findings.filter((finding) => !this.project.classes.some((group) => owns(group, finding)));
  }

  /** Moves the focus to a class's name, with its text selected. */
  name(group) {
    const { element, name } = this.cards.get(group);
    element.scrollIntoView({ block: "nearest" });
    name.select();
  }

  removePicture(group, picture) {
    this.cards.get(group).removePicture(picture);
  }
}

/** Whether a finding concerns pictures of this class and of no other. */
function owns(group, { pictures }) {
  return pictures.length > 0 && pictures.every((id) => group.pictures.some((picture) => picture.id === id));
}

class Card {
  constructor(group, project, actions) {
    Object.assign(this, { group, project, actions, tiles: new Map() });
    this.name = make("input", { className: "name", type: "text", value: group.name, autocomplete: "off", spellcheck: false, dir: "auto", "aria-label": "Name of the class" });
    this.count = make("span", { className: "count soft small number" });
    this.removal = make("button", { type: "button", className: "plain" }, icon("bin"));
    this.pictures = make("ul", { className: "pictures" });
    this.hint = make("p", { className: "hint soft small" }, make("span", { className: "by-mouse", textContent: "Drop pictures here, paste them, or:" }),
      make("span", { className: "by-touch", textContent: "Add a few pictures of one thing." }));
    this.file = make("input", { type: "file", accept: "image/*,.heic,.zip", multiple: true });
    this.file.setAttribute("aria-label", "");
    const draws = document.body.classList.contains("drawings");
    const pen = draws ? make("button", { type: "button", className: "pen" }, icon("pen"), "Draw") : null;
    const camera = make("button", { type: "button", className: "camera" }, icon("camera"), "Camera");
    const tools = make("div", { className: "tools" }, ...(pen ? [pen] : []), make("label", { className: "button" }, icon("picture"), "Pictures", this.file), camera);
    this.buttons = [camera, ...(pen ? [pen] : [])];
    this.notes = make("div", { className: "findings small" });
    const top = make("div", { className: "top" }, this.name, this.count, this.removal);
    this.element = make("section", { className: "card class", dataset: { key: group.key } }, top, this.hint, this.pictures, tools, this.notes);
    camera.addEventListener("click", () => actions.capture("camera", group));
    pen?.addEventListener("click", () => actions.capture("pen", group));
    this.listen();
  }

  listen() {
    const { group, project, actions } = this;
    takeDrops(this.element, (content) => actions.add(content, group));
    this.file.addEventListener("change", () => actions.add(chosen(this.file), group));
    this.removal.addEventListener("click", () => this.remove());
    this.name.addEventListener("change", () => {
      try {
        project.rename(group, this.name.value);
      } catch (error) {
        notice(error.message, { bad: true });
      }
      this.name.value = group.name;
    });
    this.name.addEventListener("keydown", (event) => {
      if (event.isComposing || !["Enter", "Escape"].includes(event.key)) return;
      if (event.key === "Escape") this.name.value = group.name;
      event.preventDefault();
      this.name.blur();
      this.file.focus();
    });
    this.pictures.addEventListener("keydown", (event) => this.key(event));
  }

  remove() {
    const { project, group } = this, place = project.classes.indexOf(group);
    const { undo, settle } = project.remove(group);
    notice(`Removed ${quoted(group.name)} with ${counted(group.pictures.length, "picture")}.`, { undo, settle });
    const names = at("cards").querySelectorAll(".name");
    (names[Math.min(place, names.length - 1)] ?? at("add")).focus();
  }

  removePicture(picture) {
    const place = this.group.pictures.indexOf(picture);
    const { undo, settle } = this.project.removePicture(this.group, picture);
    notice(`Removed a picture of ${quoted(this.group.name)}.`, { undo, settle });
    const next = this.group.pictures[Math.min(place, this.group.pictures.length - 1)];
    if (next) this.tiles.get(next).querySelector(".thumb").focus();
    else this.file.focus();
  }

  key(event) {
    const thumbs = [...this.pictures.querySelectorAll(".thumb")], place = thumbs.indexOf(event.target.closest(".thumb"));
    if (place < 0) return;
    if (event.key === "Delete" || event.key === "Backspace") {
      event.preventDefault();
      this.removePicture(this.group.pictures[place]);
      return;
    }
    const columns = getComputedStyle(this.pictures).gridTemplateColumns.split(" ").length;
    const step = { ...NEXT, ArrowDown: columns, ArrowUp: -columns, Home: -place, End: thumbs.length - 1 - place }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    thumbs[Math.max(0, Math.min(thumbs.length - 1, place + step))].focus();
  }

  update(findings) {
    const { group } = this, { name, pictures } = group;
    this.element.setAttribute("role", "group");
    this.element.setAttribute("aria-label", name);
    if (document.activeElement !== this.name) this.name.value = name;
    this.name.title = name;
    this.removal.setAttribute("aria-label", `Remove the class ${name}`);
    this.removal.title = "Remove this class";
    this.file.setAttribute("aria-label", `Pictures of ${name}`);
    for (const button of this.buttons) button.setAttribute("aria-label", `${button.textContent}: ${button.classList.contains("pen") ? "draw pictures" : "take pictures"} of ${name}`);
    say(this.count, pictures.length ? String(pictures.length) : "");
    this.count.title = counted(pictures.length, "picture");
    this.hint.hidden = pictures.length > 0;
    this.pictures.hidden = !pictures.length;
    const mine = findings.filter((finding) => owns(group, finding));
    this.updateTiles(findings);
    const items = mine.map((finding) => this.finding(finding));
    const more = items.length > SHOWN && make("details", {}, make("summary", { textContent: `${items.length - SHOWN} more` }), ...items.slice(SHOWN));
    this.notes.replaceChildren(...items.slice(0, SHOWN), ...(more ? [more] : []));
  }

  updateTiles(findings) {
    const { pictures } = this.group;
    for (const [picture, tile] of this.tiles) {
      if (pictures.includes(picture)) continue;
      tile.remove();
      this.tiles.delete(picture);
    }
    const focused = this.pictures.querySelector(".thumb:focus");
    pictures.forEach((picture, i) => {
      if (!this.tiles.has(picture)) this.tiles.set(picture, this.tile(picture));
      const tile = this.tiles.get(picture), thumb = tile.firstChild, there = this.pictures.children[i];
      if (there !== tile) this.pictures.insertBefore(tile, there ?? null);
      if (picture.thumbnail && !thumb.firstChild) thumb.append(shown(picture.thumbnail));
      thumb.classList.toggle("waiting", picture.id === null);
      const about = findings.filter((finding) => picture.id !== null && finding.pictures.includes(picture.id));
      const worst = Object.keys(SEVERITY).find((severity) => about.some((finding) => finding.severity === severity)) ?? "";
      tile.dataset.severity = worst === "note" ? "" : worst;
      thumb.title = about.map(({ message }) => message).join("\n");
      thumb.tabIndex = focused ? (thumb === focused ? 0 : -1) : i ? -1 : 0;
      const state = picture.id === null ? ", being read" : worst ? `, ${SEVERITY[worst].toLowerCase()}: ${about[0].message}` : "";
      thumb.setAttribute("aria-label", `Picture ${i + 1} of ${pictures.length}${state}`);
    });
  }

  tile(picture) {
    const thumb = make("button", { type: "button", className: "thumb" });
    const removal = make("button", { type: "button", className: "remove", tabIndex: -1, title: "Remove", "aria-label": "Remove this picture" }, icon("cross"));
    thumb.addEventListener("click", () => this.actions.view(this.group, picture, thumb.title ? thumb.title.split("\n") : []));
    thumb.addEventListener("focus", () => {
      for (const other of this.pictures.querySelectorAll(".thumb")) other.tabIndex = other === thumb ? 0 : -1;
    });
    removal.addEventListener("click", () => this.removePicture(picture));
    return make("li", {}, thumb, removal);
  }

  finding(finding) {
    const words = make("button", { type: "button", className: "finding", dataset: { severity: finding.severity } },
      icon(finding.severity === "note" ? "note" : "warning"), make("span", { textContent: finding.message }));
    const tiles = () => this.group.pictures.filter(({ id }) => finding.pictures.includes(id)).map((picture) => this.tiles.get(picture));
    const mark = (on) => tiles().forEach((tile) => tile?.classList.toggle("meant", on));
    for (const [kind, on] of [["mouseenter", true], ["focus", true], ["mouseleave", false], ["blur", false]]) words.addEventListener(kind, () => mark(on));
    words.addEventListener("click", () => tiles()[0]?.firstChild.focus());
    return words;
  }
}

function shown(thumbnail) {
  const image = make("img", { src: URL.createObjectURL(thumbnail), alt: "", draggable: false });
  image.addEventListener("load", () => URL.revokeObjectURL(image.src));
  return image;
}
