// The core of `fewshot studio` in a real browser: features once, findings, the project's zip, and the model it writes.
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";
import { cleanUp, fewshot, here, hosting, openBrowser, openPage, run, scratch, vendor } from "./browser.mjs";

const project = path.join(scratch, "pictures"), site = path.join(scratch, "studio"), drawn = path.join(scratch, "drawn");
const drawings = path.join(here, "..", "..", "examples", "drawings");
const classes = ["apfel", "Birne", "cup", "Ähre", "unknown"]; // sorted by code points: Birne, apfel, cup, unknown, Ähre
const inOrder = "Object.entries(ids).map(([name, pictures]) => ({ name, pictures }))";
let browser;

before(async () => {
  run(path.join(here, "studio_pictures.py"), project, ...classes);
  run("-c", `import sys, numpy as np
from PIL import Image
folder, pictures = sys.argv[1:]
one = Image.open(pictures + "/apfel/2.jpg")
one.resize((400, 300)).save(folder + "/smaller.jpg", quality=70)
Image.open(pictures + "/Birne/3.jpg").convert("L").rotate(90).save(folder + "/grey.jpg")
for i in range(5):
    Image.open(f"{pictures}/cup/{i}.jpg").resize((320, 240)).save(f"{folder}/twin{i}.jpg")
Image.new("RGB", (50, 50), "navy").save(folder + "/one colour.png")
rng = np.random.default_rng(1)
for name, grain in (("cat", 7), ("street", 60)): # of no class, the second larger than the graph is given
    cells = rng.integers(0, 256, (-(-1500 // grain), -(-2000 // grain), 3), np.uint8)
    Image.fromarray(cells.repeat(grain, 0).repeat(grain, 1)).save(f"{folder}/{name}.jpg", quality=85)`, scratch, project);
  fewshot("studio", "--output", site, "--vendor", vendor);
  fewshot("studio", "--init", "omniglot", "--output", drawn, "--vendor", vendor);
  browser = await openBrowser();
}, { timeout: 240_000 });
after(async () => {
  await browser?.close();
  cleanUp();
});

/** A page with `studio`, ready, and the pictures of some folders, by class, added to it: ids by class. */
async function opened(folder, names = [], from = project, most = 5) {
  const page = await openPage(browser);
  await page.goto(await hosting(folder));
  await page.evaluate(async () => { self.studio = await (await import("./studio.js")).opening; self.ids = {}; });
  for (const name of names) {
    for (const file of readdirSync(path.join(from, name)).sort().slice(0, most)) await add(page, name, path.join(from, name, file));
  }
  return page;
}

const bytesOf = (file) => readFileSync(file).toString("base64");

async function add(page, name, file, as = path.basename(file)) {
  return page.evaluate(async ([base64, label, called]) => {
    const file = new File([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))], called);
    const { id, findings, thumbnail } = await studio.addPicture(file);
    (ids[label] ??= []).push(id);
    return { id, findings, size: thumbnail.size };
  }, [bytesOf(file), name, as]);
}

const fit = (page, steps) => page.evaluate(`studio.fit(${inOrder}, { steps: ${steps} })`);
const refusal = (page, script) => page.evaluate(`${script}.then(() => "nothing was refused", (error) => error.message)`);

/** Runs a script in the page that gives a Blob, and writes its bytes to a file. */
async function saved(page, script, name) {
  const base64 = await page.evaluate(`(async () => {
    const bytes = new Uint8Array(await (await ${script}).arrayBuffer());
    let text = "";
    for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
    return btoa(text);
  })()`);
  const file = path.join(scratch, name);
  writeFileSync(file, Buffer.from(base64, "base64"));
  return file;
}

