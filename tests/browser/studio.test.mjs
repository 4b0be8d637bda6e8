// The page of `fewshot studio` in a real browser: pictures by every way in, the camera, corrections, and what is kept.
import assert from "node:assert/strict";
import { cpSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";
import { cleanUp, draw, fewshot, here, hosting, openBrowser, openPage, scratch, vendor } from "./browser.mjs";

const drawings = path.join(here, "..", "..", "examples", "drawings"), fresh = path.join(here, "..", "..", "examples", "new_drawings");
const folder = (name) => path.join(drawings, name), three = (name) => [1, 2, 3].map((n) => path.join(folder(name), `${n}.png`));
const again = (name) => path.join(fresh, `${name}1.png`);
const site = path.join(scratch, "studio"), drawn = path.join(scratch, "drawn");
const axe = readFileSync(path.join(here, "node_modules", "axe-core", "axe.min.js"), "utf8");
const long = { timeout: 240_000 };
let browser, address;

before(async () => {
  fewshot("studio", "--output", site, "--vendor", vendor);
  fewshot("studio", "--init", "omniglot", "--output", drawn, "--vendor", vendor);
  [browser, address] = await Promise.all([openBrowser("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"), hosting(site)]);
}, long);
after(async () => {
  await browser?.close();
  cleanUp();
});

async function opened(settings, where = address) {
  const page = await openPage(browser, settings);
  await page.goto(where);
  await page.waitForFunction(() => document.body.dataset.ready);
  return page;
}

const status = (page, start) => page.waitForFunction((text) => document.getElementById("status").textContent.startsWith(text), start);
const learned = (page, pictures, classes) => status(page, `Learned ${pictures} pictures of ${classes} classes`);
const verdict = (page, text) => page.waitForFunction((wanted) => document.getElementById("verdict").textContent === wanted, text);
const card = (page, i) => page.locator(".class").nth(i);
const names = (page) => page.locator(".class .name").evaluateAll((inputs) => inputs.map((input) => input.value));
const counts = (page) => page.locator(".class").evaluateAll((cards) => cards.map((each) => each.querySelectorAll(".thumb").length));

async function rename(page, i, name) {
  await card(page, i).locator(".name").fill(name);
  await card(page, i).locator(".name").press("Enter");
}

/** Adds a class by its files. */
async function teach(page, i, name, files = three(name)) {
  if (i >= (await page.locator(".class").count())) await page.locator("#add").click();
  await rename(page, i, name);
  await card(page, i).locator("input[type=file]").setInputFiles(files);
}

/** Opens a page that has learned fish, house and star. */
async function taught(settings, where) {
  const page = await opened(settings, where);
  for (const [i, name] of ["fish", "house", "star"].entries()) await teach(page, i, name);
  await learned(page, 9, 3);
  return page;
}

/** Drops files or folders of this machine on a place of the page. */
async function drop(page, target, files) {
  const { x, y, width, height } = await target.boundingBox();
  const client = await page.context().newCDPSession(page), data = { items: [], files, dragOperationsMask: 1 };
  for (const type of ["dragEnter", "dragOver", "drop"]) await client.send("Input.dispatchDragEvent", { type, x: x + width / 2, y: y + height / 2, data });
}

/** Pastes files where the focus is. */
function paste(page, files) {
  return page.evaluate((contents) => {
    const clipboardData = new DataTransfer();
    for (const [name, base64] of contents) clipboardData.items.add(new File([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))], name, { type: "image/png" }));
    document.activeElement.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }));
  }, files.map((file) => [path.basename(file), readFileSync(file).toString("base64")]));
}

async function saved(page, button, name) {
  const [download] = await Promise.all([page.waitForEvent("download"), page.locator(button).click()]);
  assert.equal(download.suggestedFilename(), name);
  const file = path.join(scratch, `${Math.random().toString(36).slice(2)}-${name}`);
  await download.saveAs(file);
  return file;
}

