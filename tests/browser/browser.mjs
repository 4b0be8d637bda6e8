// Shared by the tests of the pages: a browser, the command, a pen.
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
export const patience = 90_000; // milliseconds; a busy machine is slow, not wrong
export const scratch = mkdtempSync(path.join(tmpdir(), "fewshot-browser-"));

const python = process.env.FEWSHOT_PYTHON ?? "python3";
const command = ["-m", "fewshot_cli.main"];
const children = [];

/** A browser; it may fail to start where memory or time is short, so it gets three attempts. */
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

/** A new page, whose errors are collected in `page.complaints`. */
export async function openPage(browser, settings = {}) {
  const context = await browser.newContext(settings);
  const page = await context.newPage();
  page.setDefaultTimeout(patience);
  page.complaints = [];
  page.on("pageerror", (error) => page.complaints.push(String(error)));
  page.on("console", (message) => { if (message.type() === "error") page.complaints.push(message.text()); });
  return page;
}

/** The stdout of a `fewshot` command. */
export function fewshot(...words) {
  return run(...command, ...words);
}

/** The stdout of a Python program. */
export function run(...words) {
  const done = spawnSync(python, words, { encoding: "utf8", maxBuffer: 2 ** 28 });
  if (done.status !== 0) throw new Error(`${words.join(" ")}: ${done.stderr}${done.error ?? ""}`);
  return done.stdout;
}

/** The address at which a `fewshot` command serves, once it has printed it. */
export function serving(...words) {
  const child = spawn(python, [...command, ...words], { stdio: ["ignore", "ignore", "pipe"] });
  children.push(child);
  let output = "";
  return new Promise((resolve, reject) => {
    const clock = setTimeout(() => reject(new Error(`${words.join(" ")} does not start: ${output}`)), patience);
    child.on("exit", (code) => { clearTimeout(clock); reject(new Error(`${words.join(" ")} ended with ${code}: ${output}`)); });
    child.stderr.on("data", (data) => {
      output += data;
      const found = /http:\/\/127\.0\.0\.1:\d+\//.exec(output);
      if (found) { clearTimeout(clock); resolve(answering(found[0])); }
    });
  });
}

async function answering(address) { // it may print it a moment before it answers
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

/** A free port. */
export function freePort() {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(String(port)));
    });
  });
}

/** The address of a plain static host of a folder; `change` may alter a file's bytes. */
export async function hosting(folder, change = (name, data) => data) {
  const server = createServer(async (request, response) => {
    const name = new URL(request.url, "http://localhost").pathname.slice(1) || "index.html";
    const type = { html: "text/html", css: "text/css", js: "text/javascript" }[name.split(".").pop()] ?? "application/octet-stream";
    const data = await readFile(path.join(folder, path.basename(name))).catch(() => null);
    if (data === null) response.writeHead(404).end();
    else response.writeHead(200, { "Content-Type": type }).end(change(name, data));
  });
  children.push({ kill: () => server.closeAllConnections?.() ?? server.close(), unref: () => server.unref() });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  server.unref();
  return `http://127.0.0.1:${server.address().port}/`;
}

/** Stops what was started and removes what was written. */
export function cleanUp() {
  for (const child of children) child.kill();
  rmSync(scratch, { recursive: true, force: true });
}

/** Draws strokes, given as points in percent of a canvas, with the mouse. */
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

/** Draws the same with a finger. */
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
