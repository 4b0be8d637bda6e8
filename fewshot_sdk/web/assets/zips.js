// Writes and reads zips of class folders, with the rules of images/zips.py, images/sources.py and storage/sorting.py.
"use strict";

const MOST_MEMBERS = 100_000, MOST_GROWTH = 100, SLACK = 64 * 2 ** 20, MOST_BYTES = 64 * 2 ** 20;
const UTF8 = 0x800, UNICODE_PATH = 0x7075;
const UNSAFE = /[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff/\\:*?"<>|]/gu;
const DEVICE = /^(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)(?=\.|$)/i;
const LITTER = new Set(["thumbs.db", "desktop.ini", "__macosx", "$recycle.bin", "system volume information", "lost+found",
  "@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "@tmp"]);
const SIDECAR = /\.(aae|xmp|thm)$|\.(jpe?g|png|webp|heic|tiff?|gif|bmp)(\.[\w-]+)?\.json$/i;
const UNDO = /^undo-\d{8}-\d{6}(-\d+)?\.jsonl$/;
const CP437 = "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u00a0";

/** Compares texts as Python does: by code points. */
function byCodePoint(one, other) {
  const a = Array.from(one, (c) => c.codePointAt(0)), b = Array.from(other, (c) => c.codePointAt(0));
  const i = a.findIndex((point, at) => point !== b[at]);
  return i < 0 ? a.length - b.length : a[i] - (b[i] ?? -1);
}

/** A folder's name for each class, valid on any system and all different, whatever their case. */
function folderNames(labels) {
  const taken = new Set(["unknown"]);
  return labels.map((label) => (label === "unknown" ? label : distinct(plain(label), taken, (name, n) => `${name} (${n})`)));
}

/** A name that is not in the set `taken` yet, to which it is added. */
function distinct(name, taken, numbered) {
  let found = name;
  for (let n = 2; taken.has(found.toLowerCase()); n++) found = numbered(name, n);
  taken.add(found.toLowerCase());
  return found;
}

function plain(label) {
  let name = label.normalize("NFC").replace(UNSAFE, "_").replace(/^[.\s]+|[.\s]+$/g, "_") || "_";
  name = name.replace(DEVICE, "$1_");
  if (isLitter(name)) name = `${name}_`;
  const points = Array.from(name);
  while (encodedName(points.join("")).length > 120) points.pop();
  return points.length < Array.from(name).length ? `${points.join("").replace(/[. ]+$/, "")}_` : name;
}

/** Whether files of this name are passed over, as `sources.is_litter`. */
function isLitter(name) {
  return name.startsWith(".") || LITTER.has(name.toLowerCase()) || SIDECAR.test(name) || UNDO.test(name);
}

const encodedName = (text) => new TextEncoder().encode(text);
const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  let value = n;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

function crc32(bytes) {
  let value = 0xffffffff;
  for (let i = 0; i < bytes.length; i++) value = (value >>> 8) ^ TABLE[(value ^ bytes[i]) & 255];
  return (value ^ 0xffffffff) >>> 0;
}

/** A zip of files {name, blob}, not compressed, for pictures are already. */
async function zipOf(files) {
  const parts = [], directory = [];
  let at = 0;
  for (const { name, blob } of files) {
    const path = encodedName(name), bytes = new Uint8Array(await blob.arrayBuffer());
    const shared = [20, UTF8, 0, 0, 0x5021]; // version, flags, stored, midnight, the first of January 2020: no clock
    const sizes = [crc32(bytes), bytes.length, bytes.length];
    const header = packed([[4, [0x04034b50]], [2, shared], [4, sizes], [2, [path.length, 0]]]);
    parts.push(header, path, blob);
    directory.push(packed([[4, [0x02014b50]], [2, [20, ...shared]], [4, sizes], [2, [path.length, 0, 0, 0, 0]], [4, [0, at]]]), path);
    at += header.length + path.length + bytes.length;
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0), n = files.length;
  if (n > 65534 || at + size > 0xfffffffe) throw new Error("the project is too large for one zip; save fewer pictures");
  return new Blob([...parts, ...directory, packed([[4, [0x06054b50]], [2, [0, 0, n, n]], [4, [size, at]], [2, [0]]])], { type: "application/zip" });
}

function packed(groups) {
  const bytes = [];
  for (const [size, values] of groups) for (const value of values) for (let i = 0; i < size; i++) bytes.push(Math.floor(value / 256 ** i) & 255);
  return Uint8Array.from(bytes);
}

/**
 * The files of a zip as [{parts, read}]: the parts of its path, and a function to a promise of its bytes.
 * Nothing is unpacked. also: the name of a hidden file that counts, too.
 */
async function filesOfZip(blob, name, also = "") {
  const not = () => new Error(`${name} is not a zip, or is damaged; save it again`);
  const tail = new DataView(await blob.slice(Math.max(0, blob.size - 65557)).arrayBuffer());
  let end = tail.byteLength - 22;
  while (end >= 0 && tail.getUint32(end, true) !== 0x06054b50) end--;
  if (end < 0) throw not();
  const [n, size, start] = [tail.getUint16(end + 10, true), tail.getUint32(end + 12, true), tail.getUint32(end + 16, true)];
  if (n === 0xffff || start === 0xffffffff) throw new Error(`${name} is a zip of 4 GB or of more than 65,534 files; split it`);
  if (n > MOST_MEMBERS) throw new Error(`${name}: expected at most ${MOST_MEMBERS.toLocaleString("en")} members; split the zip`);
  if (start + size > blob.size) throw not();
  const bytes = new Uint8Array(await blob.slice(start, start + size).arrayBuffer()), view = new DataView(bytes.buffer);
  const found = [];
  let at = 0, total = 0;
  for (let i = 0; i < n; i++) {
    if (at + 46 > bytes.length || view.getUint32(at, true) !== 0x02014b50) throw not();
    const [flags, method] = [view.getUint16(at + 8, true), view.getUint16(at + 10, true)];
    const [packedSize, fullSize] = [view.getUint32(at + 20, true), view.getUint32(at + 24, true)];
    const [path, extra, comment] = [28, 30, 32].map((offset) => view.getUint16(at + offset, true));
    const raw = bytes.subarray(at + 46, at + 46 + path), more = bytes.subarray(at + 46 + path, at + 46 + path + extra);
    const shown = nameOf(raw, flags, more);
    const sides = shown.replaceAll("\\", "/").split("/");
    if (/^[/\\]/.test(shown) || shown[1] === ":" || sides.includes("..")) {
      throw new Error(`${name}: the member '${shown.slice(0, 80)}' leads out of the zip; do not trust this file`);
    }
    if (flags & 1) throw new Error(`${name}: '${shown.slice(0, 80)}' is encrypted; make a zip without a password, or unpack it`);
    total += fullSize;
    const parts = sides.filter((part) => part !== "" && part !== ".");
    if (parts.length && !/[/\\]$/.test(shown) && (!parts.some(isLitter) || parts.join("/") === also)) {
      const entry = { offset: view.getUint32(at + 42, true), method, packedSize, fullSize, crc: view.getUint32(at + 16, true) };
      found.push({ parts, read: () => memberOf(blob, entry, `${name}/${parts.join("/")}`) });
    }
    at += 46 + path + extra + comment;
  }
  if (total > Math.max(SLACK, MOST_GROWTH * blob.size)) {
    const [from, to] = [blob.size, total].map((number) => number.toLocaleString("en"));
    throw new Error(`${name}: its ${from} bytes would unpack to ${to}, which looks like a zip bomb; do not trust this file`);
  }
  return found;
}

/** A member's name as its maker meant it: see `images.zips.name_of`. */
function nameOf(raw, flags, extra) {
  let bytes = raw;
  for (let at = 0; at + 4 <= extra.length && !(flags & UTF8);) {
    const [kind, size] = [extra[at] + 256 * extra[at + 1], extra[at + 2] + 256 * extra[at + 3]];
    const field = extra.subarray(at + 4, at + 4 + size);
    const sum = field.length > 5 ? new DataView(field.buffer, field.byteOffset).getUint32(1, true) : -1;
    if (kind === UNICODE_PATH && field[0] === 1 && sum === crc32(raw)) bytes = field.subarray(5);
    at += 4 + size;
  }
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes).split("\0")[0];
  } catch {
    return Array.from(bytes, (byte) => (byte < 128 ? String.fromCharCode(byte) : CP437[byte - 128])).join("");
  }
}

async function memberOf(blob, { offset, method, packedSize, fullSize, crc }, name) {
  const damaged = (why) => new Error(`${name} cannot be read from the zip (${why}); make the zip again`);
  const header = new DataView(await blob.slice(offset, offset + 30).arrayBuffer());
  if (header.byteLength < 30 || header.getUint32(0, true) !== 0x04034b50) throw damaged("its header is missing");
  const start = offset + 30 + header.getUint16(26, true) + header.getUint16(28, true);
  const part = blob.slice(start, start + packedSize);
  if (method !== 0 && method !== 8) throw damaged(`compression ${method} is not read`);
  const stream = method ? part.stream().pipeThrough(new DecompressionStream("deflate-raw")) : part.stream();
  const reader = stream.getReader(), chunks = [];
  let size = 0;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      size += value.length;
      if (size > MOST_BYTES) throw new RangeError(`${name} is larger than 64 MiB; save a smaller copy`);
      chunks.push(value);
    }
  } catch (error) {
    reader.cancel().catch(() => {});
    throw error instanceof RangeError ? new Error(error.message) : damaged("its compressed data are damaged");
  }
  const bytes = new Uint8Array(await new Blob(chunks).arrayBuffer());
  if (bytes.length !== fullSize || crc32(bytes) !== crc) throw damaged("its checksum differs");
  return bytes;
}