test("three classes come by a dropped folder, by pasting and by the camera; it learns, and what it saves works", long, async () => {
  const page = await opened({ permissions: ["camera"] });
  assert.equal(await page.locator("#save-model").isDisabled(), true);
  await drop(page, page.locator("header"), [folder("fish")]);
  await page.waitForFunction(() => document.querySelectorAll(".thumb:not(.waiting)").length === 3);
  assert.deepEqual(await names(page), ["fish"], "a folder is a class, and the empty ones to begin with are gone");
  await page.locator("#add").click();
  await page.keyboard.type("house");
  await page.keyboard.press("Enter");
  await paste(page, three("house"));
  await learned(page, 6, 2);
  await page.locator("#add").click();
  await rename(page, 2, "pie");
  await card(page, 2).locator(".camera").click();
  await page.waitForFunction(() => !document.getElementById("shutter").disabled && document.getElementById("sheet-video").videoWidth);
  await page.locator("#shutter").hover();
  await page.mouse.down();
  await page.waitForFunction(() => parseInt(document.getElementById("sheet-count").textContent) >= 3);
  await page.mouse.up();
  const taken = await page.evaluate(() => parseInt(document.getElementById("sheet-count").textContent));
  await page.keyboard.press("Escape");
  await page.waitForFunction(() => document.getElementById("sheet-video").srcObject === null); // the camera is off
  await learned(page, 6 + taken, 3);
  await page.locator("#try-file").setInputFiles(again("house"));
  await verdict(page, "house");
  await page.locator("#heat-on").click();
  await page.waitForFunction(() => !document.getElementById("heat").hidden);
  const project = await saved(page, "#save-project", "project.zip"), model = await saved(page, "#save-model", "model.onnx");
  const [found] = JSON.parse(fewshot("predict", model, again("house"), "--json"));
  assert.equal(found.label, "house");
  const shown = parseFloat(await page.locator(".answer.best .number").textContent());
  assert.ok(Math.abs(shown - 100 * found.probability) < 0.11, `${shown} and ${found.probability}`);
  const advice = (await page.locator("#use code").last().textContent()).split(" ").slice(1), adapted = path.join(scratch, "adapted");
  fewshot(...advice.map((word) => ({ "project.zip": project, my_model: adapted })[word] ?? word));
  assert.equal(JSON.parse(fewshot("predict", adapted, again("house"), "--json"))[0].label, "house");
  const other = await opened();
  await other.locator("#add-zip").setInputFiles(project);
  await learned(other, 6 + taken, 3);
  assert.deepEqual(await names(other), ["fish", "house", "pie"]);
  assert.deepEqual([...page.complaints, ...other.complaints], []);
  await page.context().close();
  await other.context().close();
});

test("a folder of folders is its classes, and a dropped picture beside them a class of its own", long, async () => {
  const page = await opened();
  await drop(page, page.locator("header"), [drawings]);
  await learned(page, 15, 5);
  assert.deepEqual(await names(page), ["fish", "flower", "house", "star", "tree"]);
  await drop(page, card(page, 1), [again("flower")]);
  await learned(page, 16, 5);
  assert.deepEqual(await counts(page), [3, 4, 3, 3, 3]);
  await page.context().close();
});

test("a mistake is corrected by one click, and a second thought moves the picture", long, async () => {
  const page = await taught();
  await page.locator("#try-file").setInputFiles(again("tree"));
  await page.waitForFunction(() => document.body.dataset.answers);
  await page.locator(".answer").nth(1).click();
  await learned(page, 10, 3);
  assert.deepEqual(await counts(page), [3, 4, 3]);
  await page.locator(".answer:not(:disabled)").nth(2).click();
  await page.waitForFunction(() => document.getElementById("notice-text").textContent.startsWith("Moved to"));
  assert.deepEqual(await counts(page), [3, 3, 4]);
  await page.context().close();
});

test("it watches the camera, and a click teaches it what it sees", long, async () => {
  const page = await taught({ permissions: ["camera"] });
  await page.locator("#heat-on").click();
  await page.locator("#watch").click();
  await page.waitForFunction(() => Number(document.body.dataset.answers) >= 3 && !document.getElementById("heat").hidden);
  for (let n = 10; n < 13; n++) {
    await page.locator(".answer:not(:disabled)").nth(2).click();
    await learned(page, n, 3);
  }
  await verdict(page, "star");
  assert.equal(await page.locator("#verdict").getAttribute("aria-live"), "off", "not every frame is read out");
  await page.waitForFunction(() => document.getElementById("heard").textContent === "star");
  await page.locator("#watch").click();
  assert.equal(await page.evaluate(() => document.getElementById("video").srcObject), null);
  assert.deepEqual(page.complaints, []);
  await page.context().close();
});

