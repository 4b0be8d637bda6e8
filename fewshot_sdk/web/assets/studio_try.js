// Tries the classifier on a picture, a drawing or the camera, shows why, and takes corrections.
import { Camera, photograph } from "./studio_camera.js";
import { at, make, quoted, say } from "./studio_dom.js";
import { Pad } from "./studio_draw.js";
import { chosen, fileOf, takeDrops } from "./studio_files.js";
import { paintHeat } from "./studio_heat.js";

const SHOWN = 1024; // pixels a side of a picture on the page
const SETTLED = 1200; // milliseconds that an answer about the camera must last to be read out

export class Trial {
  /** photographs: instead of drawings; opening: a promise of the core; correct: gets a file and its class, and resolves to what it added. */
  constructor(photographs, opening, correct) {
    Object.assign(this, { opening, correct, source: null, judged: null, fitted: [], turn: 0, judging: false, again: false, heard: 0, hearing: "" });
    this.camera = new Camera(at("video"), at("try-camera"), 640);
    this.camera.failed = (error) => this.fail(error);
    if (!photographs) this.drawing();
    at("try-file").addEventListener("change", () => this.use(chosen(at("try-file"))));
    takeDrops(at("try"), (content) => this.use(content));
    at("watch").addEventListener("click", () => (this.watching ? this.rest() : this.watch()));
    at("heat-on").addEventListener("click", () => {
      at("heat-on").setAttribute("aria-pressed", String(!this.heat));
      this.judge();
    });
  }

  get watching() {
    return at("watch").getAttribute("aria-pressed") === "true";
  }

  get heat() {
    return at("heat-on").getAttribute("aria-pressed") === "true";
  }

  drawing() {
    this.pad = new Pad(at("seen"), () => {
      if (this.source?.picture !== this.pad.canvas) this.begin({ picture: this.pad.canvas, file: () => fileOf(this.pad.canvas, "drawing.png") });
      this.source.added = null;
      this.judge();
    });
    at("clear").hidden = false;
    at("clear").addEventListener("click", () => {
      this.pad.clear();
      this.begin(null);
      this.idle();
    });
    this.show("seen");
  }

  begin(source) {
    this.turn++;
    this.source = source && { added: null, ...source };
    return this.turn;
  }

  /** Tries the first picture of what was chosen, dropped or pasted. */
  async use(content) {
    const { loose, folders } = await content;
    const file = [...loose, ...folders.flatMap(({ files }) => files)][0];
    if (!file) {
      this.complain("There is no picture in this. Drop a picture file.");
      return;
    }
    this.rest();
    const mine = this.begin({ picture: file, file: async () => file });
    try {
      const bitmap = await createImageBitmap(file).catch(() => readPicture(file)); // which says what is wrong
      if (mine !== this.turn) return;
      this.draw(bitmap);
      bitmap.close();
      this.show("seen");
      this.judge();
    } catch (error) {
      if (mine === this.turn) this.fail(error);
    }
  }

  draw(image) {
    const seen = at("seen"), context = seen.getContext("2d"), shrink = Math.min(1, SHOWN / Math.max(image.width, image.height));
    if (this.pad) this.pad.clear();
    else Object.assign(seen, { width: Math.ceil(image.width * shrink), height: Math.ceil(image.height * shrink) });
    const scale = Math.min(seen.width / image.width, seen.height / image.height);
    const [width, height] = [image.width * scale, image.height * scale];
    context.imageSmoothingQuality = "high";
    context.drawImage(image, (seen.width - width) / 2, (seen.height - height) / 2, width, height);
    this.shape = [image.width, image.height];
  }

  /** Classifies what the camera sees until it is stopped. */
  async watch() {
    at("watch").setAttribute("aria-pressed", "true");
    at("watch-text").textContent = "Stop";
    at("verdict").setAttribute("aria-live", "off");
    this.begin(null);
    try {
      if (!(await this.camera.start())) return;
      this.show("video");
      while (this.watching) {
        const frame = this.camera.frame();
        if (frame) {
          this.begin({ picture: frame, file: () => photograph(frame) });
          this.shape = [frame.width, frame.height];
          await this.judge();
        }
        await new Promise((resolve) => requestAnimationFrame(resolve)); // none while the page is not seen
      }
    } catch (error) {
      this.fail(error);
    }
  }

  rest() {
    if (!this.watching) return;
    at("watch").setAttribute("aria-pressed", "false");
    at("watch-text").textContent = "Camera";
    at("verdict").setAttribute("aria-live", "polite");
    clearTimeout(this.heard);
    this.hearing = "";
    this.camera.stop();
    this.begin(null);
    this.pad?.clear();
    this.show(this.pad ? "seen" : "try-hint");
    this.idle();
  }

