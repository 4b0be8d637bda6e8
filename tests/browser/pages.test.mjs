// The pages of `fewshot serve` and of `fewshot export --bundle` in a real browser.
import assert from "node:assert/strict";
import { copyFileSync, readFileSync } from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";
import { cleanUp, fewshot, freePort, here, hosting, openBrowser, openPage, run, scratch, serving, vendor } from "./browser.mjs";

const examples = path.join(here, "..", "..", "examples");
const pictures = ["fish1", "tree2", "star2"].map((name) => path.join(examples, "new_drawings", `${name}.png`));
const large = path.join(scratch, "large.png");
const bundle = path.join(scratch, "bundle");
const expected = {};
let browser;

before(async () => {
  const folder = path.join(scratch, "model");
  fewshot("adapt", "--init", "omniglot", "--method", "reptile", "--support", path.join(examples, "drawings"), "--output", folder);
  fewshot("export", folder, "--bundle", bundle, "--vendor", vendor);
  run("-c", `from PIL import Image; Image.open(r"${pictures[0]}").resize((2001, 1500)).save(r"${large}")`);
  const found = JSON.parse(fewshot("predict", path.join(bundle, "model.onnx"), ...pictures, large, "--json"));
  for (const each of found) expected[each.image] = each;
  browser = await openBrowser("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream");
}, { timeout: 240_000 });
after(async () => {
  await browser?.close();
  cleanUp();
});

const verdict = (page, wanted) =>
  page.waitForFunction((text) => document.getElementById("verdict").textContent === text, wanted);
const shownFor = ({ label, nearest }) => label ?? `Unknown; nearest is ${nearest}`;

async function opened(address, settings) {
  const page = await openPage(browser, settings);
  await page.goto(address);
  await verdict(page, "Ready.");
  return page;
}

test("the bundle's page and its predict.py answer like `fewshot predict`", { timeout: 240_000 }, async () => {
  const page = await opened(await hosting(bundle));
  await page.context().setOffline(true);
  for (const picture of [...pictures, large]) {
    await page.locator("#file").setInputFiles(picture);
    await verdict(page, shownFor(expected[picture]));
    const shown = parseFloat(await page.locator("#answers .number").first().textContent());
    assert.ok(Math.abs(shown - 100 * expected[picture].probability) < 0.2, `${shown} and ${expected[picture].probability}`);
  }
  const lines = run(path.join(bundle, "predict.py"), ...pictures).trim().split("\n");
  pictures.forEach((picture, i) => assert.ok(lines[i].startsWith(`${picture}  `) && lines[i].includes(expected[picture].nearest), lines[i]));
  await page.locator("#file").setInputFiles({ name: "no.png", mimeType: "image/png", buffer: Buffer.from("no") });
  await verdict(page, "no.png is not a picture this program reads (JPEG, PNG, WebP, HEIC, AVIF, BMP, GIF, TIFF); convert or remove it");
  assert.deepEqual(page.complaints, []);
  await page.context().close();
});

test("the bundle's page takes dropped pictures, and fits a phone", { timeout: 240_000 }, async () => {
  const page = await opened(await hosting(bundle), { viewport: { width: 390, height: 844 } });
  assert.equal(await page.evaluate("document.documentElement.scrollWidth"), 390);
  const dropped = await page.evaluateHandle((base64) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))], "a.png", { type: "image/png" }));
    return transfer;
  }, readFileSync(pictures[1]).toString("base64"));
  await page.locator("#drop").dispatchEvent("drop", { dataTransfer: dropped });
  await verdict(page, shownFor(expected[pictures[1]]));
  await page.context().close();
});

test("the bundle's page watches the camera until it is stopped", { timeout: 240_000 }, async () => {
  const page = await opened(await hosting(bundle));
  await page.locator("#camera").click();
  await page.waitForFunction(() => Number(document.body.dataset.answers) >= 3);
  assert.equal(await page.locator("#video").isVisible(), true);
  await page.locator("#camera").click();
  assert.equal(await page.locator("#video").isVisible(), false);
  assert.equal(await page.evaluate("camera"), null);
  assert.deepEqual(page.complaints, []);
  await page.context().close();
});

test("a bundle's page refuses a model that is not its own", { timeout: 240_000 }, async () => {
  const address = await hosting(bundle, (name, data) => (name === "model.onnx" ? Buffer.concat([data, Buffer.from([0])]) : data));
  const page = await openPage(browser);
  await page.goto(address);
  await page.waitForFunction(() => document.getElementById("verdict").classList.contains("bad"));
  assert.match(await page.locator("#verdict").textContent(), /^model.onnx: .*is not the file this page was made with/);
  await page.context().close();
});

test("the page of `fewshot serve` answers like the model", { timeout: 240_000 }, async () => {
  const model = path.join(scratch, "served.onnx");
  copyFileSync(path.join(bundle, "model.onnx"), model);
  const page = await opened(await serving("serve", model, "--port", await freePort()), { viewport: { width: 390, height: 844 } });
  assert.equal(await page.evaluate("document.documentElement.scrollWidth"), 390);
  assert.equal(await page.locator("#answers li").count(), 5);
  for (const picture of pictures) {
    await page.locator("#file").setInputFiles(picture);
    await verdict(page, shownFor(expected[picture]));
  }
  const before = Number(await page.evaluate("document.body.dataset.answers"));
  await page.locator("#camera").click();
  await page.waitForFunction((n) => Number(document.body.dataset.answers) >= n + 2, before);
  await page.locator("#camera").click();
  assert.equal(await page.locator("#video").isVisible(), false);
  await page.locator("#file").setInputFiles({ name: "no.png", mimeType: "image/png", buffer: Buffer.from("no") });
  await page.waitForFunction(() => document.getElementById("verdict").classList.contains("bad"));
  assert.match(await page.locator("#verdict").textContent(), /is not a picture this program reads/);
  assert.equal(page.complaints.filter((text) => !text.includes("status of 400")).length, 0);
  await page.context().close();
});

test("the page of `fewshot serve` asks for the token", { timeout: 240_000 }, async () => {
  const page = await openPage(browser);
  await page.goto(await serving("serve", path.join(bundle, "model.onnx"), "--port", await freePort(), "--token", "s3cret"));
  await verdict(page, "It needs its token first.");
  await page.locator("#token").fill("wrong");
  await page.locator("#ask button").click();
  await verdict(page, "This is not the server's token.");
  await page.locator("#token").fill("s3cret");
  await page.locator("#ask button").click();
  await verdict(page, "Ready.");
  assert.equal(await page.locator("#ask").isVisible(), false);
  await page.locator("#file").setInputFiles(pictures[1]);
  await verdict(page, shownFor(expected[pictures[1]]));
  await page.context().close();
});