test("without a camera, or where it is refused, one sentence says so", long, async () => {
  const page = await opened();
  for (const [name, sentence] of [["NotAllowedError", /was not allowed/], ["NotFoundError", /There is no camera/], ["", /only to pages at https/]]) {
    await page.evaluate((error) => {
      const mediaDevices = error ? { getUserMedia: () => Promise.reject(new DOMException("no", error)) } : undefined;
      Object.defineProperty(navigator, "mediaDevices", { value: mediaDevices, configurable: true });
    }, name);
    await card(page, 0).locator(".camera").click();
    await page.waitForFunction(() => document.getElementById("sheet-problem").textContent);
    assert.match(await page.locator("#sheet-problem").textContent(), sentence);
    assert.equal(await page.locator("#shutter").isDisabled(), true);
    await page.keyboard.press("Escape");
    await page.locator("#watch").click();
    await page.waitForFunction(() => document.getElementById("verdict").classList.contains("bad"));
    assert.match(await page.locator("#verdict").textContent(), sentence);
    assert.equal(await page.locator("#watch").getAttribute("aria-pressed"), "false");
  }
  await page.context().close();
});

test("the project is there again after a reload, until it is started anew", long, async () => {
  const page = await taught();
  await card(page, 2).locator(".thumb").first().focus();
  await page.keyboard.press("Delete");
  await learned(page, 8, 3);
  await page.waitForSelector("[data-kept]");
  await page.reload();
  await learned(page, 8, 3);
  assert.deepEqual([await names(page), await counts(page)], [["fish", "house", "star"], [3, 3, 2]]);
  await page.locator("#anew").click();
  await page.locator("#undo").click();
  await learned(page, 8, 3);
  await page.locator("#anew").click();
  await status(page, "Add pictures");
  await page.waitForSelector("[data-kept]");
  await page.reload();
  await status(page, "Add pictures");
  assert.deepEqual([await names(page), await counts(page)], [["Class 1", "Class 2"], [0, 0]]);
  const second = await page.context().newPage();
  await second.goto(address);
  await second.waitForFunction(() => document.getElementById("notice-text").textContent.startsWith("This page is open in another tab"));
  await page.context().close();
});

test("a class or a picture that was removed comes back, by a click or by Ctrl+Z", long, async () => {
  const page = await taught();
  await page.locator("[aria-label='Remove the class house']").click();
  await learned(page, 6, 2);
  await page.locator("#undo").click();
  await learned(page, 9, 3);
  assert.deepEqual(await names(page), ["fish", "house", "star"]);
  await card(page, 0).locator(".thumb").nth(1).focus();
  await page.keyboard.press("Delete");
  await learned(page, 8, 3);
  await page.keyboard.press("Control+z");
  await learned(page, 9, 3);
  await page.context().close();
});

test("the whole journey goes by keyboard", long, async () => {
  const page = await taught();
  const focused = () => page.evaluate(() => {
    const { activeElement, body } = document;
    return activeElement === body ? "" : activeElement.getAttribute("aria-label") ?? activeElement.textContent.trim();
  });
  const tabTo = async (wanted, key = "Tab") => {
    for (let i = 0; i < 60 && !wanted.test(await focused()); i++) await page.keyboard.press(key);
    assert.match(await focused(), wanted);
    assert.notEqual(await page.evaluate(() => {
      const { activeElement } = document, shown = activeElement.matches("input[type=file]") ? activeElement.parentElement : activeElement;
      return getComputedStyle(shown).outlineStyle;
    }), "none", `the focus on ${wanted} is visible`);
  };
  await page.evaluate(() => document.activeElement.blur());
  await tabTo(/Add folders/);
  await tabTo(/^Picture 1 of 3/);
  await page.keyboard.press("ArrowRight");
  assert.match(await focused(), /^Picture 2 of 3/);
  await page.keyboard.press("Enter");
  assert.equal(await page.locator("#view").isVisible(), true);
  await page.keyboard.press("Escape");
  assert.equal(await page.locator("#view").isVisible(), false);
  assert.match(await focused(), /^Picture 2 of 3/, "the focus returns");
  await page.keyboard.press("Delete");
  assert.match(await focused(), /^Picture 2 of 2/, "the next picture has the focus");
  await learned(page, 8, 3);
  await tabTo(/^Pictures of star/);
  await tabTo(/^Add a class/);
  await page.keyboard.press("Enter");
  await page.keyboard.type("house");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.getElementById("notice-text").textContent === "There is already a class \u201c\u2068house\u2069\u201d.");
  assert.deepEqual(await names(page), ["fish", "house", "star", "Class 1"], "and the name before is back");
  await tabTo(/^A picture to try/);
  await page.locator("#try-file").setInputFiles(again("fish"));
  await page.waitForFunction(() => document.body.dataset.answers);
  await tabTo(/^This picture is house/);
  await page.keyboard.press("Enter");
  await learned(page, 9, 3);
  await tabTo(/^Save model/);
  const [download] = await Promise.all([page.waitForEvent("download"), page.keyboard.press("Enter")]);
  assert.equal(download.suggestedFilename(), "model.onnx");
  await page.context().close();
});

