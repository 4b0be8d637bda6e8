// The core of `fewshot studio` in a real browser: features once, findings, the project's zip, and the model it writes.
import assert from "node:assert/strict";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";
import { cleanUp, fewshot, here, hosting, openBrowser, openPage, run, scratch, vendor } from "./browser.mjs";

const project = path.join(scratch, "pictures"), site = path.join(scratch, "studio"), drawn = path.join(scratch, "drawn");
const classes = ["apfel", "Birne", "cup", "Ähre", "unknown"]; // sorted by code points: Birne, apfel, cup, unknown, Ähre
let browser;

before(async () => {
  run(path.join(here, "studio_pictures.py"), project, ...classes);
  fewshot("studio", "--output", site, "--vendor", vendor);
  fewshot("studio", "--init", "omniglot", "--output", drawn, "--vendor", vendor);
  browser = await openBrowser();
}, { timeout: 240_000 });
after(async () => {
  await browser?.close();
  cleanUp();
});

/** A page with `studio`, ready, and the pictures of some folders, by class, added to it: ids by class. */
async function opened(folder, names = [], most = 5) {
  const page = await openPage(browser);
  await page.goto(await hosting(folder));
  await page.evaluate(async () => { self.studio = await (await import("./studio.js")).opening; self.ids = {}; });
  for (const name of names) {
    for (const file of readdirSync(path.join(project, name)).sort().slice(0, most)) await add(page, name, path.join(project, name, file));
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

const fit = (page, steps) => page.evaluate((n) => studio.fit(Object.entries(ids).map(([name, pictures]) => ({ name, pictures })), { steps: n }), steps);

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

const inOrder = "Object.entries(ids).map(([name, pictures]) => ({ name, pictures }))";
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
  const zip = await saved(page, `studio.projectZip(${inOrder})`, "project.zip"), model = await saved(page, "studio.modelOnnx()", "studio.onnx");
  const command = path.join(scratch, "command.onnx");
  fewshot("adapt", "--engine", "onnx", "--init", "photo", "--support", zip, "--output", command);
  alike(predicted(model, ...queries()), predicted(command, ...queries()));
  const [mine, theirs] = [model, command].map((file) => JSON.parse(run("-c", `import json, sys, onnx
model = onnx.load(sys.argv[1]); onnx.checker.check_model(model, full_check=True)
print(next(p.value for p in model.metadata_props if p.key == "fewshot_sdk"))`, file)));
  assert.ok(Math.abs(mine.least_score - theirs.least_score) < 1e-5 && Math.abs(mine.least_score - leastScore) < 1e-9, `${mine.least_score} and ${theirs.least_score}`);
  for (const key of ["format", "labels", "preprocessing", "adaptation", "initialization", "score", "opset"]) assert.deepEqual(mine[key], theirs[key], key);
  assert.equal(mine.parity.images, 25);
  assert.deepEqual(page.complaints, []);
  await page.context().close();
});