/** The answer of the studio about a file, as `fewshot predict --json` gives it. */
async function answered(page, file, heatMap = false) {
  const { label, nearest, probabilities, heatMap: map } = await page.evaluate(([base64, asked]) =>
    studio.classify(new Blob([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))]), { heatMap: asked }), [bytesOf(file), heatMap]);
  const names = await page.evaluate("Object.keys(ids)");
  return { label, nearest, probabilities: Object.fromEntries(names.map((name, i) => [name, probabilities[i]])), map };
}

const METADATA = `import json, sys, onnx
model = onnx.load(sys.argv[1])
onnx.checker.check_model(model, full_check=True)
print(next(entry.value for entry in model.metadata_props if entry.key == "fewshot_sdk"))`;
const predicted = (model, ...files) => JSON.parse(fewshot("predict", model, ...files, "--json"));
const queries = () => classes.map((name) => path.join(project, name, "q.jpg"));

function alike(found, wanted) {
  found.forEach((each, i) => {
    const other = wanted[i];
    assert.equal(each.label, other.label);
    assert.equal(each.nearest, other.nearest);
    for (const [name, value] of Object.entries(other.probabilities)) {
      assert.ok(Math.abs(value - each.probabilities[name]) < 1e-4, `${name}: ${value} and ${each.probabilities[name]}`);
    }
  });
}

test("the model it writes is the one that the command makes of the project it saves", { timeout: 240_000 }, async () => {
  const page = await opened(site, classes);
  const began = performance.now();
  const { recognized, total, milliseconds, leastScore } = await fit(page);
  console.log(`from the last of 25 pictures to the classifier: ${milliseconds.toFixed(0)} ms (${(performance.now() - began).toFixed(0)} with the test's own)`);
  assert.deepEqual([recognized, total], [25, 25]);
  // each picture once; then the head, from five folds, and without each of five classes
  assert.deepEqual(await page.evaluate("studio.runs()"), { network: 25, steps: 11 });
  const zip = await saved(page, `studio.projectZip(${inOrder})`, "project.zip"), model = await saved(page, "studio.modelOnnx()", "studio.onnx");
  const command = path.join(scratch, "command.onnx");
  fewshot("adapt", "--engine", "onnx", "--init", "photo", "--support", zip, "--output", command);
  const asked = [...queries(), ...["cat", "street"].map((name) => path.join(scratch, `${name}.jpg`))], wanted = predicted(command, ...asked);
  alike(predicted(model, ...asked), wanted);
  alike(await Promise.all(asked.map((file) => answered(page, file))), wanted);
  assert.ok(wanted.some(({ label }) => label === null) && wanted.some(({ label }) => label !== null), "known and unknown ones");
  const [mine, theirs] = [model, command].map((file) => JSON.parse(run("-c", METADATA, file)));
  assert.ok(Math.abs(mine.least_score - theirs.least_score) < 1e-5 && mine.least_score === leastScore, `${mine.least_score} and ${theirs.least_score}`);
  for (const key of ["format", "labels", "preprocessing", "adaptation", "initialization", "score", "opset", "threshold"]) assert.deepEqual(mine[key], theirs[key], key);
  assert.equal(mine.parity.images, 25);
  assert.ok(mine.versions["onnxruntime-web"] && !("onnxruntime" in mine.versions));
  const edited = path.join(scratch, "edited.onnx");
  fewshot("edit", model, "--rename", "cup=mug", "--drop", "apfel", "--output", edited);
  assert.deepEqual(Object.keys(predicted(edited, asked[0])[0].probabilities), ["Birne", "mug", "unknown", "\u00c4hre"]);
  assert.deepEqual(page.complaints, []);
  await page.context().close();
});

const photographs = process.env.FEWSHOT_DATA && path.join(process.env.FEWSHOT_DATA, "photos", "dev", "caltech.zip");
const missing = photographs && existsSync(photographs) ? false : "needs FEWSHOT_DATA with photos/dev/caltech.zip";