test("names are text, whatever they hold; empty and double ones are refused", long, async () => {
  const page = await opened({ viewport: { width: 390, height: 844 } });
  const hostile = ["<img src=x onerror=\"document.title='broken'\">", `\u202etxt.${"x".repeat(190)}`, "__proto__"];
  for (const [i, name] of hostile.entries()) await teach(page, i, name, [three("star")[i]]);
  await learned(page, 3, 3);
  await page.locator("#try-file").setInputFiles(again("star"));
  await page.waitForFunction(() => document.body.dataset.answers);
  assert.deepEqual(await page.locator(".answer .label").allTextContents(), hostile);
  assert.equal(await page.locator("#cards img[onerror], #answers img").count(), 0);
  assert.equal(await page.title(), "Few-shot studio");
  assert.equal(await page.evaluate("document.documentElement.scrollWidth"), 390);
  for (const [name, sentence] of [["  ", /needs a name/], ["__PROTO__ ", /already a class/], ["y".repeat(300), /at most 200 characters; this one has 300/]]) {
    await rename(page, 0, name);
    assert.match(await page.locator("#notice-text").textContent(), sentence);
    assert.deepEqual(await names(page), hostile);
  }
  assert.deepEqual(page.complaints, []);
  await page.context().close();
});

test("a picture that is looked at can be moved to another class, and removed from there", long, async () => {
  const page = await taught();
  await card(page, 0).locator(".thumb").nth(1).click();
  await page.waitForFunction(() => document.getElementById("view-image").naturalWidth > 0);
  await page.locator("#view-class").selectOption({ label: "star" });
  assert.deepEqual(await counts(page), [2, 3, 4]);
  await page.locator("#view-remove").click();
  assert.deepEqual(await counts(page), [2, 3, 3]);
  await learned(page, 8, 3);
  await page.context().close();
});

test("files that are no pictures are named, and the others stay", long, async () => {
  const page = await opened();
  const broken = { name: "no.png", mimeType: "image/png", buffer: Buffer.from("no") };
  const good = { name: "yes.png", mimeType: "image/png", buffer: readFileSync(again("fish")) };
  await card(page, 0).locator("input[type=file]").setInputFiles([broken, good]);
  await page.waitForFunction(() => document.getElementById("notice-text").textContent.startsWith("no.png is not a picture"));
  assert.deepEqual(await counts(page), [1, 0]);
  await card(page, 1).locator("input[type=file]").setInputFiles([{ ...good, name: "copy.png" }]);
  await page.waitForFunction(() => document.getElementById("general").textContent.includes("same file under different labels"));
  assert.equal(await page.locator("[data-severity=error] .thumb").count(), 2, "both pictures are marked");
  await page.context().close();
});

test("with a network for drawings one draws on it", long, async () => {
  const page = await opened({}, await hosting(drawn));
  const cross = [[[50, 18], [50, 82]], [[20, 50], [80, 50]]], zigzag = [[[22, 28], [78, 26], [24, 74], [80, 74]]];
  for (const [i, strokes] of [cross, zigzag].entries()) {
    await card(page, i).locator(".pen").click();
    await draw(page, page.locator("#sheet-pad"), strokes);
    await page.locator("#sheet-add").click();
    await page.keyboard.press("Escape");
  }
  await learned(page, 2, 2);
  await draw(page, page.locator("#seen"), [[[54, 20], [52, 84]], [[22, 55], [84, 50]]]);
  await verdict(page, "Class 1");
  await page.locator("#clear").click();
  await verdict(page, "Draw one of them.");
  assert.deepEqual(page.complaints, []);
  await page.context().close();
});

