// The camera: its stream, the choice among several, and the sheet on which pictures of a class are taken or drawn.
import { at, counted, make, quoted, say } from "./studio_dom.js";
import { Pad } from "./studio_draw.js";
import { fileOf } from "./studio_files.js";

const EVERY = 250; // milliseconds between two pictures while the button is held
const REFUSED = {
  NotAllowedError: "The camera was not allowed. Allow it for this page in the browser's settings, or use picture files.",
  NotFoundError: "There is no camera. Use picture files instead.",
  NotReadableError: "The camera is in use by another program. Close that, and try again.",
  OverconstrainedError: "This camera is not there any more. Choose another one.",
};

/** A camera shown in a video element; a select offers the others, if there are any. */
export class Camera {
  /** width: the best one, in pixels; its device may have another. */
  constructor(video, select, width) {
    Object.assign(this, { video, select, width, stream: null, turn: 0, device: "" });
    select.addEventListener("change", () => {
      this.device = select.value;
      if (this.stream) this.start().catch((error) => this.failed?.(error));
    });
  }

  /** Shows what the camera sees. Throws a sentence if it cannot; false if it was stopped or changed meanwhile. */
  async start() {
    this.stop();
    const mine = this.turn;
    if (!navigator.mediaDevices?.getUserMedia) throw new Error("Browsers give the camera only to pages at https:// or localhost. Use picture files instead.");
    const which = this.device ? { deviceId: { exact: this.device } } : { facingMode: "environment" };
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { ...which, width: { ideal: this.width } } });
    } catch (error) {
      this.device = "";
      throw new Error(REFUSED[error.name] ?? `The camera does not start: ${error.message || error.name}.`);
    }
    if (mine !== this.turn) {
      end(stream);
      return false;
    }
    this.stream = stream;
    const [track] = stream.getVideoTracks(), { facingMode, deviceId } = track.getSettings();
    track.addEventListener("ended", () => { if (this.stream === stream) this.failed?.(new Error("The camera was switched off.")); });
    this.video.classList.toggle("mirror", facingMode === "user");
    this.video.srcObject = stream;
    await this.video.play().catch(() => {}); // refused when it is stopped meanwhile
    await this.offer(deviceId);
    return mine === this.turn;
  }

  async offer(chosen) {
    const devices = (await navigator.mediaDevices.enumerateDevices()).filter(({ kind }) => kind === "videoinput");
    this.select.replaceChildren(...devices.map(({ deviceId, label }, i) =>
      make("option", { value: deviceId, textContent: label || `Camera ${i + 1}`, selected: deviceId === chosen })));
    this.select.hidden = devices.length < 2;
  }

  stop() {
    this.turn++;
    if (this.stream) end(this.stream);
    this.stream = this.video.srcObject = null;
  }

  /** What it sees now, as a canvas; null before it sees anything. */
  frame() {
    const { videoWidth: width, videoHeight: height } = this.video;
    if (!this.stream || !width) return null;
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    canvas.getContext("2d").drawImage(this.video, 0, 0);
    return canvas;
  }
}

function end(stream) {
  stream.getTracks().forEach((track) => track.stop());
}

/** A frame of a camera as a file of its own name. */
export function photograph(canvas) {
  const time = new Date().toTimeString().slice(0, 8).replaceAll(":", "");
  return fileOf(canvas, `camera-${time}.jpg`, "image/jpeg"); // a zip tells those of one second apart by a number
}

/** The sheet on which pictures of a class are taken with the camera or drawn; `take` gets each one with its class. */
export class Sheet {
  constructor(project, take) {
    Object.assign(this, { project, take, held: 0, taken: 0, pad: null });
    this.camera = new Camera(at("sheet-video"), at("sheet-camera"), 1280);
    this.camera.failed = (error) => this.fail(error);
    at("sheet-close").addEventListener("click", () => at("sheet").close());
    at("sheet").addEventListener("close", () => this.closed());
    at("sheet").addEventListener("click", (event) => { if (event.target === at("sheet")) at("sheet").close(); });
    at("sheet-class").addEventListener("change", () => this.count(0));
    at("sheet-clear").addEventListener("click", () => this.pad.clear());
    at("sheet-add").addEventListener("click", () => this.draw());
    this.hold(at("shutter"));
  }

  get group() {
    return this.project.classes.find(({ key }) => String(key) === at("sheet-class").value);
  }

  /** Opens the sheet for a class. kind: "camera" or "pen". */
  async open(kind, group) {
    at("sheet").dataset.kind = kind;
    at("sheet-class").replaceChildren(...this.project.classes.map(({ key, name }) =>
      make("option", { value: key, textContent: name, selected: key === group.key })));
    say(at("sheet-problem"), "");
    this.count(0);
    at("shutter").disabled = true;
    at("sheet").showModal();
    if (kind === "pen") {
      this.pad ??= new Pad(at("sheet-pad"), () => {});
      this.pad.clear();
      at("sheet-add").focus();
      return;
    }
    try {
      if (!(await this.camera.start())) return;
      at("shutter").disabled = false;
      at("shutter").focus();
    } catch (error) {
      this.fail(error);
    }
  }

  fail(error) {
    this.release();
    this.camera.stop();
    at("shutter").disabled = true;
    say(at("sheet-problem"), error.message);
  }

  closed() {
    this.release();
    this.camera.stop();
  }

  /** Takes pictures while the button, or Space or Enter on it, is held. */
  hold(button) {
    button.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      button.setPointerCapture(event.pointerId);
      this.press();
    });
    for (const kind of ["pointerup", "pointercancel", "lostpointercapture", "blur"]) button.addEventListener(kind, () => this.release());
    button.addEventListener("keydown", (event) => {
      if (event.key !== " " && event.key !== "Enter") return;
      event.preventDefault();
      if (!event.repeat) this.press();
    });
    button.addEventListener("keyup", () => this.release());
    button.addEventListener("click", (event) => { if (event.detail === 0) this.shoot(); }); // a screen reader's press
    button.addEventListener("contextmenu", (event) => event.preventDefault()); // of a long touch
  }

  press() {
    this.release();
    this.shoot();
    this.held = setInterval(() => this.shoot(), EVERY);
  }

  release() {
    clearInterval(this.held);
    this.held = 0;
  }

  async shoot() {
    const frame = this.camera.frame(), { group } = this;
    if (!frame || !group) return;
    at("sheet-stage").classList.remove("flash");
    void at("sheet-stage").offsetWidth; // starts the animation anew
    at("sheet-stage").classList.add("flash");
    this.count(this.taken + 1);
    this.take(await photograph(frame), group);
  }

  async draw() {
    const { group, pad } = this;
    if (!pad.drawn || !group) {
      say(at("sheet-problem"), "Draw something first.");
      return;
    }
    say(at("sheet-problem"), "");
    const file = await fileOf(pad.canvas, "drawing.png");
    pad.clear();
    this.count(this.taken + 1);
    this.take(file, group);
  }

  count(taken) {
    this.taken = taken;
    say(at("sheet-count"), taken ? `${counted(taken, "picture")} added to ${quoted(this.group?.name ?? "")}` : "");
  }
}