test("real photographs, known and unknown, get the command's answers", { timeout: 480_000, skip: missing }, async () => {
  const folder = path.join(scratch, "caltech"), known = ["anchor", "chair", "crab", "ferry", "pizza"];
  run("-c", "import sys, zipfile; zipfile.ZipFile(sys.argv[1]).extractall(sys.argv[2])", photographs, folder);
  const page = await opened(site, known, folder);
  await fit(page);
  const zip = await saved(page, `studio.projectZip(${inOrder})`, "real.zip"), model = await saved(page, "studio.modelOnnx()", "real.onnx");
  const command = path.join(scratch, "real-command.onnx");
  fewshot("adapt", "--engine", "onnx", "--init", "photo", "--support", zip, "--output", command);
  const asked = readdirSync(folder).flatMap((name) => readdirSync(path.join(folder, name)).sort().slice(5, 11).map((file) => path.join(folder, name, file)));
  const wanted = predicted(command, ...asked), truth = asked.map((file) => path.basename(path.dirname(file)));
  alike(predicted(model, ...asked), wanted);
  for (const [i, file] of asked.entries()) alike([await answered(page, file)], [wanted[i]]);
  const right = wanted.filter(({ label }, i) => label === (known.includes(truth[i]) ? truth[i] : null)).length;
  console.log(`${right} of ${asked.length} photographs, half of them of other classes, are right`);
  assert.ok(right > 0.8 * asked.length, `${right}`);
  await page.context().close();
});

test("steps on the head are those of the command, in its mini-batches", { timeout: 240_000 }, async () => {
  const page = await opened(site, classes.slice(0, 3), project, 6); // the sixth is q.jpg
  for (let i = 0; i < 9; i++) await add(page, classes[0], path.join(project, classes[3], `${i % 5}.jpg`), `more ${i}.jpg`);
  await fit(page, 3); // of 27 pictures, 25 at a time
  const zip = await saved(page, `studio.projectZip(${inOrder}, { steps: 3 })`, "steps.zip"), model = await saved(page, "studio.modelOnnx()", "steps.onnx");
  const command = path.join(scratch, "steps-command.onnx");
  fewshot("adapt", "--engine", "onnx", "--init", "photo", "--steps", "3", "--support", zip, "--output", command);
  alike(predicted(model, ...queries()), predicted(command, ...queries()));
  await page.context().close();
});

test("a network that adapts as a whole gives the command's model, too", { timeout: 240_000 }, async () => {
  const names = readdirSync(drawings), page = await opened(drawn, names, drawings);
  assert.equal((await fit(page, 7)).leastScore, null);
  const zip = await saved(page, `studio.projectZip(${inOrder})`, "drawn.zip"), model = await saved(page, "studio.modelOnnx()", "drawn.onnx");
  const command = path.join(scratch, "drawn-command.onnx"), asked = names.map((name) => path.join(drawings, "..", "new_drawings", `${name}1.png`)).filter(existsSync);
  fewshot("adapt", "--engine", "onnx", "--init", "omniglot", "--steps", "7", "--support", zip, "--output", command);
  alike(predicted(model, ...asked), predicted(command, ...asked));
  const { map } = await answered(page, asked[0], true);
  assert.deepEqual([map.height, map.width, map.box], [2, 2, { left: 0, top: 0, width: 1, height: 1 }]);
  assert.deepEqual(page.complaints, []);
  await page.context().close();
});

test("a heat map says which parts of the picture speak for the answer, and adds up to it", { timeout: 240_000 }, async () => {
  const page = await opened(site, classes, project, 1);
  await fit(page);
  const { probabilities, nearest, map } = await answered(page, path.join(scratch, "street.jpg"), true);
  const model = await saved(page, "studio.modelOnnx()", "heat.onnx"), labels = JSON.parse(run("-c", METADATA, model)).labels;
  const bias = JSON.parse(run("-c", `import json, sys, onnx
print(json.dumps([onnx.numpy_helper.to_array(t).tolist() for t in onnx.load(sys.argv[1]).graph.initializer if t.name == "head.bias"][0]))`, model));
  const mean = (list) => list.reduce((a, b) => a + b, 0) / list.length, logs = labels.map((label) => Math.log(probabilities[label])), at = labels.indexOf(nearest);
  const sum = Object.values(map.data).reduce((a, b) => a + b, 0);
  assert.deepEqual([map.height, map.width, map.box], [14, 14, { left: 0, top: 0, width: 1, height: 1 }]);
  assert.ok(Math.abs(sum - (logs[at] - mean(logs) - bias[at] + mean(bias))) < 2e-3, `${sum}`);
  await page.context().close();
});

