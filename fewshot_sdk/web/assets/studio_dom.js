// Makes elements and shows notices; whatever people name their classes stays text.
const SVG = "http://www.w3.org/2000/svg";
const SHORT = 8000; // milliseconds that a notice without a choice stays

export const at = (id) => document.getElementById(id);

/** A new element with these properties or attributes; strings among the children become text. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "dataset") Object.assign(element.dataset, value);
    else if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** One of the page's icons, a symbol of that name. */
export function icon(name) {
  const [svg, use] = ["svg", "use"].map((tag) => document.createElementNS(SVG, tag));
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

/** "1 picture", "2 pictures". */
export function counted(n, noun) {
  return `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : noun.endsWith("s") ? "es" : "s"}`;
}

/** A name within a sentence, shortened, and kept from turning the sentence's direction. */
export function quoted(name) {
  return `\u201c\u2068${name.length > 40 ? `${name.slice(0, 39)}\u2026` : name}\u2069\u201d`;
}

let current = null; // the notice that is shown

/** Shows a sentence until the next. undo: offers to take back what was done; settle: called once that is too late. */
export function notice(text, { undo = null, settle = () => {}, bad = false } = {}) {
  dismiss();
  current = { undo, settle, clock: undo || bad ? 0 : setTimeout(dismiss, SHORT) };
  at("notice-text").textContent = text;
  at("notice").classList.toggle("bad", bad);
  at("undo").hidden = !undo;
  at("notice").hidden = false;
  say(at("spoken"), undo ? `${text} Press Control and Z to undo.` : text);
}

/** Hides the notice; what it offered to undo is final. */
export function dismiss() {
  if (!current) return;
  const { settle, clock } = current;
  clearTimeout(clock);
  current = null;
  at("notice").hidden = true;
  say(at("spoken"), "");
  settle();
}

/** Takes back what the notice tells, if it can be. */
export function undoLast() {
  if (!current?.undo) return false;
  const { undo } = current;
  current.settle = () => {};
  dismiss();
  undo();
  return true;
}

/** Shows a message only where it is new, for a screen reader reads each one out. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