  /** What it can tell apart now; null while it knows fewer than two classes. */
  learned(groups) {
    const same = groups && this.fitted.length === groups.length && groups.every((group, i) => group === this.fitted[i].group && group.name === this.fitted[i].name);
    if (!same) {
      this.fitted = (groups ?? []).map((group) => ({ group, name: group.name, ...this.row(group) }));
      at("answers").replaceChildren(...this.fitted.map(({ row }) => row));
      this.idle();
    }
    this.judge();
  }

  row(group) {
    const number = make("span", { className: "number", textContent: "\u2013" }), bar = make("span", { className: "bar" }, make("i"));
    const name = make("span", { className: "label", dir: "auto", textContent: group.name });
    const hidden = make("span", { className: "unseen", textContent: "This picture is " });
    const button = make("button", { type: "button", className: "answer", disabled: true, title: "Click if it is this: the picture is added to the class" }, hidden, name, number, bar);
    button.addEventListener("click", () => this.teach(group));
    return { row: make("li", {}, button), number, bar, button };
  }

  /** Judges the picture; of the requests made meanwhile, only the last counts. */
  async judge() {
    if (this.judging) {
      this.again = true;
      return;
    }
    this.judging = true;
    do {
      this.again = false;
      const { source, turn, fitted } = this;
      if (!source || !fitted.length) {
        this.idle();
        break;
      }
      try {
        const studio = await this.opening, answer = await studio.classify(source.picture, { heatMap: this.heat });
        if (turn === this.turn && fitted === this.fitted) this.tell(answer, source);
      } catch (error) {
        if (turn === this.turn) this.fail(error);
      }
    } while (this.again);
    this.judging = false;
  }

  tell(answer, source) {
    this.judged = source;
    const best = answer.probabilities.indexOf(Math.max(...answer.probabilities)), nearest = this.fitted[best].name;
    at("verdict").className = "";
    say(at("verdict"), answer.known ? nearest : `Unknown; nearest is \u2068${nearest}\u2069`);
    this.fitted.forEach(({ number, bar, button }, i) => {
      number.textContent = `${(100 * answer.probabilities[i]).toFixed(1)} %`;
      bar.style.setProperty("--share", answer.probabilities[i]);
      button.classList.toggle("best", i === best && answer.known);
      button.disabled = false;
    });
    at("correct").hidden = false;
    at("time").textContent = `${Math.round(answer.milliseconds)} ms`;
    this.paint(answer.heatMap, nearest);
    document.body.dataset.answers = Number(document.body.dataset.answers ?? 0) + 1;
    if (this.watching) this.hear(at("verdict").textContent);
  }

  hear(text) {
    if (this.hearing === text) return;
    this.hearing = text;
    clearTimeout(this.heard);
    this.heard = setTimeout(() => say(at("heard"), text), SETTLED);
  }

  paint(heatMap, nearest) {
    const shown = Boolean(this.heat && heatMap);
    at("heat").hidden = at("legend").hidden = !shown;
    at("stage").classList.toggle("explained", shown);
    if (!shown) return;
    at("heat").classList.toggle("mirror", this.watching && at("video").classList.contains("mirror"));
    paintHeat(at("heat"), heatMap, this.source.picture === this.pad?.canvas ? [560, 560] : this.shape);
    say(at("legend"), `Red speaks for ${quoted(nearest)}, blue against it.`);
  }

  /** The picture is of this class: adds it there, or moves it there if it was added before. */
  async teach(group) {
    const source = this.judged; // with a camera, `source` may be a newer frame
    if (!source) return;
    source.added = await this.correct(await source.file(), group, source.added);
  }

  /** Shows that there is no answer. */
  idle() {
    this.judged = null;
    at("verdict").className = "idle";
    const ready = this.fitted.length > 0;
    say(at("verdict"), !ready ? "Teach it two classes first." : this.source ? "\u2026" : this.pad ? "Draw one of them." : "Show it a picture.");
    for (const { number, bar, button } of this.fitted) {
      number.textContent = "\u2013";
      bar.style.setProperty("--share", 0);
      button.classList.remove("best");
      button.disabled = true;
    }
    at("correct").hidden = true;
    at("time").textContent = "\u00a0";
    this.paint(null);
  }

  fail(error) {
    this.rest();
    this.begin(null);
    if (!this.pad) this.show("try-hint");
    this.complain(error.message);
  }

  complain(text) {
    this.idle();
    at("verdict").className = "bad";
    say(at("verdict"), text);
  }

  show(name) {
    for (const each of ["try-hint", "seen", "video"]) at(each).hidden = each !== name;
    at("try-camera").hidden = name !== "video" || at("try-camera").options.length < 2;
  }
}