test("the findings are the doctor's, in its words", { timeout: 240_000 }, async () => {
  const page = await opened(site, classes.slice(0, 2)), [first, second] = classes;
  const from = (name, file) => path.join(project, name, file);
  await add(page, first, from(first, "0.jpg"), "copy.jpg");
  await add(page, second, from(first, "1.jpg"), "elsewhere.jpg");
  for (const [name, file] of [[first, "smaller.jpg"], [second, "grey.jpg"], [second, "one colour.png"]]) await add(page, name, path.join(scratch, file));
  await add(page, "lonely", from("unknown", "0.jpg"));
  for (let i = 0; i < 5; i++) {
    await add(page, "cup", from("cup", `${i}.jpg`));
    await add(page, "twin", path.join(scratch, `twin${i}.jpg`));
  }
  const found = await page.evaluate(`studio.findings(${inOrder})`);
  const zip = await saved(page, `studio.projectZip(${inOrder})`, "flawed.zip");
  const wanted = JSON.parse(run("-c", `import json, sys
from fewshot_sdk.images.doctor import LOOK, examine
from fewshot_sdk.images.support import read_pictures
print(json.dumps([[f.severity, f.code, f.message.replace(sys.argv[1] + "/", "")] for f in examine(read_pictures(sys.argv[1], LOOK))]))`, zip));
  assert.deepEqual(found.map(({ severity, code, message }) => [severity, code, message]), wanted);
  assert.deepEqual(new Set(wanted.map(([, code]) => code)), new Set(["contradiction", "blank", "duplicate", "near-duplicate", "few-shots", "imbalance", "odd-grey", "alike-classes"]));
  const all = await page.evaluate("Object.values(ids).flat()");
  for (const { pictures } of found) assert.ok(pictures.every((id) => all.includes(id)));
  await page.context().close();
});

test("a project comes back as it was saved, under the names it had", { timeout: 240_000 }, async () => {
  const page = await opened(site), odd = ["b/c?", "B/C?", "con", ".hidden", "Zebra", "e\u0301t\u00e9"];
  for (const [i, name] of odd.entries()) for (const n of [0, 1]) await add(page, name, path.join(project, classes[i % 5], `${(i > 4 ? 2 : 0) + n}.jpg`), i ? `${n}.jpg` : "..same.jpg");
  const before = await fit(page), zip = await saved(page, `studio.projectZip(${inOrder})`, "odd.zip");
  fewshot("adapt", "--engine", "onnx", "--init", "photo", "--support", zip, "--output", path.join(scratch, "odd.onnx"));
  const folders = JSON.parse(run("-c", METADATA, path.join(scratch, "odd.onnx"))).labels;
  assert.deepEqual(folders, ["B_C_ (2)", "Zebra", "_hidden", "b_c_", "con_", "\u00e9t\u00e9"]);
  assert.deepEqual(JSON.parse(run("-c", METADATA, await saved(page, "studio.modelOnnx()", "odd-studio.onnx"))).labels, folders);
  const again = await opened(site);
  const back = await again.evaluate(async (base64) => {
    const found = await studio.openProject(new File([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))], "odd.zip"));
    for (const { name, pictures } of found) ids[name] = pictures.map(({ id }) => id);
    return found.map(({ name, pictures, findings }) => [name, pictures.length, findings.length]);
  }, bytesOf(zip));
  assert.deepEqual(back, odd.map((name) => [name, 2, 0]));
  const after = await fit(again);
  assert.deepEqual([after.recognized, after.leastScore, after.findings.map((each) => each.message)], [before.recognized, before.leastScore, before.findings.map((each) => each.message)]);
  await Promise.all([page, again].map((each) => each.context().close()));
});

