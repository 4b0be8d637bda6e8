// A square to draw on with mouse, pen or finger.
const STROKE = 0.03; // of the side, about as in Omniglot

export class Pad {
  /** canvas: square; changed: called after each piece of a stroke. A stroke on a picture begins a new drawing. */
  constructor(canvas, changed) {
    Object.assign(this, { canvas, changed, drawn: false, last: null });
    this.context = canvas.getContext("2d", { willReadFrequently: true });
    this.listen();
    this.clear();
  }

  clear() {
    this.drawn = false;
    this.context.fillStyle = "white";
    this.context.fillRect(0, 0, this.canvas.width, this.canvas.height);
  }

  line(to) {
    const { context, canvas } = this;
    Object.assign(context, { strokeStyle: "black", lineWidth: STROKE * canvas.width, lineCap: "round", lineJoin: "round" });
    context.beginPath();
    context.moveTo(...this.last);
    context.lineTo(...to);
    context.stroke();
    this.last = to;
    this.changed();
  }

  listen() {
    const { canvas } = this;
    const place = (event) => {
      const box = canvas.getBoundingClientRect(), scale = canvas.width / box.width;
      return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    };
    canvas.addEventListener("pointerdown", (event) => {
      if (!event.isPrimary || event.button !== 0) return;
      event.preventDefault();
      canvas.setPointerCapture(event.pointerId);
      if (!this.drawn) this.clear();
      this.drawn = true;
      this.last = place(event);
      this.line(this.last);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!this.last || !event.isPrimary) return;
      const events = event.getCoalescedEvents?.() ?? [];
      for (const each of events.length ? events : [event]) this.line(place(each));
    });
    for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, (event) => { if (event.isPrimary) this.last = null; });
  }
}
