// The page of `fewshot demo`: pads to draw on or for photographs, and the answers of the learner, which runs in a worker.
"use strict";
const at = (id) => document.getElementById(id);
const settings = JSON.parse(at("settings").textContent);
const preprocessing = settings.preprocessing;

const photographs = settings.photographs; // instead of drawings
const STROKE = 0.03; // of the pad's side, about as in Omniglot
const EXAMPLES = [ // strokes as points in percent of the side
  [[[34, 20], [66, 19], [62, 26], [38, 48], [40, 53], [64, 52], [62, 60], [36, 82]]],
  [[[64, 28], [50, 20], [35, 28], [32, 42], [40, 54], [54, 54], [64, 44], [65, 30], [66, 56], [62, 84]]],
  [[[26, 24], [27, 44], [38, 57], [50, 59], [62, 57], [73, 44], [74, 22]], [[50, 17], [51, 50], [49, 86]]],
];
const AGAIN = [[[66, 34], [54, 22], [40, 26], [34, 42], [40, 57], [56, 56], [67, 46], [68, 32], [70, 60], [67, 88]]];

/**
 * A square to draw on, or to drop a picture on; a stroke on an example or a picture starts a new drawing.
 * One for photographs has no pen: a click on it chooses a file.
 */
class Pad {
  constructor(figure, changed) {
    this.figure = figure;
    this.canvas = figure.querySelector("canvas");
    this.context = this.canvas.getContext("2d", { willReadFrequently: true });
    this.changed = changed;
    this.clear();
    this.listen();
  }

  clear() {
    this.source = null;
    this.filled = this.drawn = false;
    this.context.fillStyle = "white";
    this.context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    this.touch();
  }

  touch() {
    this.cached = null;
    this.figure.querySelector(".hint").hidden = this.filled;
  }

  /** The preprocessed pixels, the network's input; kept until something changes. */
  pixels() {
    const { canvas } = this;
    this.cached ??= preprocess(this.source ?? pixelsOf(canvas, canvas.width, canvas.height), preprocessing);
    return this.cached;
  }

  example(strokes) {
    this.clear();
    const scale = this.canvas.width / 100;
    for (const stroke of strokes) {
      const points = stroke.map(([x, y]) => [x * scale, y * scale]);
      this.pen();
      this.context.moveTo(...points[0]);
      points.slice(1).forEach(([x, y], i) => {
        const [nextX, nextY] = points[i + 2] ?? [x, y];
        this.context.quadraticCurveTo(x, y, (x + nextX) / 2, (y + nextY) / 2);
      });
      this.context.stroke();
    }
    this.filled = true;
    this.touch();
  }

  async picture(file) {
    try {
      const picture = await readPicture(file), { canvas } = picture;
      this.clear();
      const side = this.canvas.width, fit = preprocessing.fit === "crop" ? Math.max : Math.min;
      const scale = fit(side / canvas.width, side / canvas.height);
      const [width, height] = [canvas.width * scale, canvas.height * scale];
      this.context.drawImage(canvas, (side - width) / 2, (side - height) / 2, width, height);
      this.source = picture; // the original: the canvas only shows it
      this.filled = true;
      this.touch();
      this.changed();
    } catch (error) {
      complain(error.message);
    }
  }

  pen() {
    Object.assign(this.context, { strokeStyle: "black", lineWidth: STROKE * this.canvas.width, lineCap: "round", lineJoin: "round" });
    this.context.beginPath();
  }

  listen() {
    const { canvas, figure } = this, input = figure.querySelector("input");
    if (photographs) canvas.addEventListener("click", () => input.click());
    else this.draw();
    figure.querySelector(".clear").addEventListener("click", () => { this.clear(); this.changed(); });
    takePictures(figure, input, (file) => this.picture(file));
  }