test("zips that others made are read as the library reads them, and hostile ones refused in its words", { timeout: 240_000 }, async () => {
  const folder = path.join(scratch, "zips"), page = await opened(site);
  mkdirSync(folder);
  const told = JSON.parse(run(path.join(here, "studio_zips.py"), folder));
  const asked = (name) => page.evaluate(async ([base64, called]) => {
    try {
      const found = await studio.openProject(new File([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))], called));
      return found.map(({ name, pictures, findings }) => (findings.length ? findings.map(({ message }) => message) : [name, pictures.length]));
    } catch (error) {
      return error.message;
    }
  }, [bytesOf(path.join(folder, name)), name]);
  for (const [name, wanted] of Object.entries(told)) {
    const found = await asked(name);
    if (name === "checksum.zip") assert.match(found[0][0], /^checksum.zip\/a\/1.png cannot be read from the zip \(its checksum differs\)/);
    else if (["no.zip", "cut.zip"].includes(name)) assert.equal(found, `${name} is not a zip, or is damaged; save it again`);
    else if (typeof wanted === "string") assert.equal(found, wanted.replaceAll("\\\\", "\\").replace(", at least two classes", ""));
    else assert.deepEqual(found, wanted, name);
  }
  assert.deepEqual(page.complaints, []);
  await page.context().close();
});

test("what cannot be done is refused in a plain sentence, and pictures can be taken and removed", { timeout: 240_000 }, async () => {
  const page = await opened(site, classes.slice(0, 1), project, 2);
  assert.equal(await refusal(page, "studio.classify(document.createElement('canvas'))"), "there is no classifier yet; make one from at least two classes");
  assert.equal(await refusal(page, "studio.modelOnnx()"), "there is no classifier yet; make one from at least two classes");
  assert.equal(await refusal(page, "studio.projectZip([])"), "there is no picture to save yet");
  assert.equal(await refusal(page, `studio.fit(${inOrder})`), "a classifier needs at least two classes, each with a picture");
  assert.equal(await refusal(page, `studio.fit([...${inOrder}, { name: "apfel", pictures: ids.apfel }])`), "two classes are called apfel; give each its own name");
  assert.equal(await refusal(page, `studio.fit([...${inOrder}, { name: "none", pictures: [] }])`), "the class none has no picture; add one, or remove the class");
  assert.match(await refusal(page, "studio.addPicture(new File(['no'], 'no.png'))"), /^no.png is not a picture this program reads/);
  const found = await page.evaluate(async () => {
    const canvas = Object.assign(document.createElement("canvas"), { width: 300, height: 200 }), context = canvas.getContext("2d");
    for (let i = 0; i < 60; i++) {
      context.fillStyle = `hsl(${i * 40} 80% ${30 + i % 40}%)`;
      context.fillRect((i * 53) % 300, (i * 31) % 200, 60, 40);
    }
    const { id, thumbnail, findings } = await studio.addPicture(canvas);
    const classes = [{ name: "apfel", pictures: ids.apfel }, { name: "camera", pictures: [id] }];
    await studio.fit(classes);
    const { label, probabilities } = await studio.classify(canvas);
    await studio.removePicture(id);
    return { size: thumbnail.size, findings, label, probabilities, after: await studio.fit(classes).catch((error) => error.message), id };
  });
  assert.ok(found.size > 100 && found.findings.length === 0);
  assert.equal(found.label, "camera");
  assert.ok(found.probabilities[1] > 0.9);
  assert.equal(found.after, `there is no picture ${found.id}`);
  await page.context().close();
});
