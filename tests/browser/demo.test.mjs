// `fewshot demo` in a real browser, with real strokes.
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";
import { cleanUp, draw, drawByTouch, fewshot, here, hosting, openBrowser, openPage, run, scratch, serving, vendor } from "./browser.mjs";

const cross = [[[50, 18], [50, 82]], [[20, 50], [80, 50]]];
const zigzag = [[[22, 28], [78, 26], [24, 74], [80, 74]]];
const round = (dx, dy, r) => [Array.from({ length: 17 }, (_, i) => [50 + dx + r * Math.sin(i * 0.393), 50 + dy - r * Math.cos(i * 0.393)])];
const shapes = { A: cross, B: round(0, 0, 28), C: zigzag };
const again = {
  A: [[[54, 20], [52, 84]], [[22, 55], [84, 50]]],
  B: round(3, -4, 24),
  C: [[[20, 24], [74, 28], [28, 76], [76, 80]]],
};
const learner = path.join(scratch, "learner.onnx");
let browser, address;

before(async () => {
  fewshot("export-learner", "omniglot", "--output", learner);
  [browser, address] = await Promise.all([openBrowser(), serving("demo", "--init", learner, "--vendor", vendor, "--port", "0")]);
}, { timeout: 240_000 });
after(async () => {
  await browser?.close();
  cleanUp();
});

const answered = (page) => page.waitForFunction(() => ready && !busy && document.body.dataset.answers);
const best = async (page) => (await answered(page), await page.locator(".pad.best").getAttribute("data-name"));
const pad = (page, name) => page.locator(`.pad[data-name="${name}"] canvas`);

async function opened(settings, where = address) {
  const page = await openPage(browser, settings);
  await page.goto(where);
  await answered(page);
  return page;
}

test("it tells three drawn shapes apart, while they are drawn, without its server", { timeout: 240_000 }, async () => {
  const began = performance.now();
  const page = await opened();
  console.log(`the first answer comes ${(performance.now() - began).toFixed(0)} ms after opening the page`);
  assert.equal(await best(page), "B", "the examples");
  await page.context().setOffline(true);
  await page.locator("#empty").click();
  assert.equal(await page.locator(".pad.best").count(), 0);
  for (const [name, strokes] of Object.entries(shapes)) await draw(page, pad(page, name), strokes);
  for (const [name, strokes] of Object.entries(again)) {
    await page.locator("#query .clear").click();
    await draw(page, page.locator("#query canvas"), strokes);
    assert.equal(await best(page), name);
  }
  const answers = () => page.evaluate("Number(document.body.dataset.answers)");
  const before = await answers();
  const box = await page.locator("#query canvas").boundingBox();
  await page.mouse.move(box.x + 30, box.y + 30);
  await page.mouse.down();
  await page.mouse.move(box.x + 60, box.y + 60);
  await answered(page);
  assert.ok((await answers()) > before, "an answer before the stroke's end");
  await page.mouse.up();
  await page.locator("#steps").fill("0");
  await answered(page);
  assert.deepEqual(await page.locator("#support .number").allTextContents(), ["33.3 %", "33.3 %", "33.3 %"]);
  const times = [];
  for (let i = 0; i < 10; i++) {
    await page.locator("#steps").fill(String(40 + (i % 2)));
    await page.locator("#steps").fill("50");
    await answered(page);
    times.push(await page.evaluate("Number(document.body.dataset.milliseconds)"));
  }
  console.log(`50 steps on 3 drawings and an answer: ${Math.min(...times).toFixed(0)} ms at best, ${times.sort((a, b) => a - b)[5].toFixed(0)} in the median of 10`);
  assert.deepEqual(page.complaints, []);
  await page.context().close();
});

test("the same strokes as PNG files get the same answer from the SDK", { timeout: 240_000 }, async () => {
  const page = await opened();
  const folder = path.join(scratch, "drawings");
  for (const [name, strokes] of Object.entries(shapes)) await draw(page, pad(page, name), strokes);
  await draw(page, page.locator("#query canvas"), again.C);
  const name = await best(page);
  const save = async (canvas, ...file) => {
    mkdirSync(path.join(folder, ...file.slice(0, -1)), { recursive: true });
    const data = await canvas.evaluate((drawn) => drawn.toDataURL("image/png"));
    writeFileSync(path.join(folder, ...file), Buffer.from(data.split(",")[1], "base64"));
  };
  for (const known of Object.keys(shapes)) await save(pad(page, known), "support", known, "1.png");
  await save(page.locator("#query canvas"), "query.png");
  const model = path.join(folder, "model.onnx");
  const steps = await page.locator("#steps").inputValue();
  fewshot("adapt", "--engine", "onnx", "--init", learner, "--support", path.join(folder, "support"), "--output", model, "--steps", steps);
  const [prediction] = JSON.parse(fewshot("predict", model, path.join(folder, "query.png"), "--json"));
  assert.equal(prediction.nearest, name);
  const shown = (await page.locator("#support .number").allTextContents()).map(parseFloat);
  Object.values(prediction.probabilities).forEach((value, i) => assert.ok(Math.abs(100 * value - shown[i]) < 0.5, `${100 * value} and ${shown[i]}`));
  await page.context().close();
});

test("the page's preprocessing gives the same bytes as the SDK's", { timeout: 240_000 }, async () => {
  const page = await opened();
  const cases = JSON.parse(run("-m", "tests.browser.pictures"));
  assert.ok(cases.length >= 20);
  for (const { picture, settings, expected } of cases) {
    const found = await page.evaluate(async ([data, how]) => {
      const picture = await readPicture(new Blob([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))]));
      return Array.from(preprocess(picture, how));
    }, [picture, settings]);
    const wrong = expected.filter((value, i) => value !== found[i]).length;
    assert.ok(found.length === expected.length && wrong === 0, `${wrong} pixels differ: ${JSON.stringify(settings)}`);
  }
  await page.context().close();
});