/** The classes of a zip in the order of their names: [{name, files}], as `sources.open_source` finds them. */
function classesOf(files, name) {
  const layout = "expected a folder for each class with its pictures inside, such as cat/1.jpg and dog/1.jpg";
  let found = [...files].sort((a, b) => byPath(a.parts, b.parts));
  if (new Set(found.map(({ parts }) => parts[0])).size === 1 && found.every(({ parts }) => parts.length > 2)) {
    found = found.map((file) => ({ ...file, parts: file.parts.slice(1) }));
  }
  const loose = found.filter(({ parts }) => parts.length === 1).map(({ parts }) => parts[0]);
  if (!found.length) throw new Error(`${name}: it is empty; ${layout}`);
  if (loose.length) throw new Error(`${name}: ${loose.slice(0, 3).join(", ")} ${loose.length > 1 ? "are" : "is"} in no class folder; ${layout}`);
  const classes = new Map();
  for (const file of found) {
    const label = file.parts[0].normalize("NFC");
    if (/[\x00-\x1f\x7f-\x9f]/.test(label)) throw new Error(`${name}: a class name contains control characters; rename it`);
    if (!classes.has(label)) classes.set(label, []);
    classes.get(label).push(file);
  }
  return [...classes].sort(([one], [other]) => byCodePoint(one, other)).map(([label, members]) => ({ name: label, files: members }));
}

function byPath(one, other) {
  for (let i = 0; i < Math.min(one.length, other.length); i++) {
    const order = byCodePoint(one[i], other[i]);
    if (order) return order;
  }
  return one.length - other.length;
}