  draw() {
    const { canvas } = this;
    let last = null;
    const place = (event) => {
      const box = canvas.getBoundingClientRect();
      const scale = canvas.width / box.width;
      return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    };
    const line = (to) => {
      this.pen();
      this.context.moveTo(...last);
      this.context.lineTo(...to);
      this.context.stroke();
      last = to;
      this.touch();
      this.changed();
    };
    canvas.addEventListener("pointerdown", (event) => {
      if (!event.isPrimary || event.button !== 0) return;
      event.preventDefault();
      canvas.setPointerCapture(event.pointerId);
      if (!this.drawn) this.clear();
      this.drawn = this.filled = true;
      last = place(event);
      line(last);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!last || !event.isPrimary) return;
      const events = event.getCoalescedEvents?.() ?? [];
      for (const each of events.length ? events : [event]) line(place(each));
    });
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (event) => { if (event.isPrimary) last = null; });
  }
}

const classes = [...document.querySelectorAll("#support .pad")].map((figure) => new Pad(figure, ask));
const query = new Pad(document.querySelector("#query .pad"), ask);
const worker = new Worker("worker.js");
let ready = false, busy = false, stale = false, classified = [], id = 0, quiet;

/** Asks the learner about the pads as they are now; of the requests made while it works, only the last counts. */
function ask() {
  stale = busy;
  if (busy || !ready) return;
  const filled = classes.filter((pad) => pad.filled);
  const enough = settings.all_classes ? classes.length : 2;
  if (filled.length < enough || !query.filled) {
    const boxes = `in ${settings.all_classes ? "each" : "at least two"} of the boxes.`;
    const first = photographs ? `Add a photograph ${boxes}` : `Draw a character ${boxes}`;
    const second = photographs ? "Now add another photograph of one of them." : "Now draw one of them again.";
    show([], filled.length < enough ? first : second);
    return;
  }
  classified = filled;
  busy = true;
  worker.postMessage({
    id: ++id,
    support: filled.map((pad) => pad.pixels()),
    query: query.pixels(),
    shape: [preprocessing.height, preprocessing.width, preprocessing.channels],
    steps: Number(at("steps").value),
    rate: settings.learning_rate,
  });
}

worker.onmessage = ({ data }) => {
  if (data.error) {
    busy = false;
    complain(data.error);
    return;
  }
  if (data.ready) {
    ready = true;
    ask();
    return;
  }
  busy = false;
  const confidence = Math.max(...data.probabilities);
  const names = classified.map((pad) => pad.figure.dataset.name);
  const name = names[data.probabilities.indexOf(confidence)];
  const text = confidence < 1.2 / names.length ? "It has no idea yet." : `${confidence < 0.6 ? "Perhaps" : confidence < 0.9 ? "Probably" : "It is"} ${name}.`;
  show(data.probabilities, text);
  const learned = `${classified.length} ${photographs ? "photographs" : "drawings"}`, steps = at("steps").value;
  at("time").textContent = `${settings.steps ? `${steps} steps on ` : ""}${learned} and an answer in ${Math.round(data.milliseconds)} ms`;
  Object.assign(document.body.dataset, { answers: id, milliseconds: data.milliseconds });
  if (stale) ask();
};
worker.onerror = (event) => complain(event.message ?? "the browser could not start the learner");

function show(probabilities, text) {
  const best = Math.max(...probabilities);
  for (const pad of classes) {
    const probability = probabilities[classified.indexOf(pad)];
    const known = probability !== undefined, percent = known ? (100 * probability).toFixed(1) : 0;
    pad.figure.classList.toggle("best", known && probability === best && best > 1.2 / classified.length);
    pad.figure.querySelector(".number").textContent = known ? `${percent} %` : "\u2013";
    const bar = pad.figure.querySelector(".bar");
    bar.style.setProperty("--share", known ? probability : 0);
    bar.setAttribute("aria-valuenow", percent);
  }
  at("verdict").classList.remove("bad");
  clearTimeout(quiet); // a screen reader reads the answer out once the hand rests
  quiet = setTimeout(() => { at("verdict").textContent = text; }, at("verdict").textContent === text ? 0 : 150);
}

function complain(text) {
  clearTimeout(quiet);
  at("verdict").classList.add("bad");
  at("verdict").textContent = text;
}

at("steps").addEventListener("input", () => { at("shown").value = at("steps").value; ask(); });
at("empty").addEventListener("click", () => { for (const pad of [...classes, query]) pad.clear(); ask(); });

worker.postMessage({ settings });
if (!photographs && classes.length >= EXAMPLES.length) {
  EXAMPLES.forEach((strokes, i) => classes[i].example(strokes));
  query.example(AGAIN);
}