test("once loaded it works offline, and a changed site replaces it whole", long, async () => {
  const copy = path.join(scratch, "moving");
  cpSync(site, copy, { recursive: true });
  const host = await hosting(copy), page = await taught({}, host);
  await page.waitForFunction(() => !document.getElementById("offline").hidden);
  renameSync(copy, `${copy}-away`);
  await page.context().setOffline(true);
  await page.reload();
  await learned(page, 9, 3);
  await page.context().setOffline(false);
  mkdirSync(copy);
  writeFileSync(path.join(copy, "index.html"), "<!doctype html><title>Another</title><script src=\"studio.js\"></script>");
  writeFileSync(path.join(copy, "studio.js"), "document.title += ' site';");
  await page.goto(host);
  assert.equal(await page.title(), "Another site", "nothing of the old one is mixed in");
  rmSync(copy, { recursive: true });
  cpSync(drawn, copy, { recursive: true });
  await page.goto(host);
  await page.waitForFunction(() => document.body.dataset.ready && document.body.classList.contains("drawings"));
  const kept = () => page.evaluate(async () => {
    const { length } = await caches.keys(); // first: a worker opens its cache while it is being installed
    const { installing, waiting, active } = await navigator.serviceWorker.getRegistration();
    return !installing && !waiting && active.state === "activated" && length;
  });
  for (let left = 900; (await kept()) !== 1; left--) { // waitForFunction takes a promise for true
    assert.ok(left, "the new worker is installed");
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  rmSync(copy, { recursive: true });
  await page.context().setOffline(true);
  await page.reload();
  await learned(page, 9, 3);
  assert.equal(await page.evaluate(() => document.body.className), "drawings", "the new one is kept in its place");
  await page.context().close();
});

test("the runtime of a content delivery network is kept, too", long, async () => {
  const remote = path.join(scratch, "remote");
  fewshot("studio", "--init", "omniglot", "--output", remote);
  const page = await openPage(browser);
  let away = false, asked = 0;
  await page.context().route("https://cdn.jsdelivr.net/**", (route) => {
    asked++;
    if (away) return route.abort();
    const [, name] = /onnxruntime-web@[\d.]+\/dist\/([\w.-]+)$/.exec(route.request().url());
    return route.fulfill({ body: readFileSync(path.join(vendor, name)), headers: { "Access-Control-Allow-Origin": "*" } });
  });
  await page.goto(await hosting(remote));
  await page.waitForFunction(() => !document.getElementById("offline").hidden);
  assert.ok(asked >= 2);
  away = true;
  renameSync(remote, `${remote}-away`);
  await page.reload();
  await page.waitForFunction(() => document.body.dataset.ready);
  assert.deepEqual(page.complaints.filter((each) => !/404|Failed to load/.test(each)), []);
  await page.context().close();
});

test("axe finds nothing serious, in light and dark, on a phone and a desktop, and nothing sticks out", long, async () => {
  for (const colorScheme of ["light", "dark"]) {
    for (const viewport of [{ width: 390, height: 844 }, { width: 1600, height: 1000 }]) {
      const page = await opened({ colorScheme, viewport, permissions: ["camera"] });
      const check = async (state) => {
        await page.evaluate(axe);
        const found = await page.evaluate(() => axe.run());
        const bad = found.violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
        assert.deepEqual(bad.map(({ id, nodes }) => [id, nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`)]), [], `${state}, ${colorScheme}, ${viewport.width}`);
        assert.equal(await page.evaluate("document.documentElement.scrollWidth"), viewport.width, state);
      };
      await check("empty");
      for (const [i, name] of ["fish", "house"].entries()) await teach(page, i, name, [three(name)[0], three(name)[0]]);
      await learned(page, 4, 2);
      await page.locator("#try-file").setInputFiles(again("fish"));
      await page.waitForFunction(() => document.body.dataset.answers);
      for (const summary of await page.locator("#use summary").all()) await summary.click();
      await page.locator("#add").click();
      await card(page, 2).locator(".plain").click();
      await check("with findings, an answer and a notice");
      await card(page, 0).locator(".thumb").first().click();
      await check("a picture");
      await page.keyboard.press("Escape");
      await card(page, 0).locator(".camera").click();
      await page.waitForFunction(() => !document.getElementById("shutter").disabled);
      await check("the camera");
      await page.context().close();
    }
  }
});

test("a zip that cannot be opened leaves no word of opening it", long, async () => {
  const page = await opened(), damaged = path.join(scratch, "damaged.zip");
  writeFileSync(damaged, "PK\u0003\u0004 and no more");
  await page.locator("#add-zip").setInputFiles(damaged);
  await page.waitForFunction(() => document.body.innerText.includes("is not a zip, or is damaged"));
  await status(page, "Add pictures to two or more classes.");
  await page.context().close();
});

test("it asks before it is closed while pictures are not kept yet", long, async () => {
  const page = await opened();
  await teach(page, 0, "fish");
  await page.evaluate(() => { delete document.body.dataset.kept; });
  const asks = () => page.evaluate(() => !dispatchEvent(new Event("beforeunload", { cancelable: true })));
  assert.equal(await asks(), true);
  await page.waitForFunction(() => document.body.dataset.kept);
  assert.equal(await asks(), false);
  await page.context().close();
});