test("every kind of picture that browsers read is seen as by the SDK, and so is its stand-in", { timeout: 240_000 }, async () => {
  const page = await opened();
  const kinds = JSON.parse(run("-m", "tests.browser.pictures", "kinds"));
  assert.ok(kinds.length >= 30);
  const wrong = [];
  for (const { name, levels, picture, settings, expected, whole, size } of kinds) {
    const found = await page.evaluate(async ([data, how, wanted, all]) => {
      const image = await readPicture(new Blob([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))]));
      const small = standIn(image, how);
      const furthest = (these, those) => these.reduce((most, value, i) => Math.max(most, Math.abs(value - those[i])), 0);
      return {
        size: [image.width, image.height],
        small: small.width * small.height,
        away: Math.max(furthest(wanted, preprocess(image, how)), furthest(wanted, preprocess(small, how)), furthest(all ?? [], image.data)),
      };
    }, [picture, settings, expected, whole]);
    if (String(found.size) !== String(size) || found.small > 1000 || !(found.away <= levels)) wrong.push([name, levels, found]);
  }
  assert.deepEqual(wrong, []);
  await page.context().close();
});

test("a finger draws on a phone, and nothing sticks out of 390 pixels", { timeout: 240_000 }, async () => {
  const page = await opened({ viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true });
  assert.equal(await page.evaluate("document.documentElement.scrollWidth"), 390);
  for (const [name, strokes] of Object.entries(shapes)) await drawByTouch(page, pad(page, name), strokes);
  await drawByTouch(page, page.locator("#query canvas"), again.A);
  assert.equal(await best(page), "A");
  assert.equal(await page.evaluate("scrollX"), 0);
  assert.deepEqual(page.complaints, []);
  await page.context().close();
});

test("pictures can be chosen and dropped; another file is refused", { timeout: 240_000 }, async () => {
  const page = await opened();
  for (const [name, file] of [["A", "fish1"], ["B", "star1"], ["C", "house1"]]) {
    await page.locator(`.pad[data-name="${name}"] input`).setInputFiles(path.join(here, "..", "..", "examples", "new_drawings", `${file}.png`));
  }
  const data = readFileSync(path.join(here, "..", "..", "examples", "new_drawings", "star2.png")).toString("base64");
  const dropped = await page.evaluateHandle((base64) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))], "star2.png", { type: "image/png" }));
    return transfer;
  }, data);
  await page.locator("#query .pad").dispatchEvent("drop", { dataTransfer: dropped });
  await page.waitForFunction(() => [query, ...classes].every((pad) => pad.source !== pad.canvas));
  assert.equal(await best(page), "B");
  await page.locator("#query input").setInputFiles({ name: "no.png", mimeType: "image/png", buffer: Buffer.from("no") });
  await page.waitForFunction(() => document.getElementById("verdict").textContent.includes("no.png is not a picture"));
  await page.context().close();
});

test("from `photo` it learns from one photograph of each thing, and takes no strokes", { timeout: 240_000 }, async () => {
  const site = path.join(scratch, "photo");
  fewshot("demo", "--init", "photo", "--output", site, "--vendor", vendor);
  const page = await openPage(browser, { viewport: { width: 390, height: 844 } });
  await page.goto(await hosting(site));
  await page.waitForFunction(() => ready);
  assert.equal(await page.evaluate("document.documentElement.scrollWidth"), 390);
  await draw(page, pad(page, "A"), cross);
  assert.equal(await page.evaluate("classes[0].filled"), false);
  const add = async (box, picture) => {
    const before = await page.evaluate("id");
    await box.setInputFiles(path.join(here, "..", "..", "examples", "new_drawings", `${picture}.png`));
    return before;
  };
  for (const [name, picture] of [["A", "fish1"], ["B", "star1"], ["C", "house1"]]) await add(page.locator(`.pad[data-name="${name}"] input`), picture);
  await page.waitForFunction(() => classes.every((each) => each.filled));
  for (const [picture, name] of [["star2", "B"], ["fish2", "A"], ["house2", "C"]]) {
    const before = await add(page.locator("#query input"), picture);
    await page.waitForFunction((earlier) => Number(document.body.dataset.answers) > earlier && !busy, before);
    assert.equal(await best(page), name);
  }
  assert.match(await page.locator("#time").textContent(), /^3 photographs and an answer in \d+ ms$/);
  assert.deepEqual(page.complaints, []);
  await page.context().close();
});

test("from a content delivery network the runtime is taken only with its hash", { timeout: 240_000 }, async () => {
  const site = path.join(scratch, "site");
  fewshot("demo", "--init", learner, "--output", site);
  const host = await hosting(site);
  for (const spoilt of [false, true]) {
    const page = await openPage(browser);
    await page.route("https://cdn.jsdelivr.net/**", (route) => {
      const [, name] = /onnxruntime-web@[\d.]+\/dist\/([\w.-]+)$/.exec(route.request().url());
      const body = readFileSync(path.join(vendor, name));
      if (spoilt && name.endsWith(".mjs")) body[body.length - 2] ^= 1;
      return route.fulfill({ body, headers: { "Access-Control-Allow-Origin": "*" } });
    });
    await page.goto(host);
    if (spoilt) {
      await page.waitForFunction(() => document.getElementById("verdict").classList.contains("bad"));
      assert.match(await page.locator("#verdict").textContent(), /is not the file this page was made with/);
      assert.equal(await page.evaluate("ready"), false);
    } else {
      assert.equal(await best(page), "B");
      assert.deepEqual(page.complaints, []);
    }
    await page.context().close();
  }
});
