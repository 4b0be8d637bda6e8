// What the tests of the pages share: a Chromium, the command, a pen.
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

export const here = path.dirname(fileURLToPath(import.meta.url));
export const vendor = path.join(here, "node_modules", "onnxruntime-web", "dist");
export const patience = 90_000; // milliseconds; a machine that is busy with other work is slow, not wrong
export const scratch = mkdtempSync(path.join(tmpdir(), "fewshot-browser-"));

const python = process.env.FEWSHOT_PYTHON ?? "python3";
const command = ["-m", "fewshot_cli.main"];
const children = [];

/** A browser; starting one may fail where memory or time is short, so it is tried three times. */
export async function openBrowser(...more) {
  const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", ...more];
  for (let left = 2; ; left--) {
    try {
      return await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args, timeout: patience });
    } catch (error) {
      if (!left) throw error;
    }
  }
}

/** A new page, its complaints collected in `page.complaints`. */
export async function openPage(browser, settings = {}) {
  const context = await browser.newContext(settings);
  const page = await context.newPage();
  page.setDefaultTimeout(patience);
  page.complaints = [];
  page.on("pageerror", (error) => page.complaints.push(String(error)));
  page.on("console", (message) => { if (message.type() === "error") page.complaints.push(message.text()); });
  return page;
}

/** What a `fewshot` command writes to stdout. */
export function fewshot(...words) {
  return run(...command, ...words);
}

/** What a Python program writes to stdout. */
export function run(...words) {
  const done = spawnSync(python, words, { encoding: "utf8", maxBuffer: 2 ** 28 });
  if (done.status !== 0) throw new Error(`${words.join(" ")}: ${done.stderr}${done.error ?? ""}`);
  return done.stdout;
}

/** The address that a `fewshot` command serves at, once it says it. */
export function serving(...words) {
  const child = spawn(python, [...command, ...words], { stdio: ["ignore", "ignore", "pipe"] });
  children.push(child);
  let said = "";
  return new Promise((resolve, reject) => {
    const clock = setTimeout(() => reject(new Error(`${words.join(" ")} does not start: ${said}`)), patience);
    child.on("exit", (code) => { clearTimeout(clock); reject(new Error(`${words.join(" ")} ended with ${code}: ${said}`)); });
    child.stderr.on("data", (data) => {
      said += data;
      const found = /http:\/\/127\.0\.0\.1:\d+\//.exec(said);
      if (found) { clearTimeout(clock); resolve(answering(found[0])); }
    });
  });
}

async function answering(address) { // it may say so a moment before it is true
  for (let left = patience / 200; ; left--) {
    try {
      await (await fetch(address)).arrayBuffer();
      return address;
    } catch (error) {
      if (left <= 0) throw error;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
}

/** A port that nobody uses. */
export function freePort() {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(String(port)));
    });
  });
}

/** The address of a plain static host of a folder; `change` may spoil a file's bytes. */
export async function hosting(folder, change = (name, data) => data) {
  const server = createServer(async (request, response) => {
    const name = new URL(request.url, "http://localhost").pathname.slice(1) || "index.html";
    const type = { html: "text/html", css: "text/css", js: "text/javascript" }[name.split(".").pop()] ?? "application/octet-stream";
    try {
      response.writeHead(200, { "Content-Type": type }).end(change(name, await readFile(path.join(folder, path.basename(name)))));
    } catch {
      response.writeHead(404).end();
    }
  });
  children.push({ kill: () => server.closeAllConnections?.() ?? server.close(), unref: () => server.unref() });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  server.unref();
  return `http://127.0.0.1:${server.address().port}/`;
}

/** Ends what was started, and removes what was written. */
export function cleanUp() {
  for (const child of children) child.kill();
  rmSync(scratch, { recursive: true, force: true });
}

/** Strokes by points in percent of a canvas, drawn with the mouse. */
export async function draw(page, canvas, strokes) {
  await canvas.scrollIntoViewIfNeeded();
  const box = await canvas.boundingBox();
  const at = ([x, y]) => [box.x + (x * box.width) / 100, box.y + (y * box.height) / 100];
  for (const [first, ...others] of strokes) {
    await page.mouse.move(...at(first));
    await page.mouse.down();
    for (const point of others) await page.mouse.move(...at(point), { steps: 4 });
    await page.mouse.up();
  }
}

/** The same with a finger. */
export async function drawByTouch(page, canvas, strokes) {
  await canvas.scrollIntoViewIfNeeded();
  const box = await canvas.boundingBox();
  const client = await page.context().newCDPSession(page);
  const send = (type, points) => client.send("Input.dispatchTouchEvent", { type, touchPoints: points });
  const at = ([x, y]) => ({ x: box.x + (x * box.width) / 100, y: box.y + (y * box.height) / 100 });
  for (const [first, ...others] of strokes) {
    await send("touchStart", [at(first)]);
    for (const point of others) await send("touchMove", [at(point)]);
    await send("touchEnd", []);
  }
}
