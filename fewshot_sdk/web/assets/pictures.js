// Reads the pictures that people choose, drop or take, as images/decoding.py does.
"use strict";

const MAX_MIB = 64, MAX_SIDE = 16384, MAX_PIXELS = 50_000_000;
const READ = /^(\xff\xd8\xff|\x89PNG|RIFF[^]{4}WEBP|[^]{4}ftyp|BM|GIF8|II\*\0|MM\0\*)/; // how files of these formats begin
const STRIP = 2 ** 20; // pixels drawn at a time: some browsers have no canvas for a whole photograph
const SHOWN = 1024; // pixels a side of what is shown, if nothing else is asked for

/**
 * A picture file as a person sees it, upright: { data, width, height, channels, canvas }, with all its pixels as of
 * `pixelsOf`, and a small canvas to show, of at most `side` pixels a side. Throws if it is not a picture, or too large.
 */
async function readPicture(file, side = SHOWN) {
  const name = file.name || "this";
  if (file.size > MAX_MIB * 2 ** 20) throw new Error(`${name} is larger than ${MAX_MIB} MiB; save a smaller copy`);
  const start = new Uint8Array(await file.slice(0, 12).arrayBuffer());
  if (!start.length) throw new Error(`${name} is empty (0 bytes); remove it or copy the picture there again`);
  if (!READ.test(String.fromCharCode(...start))) {
    throw new Error(`${name} is not a picture this program reads (JPEG, PNG, WebP, HEIC, AVIF, BMP, GIF, TIFF); convert or remove it`);
  }
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image", colorSpaceConversion: "none", premultiplyAlpha: "none" });
  } catch {
    throw new Error(`${name} is not a picture that this browser can read; save it as JPEG or PNG`);
  }
  try {
    const { width, height } = bitmap;
    if (Math.max(width, height) > MAX_SIDE || width * height > MAX_PIXELS) {
      const most = `at most ${MAX_SIDE.toLocaleString("en")} a side and ${MAX_PIXELS.toLocaleString("en")} in total are read`;
      throw new Error(`${name} is ${width} x ${height} pixels; ${most}, so save a smaller copy`);
    }
    return { ...pixelsOf(bitmap, width, height), canvas: shown(bitmap, side) };
  } finally {
    bitmap.close();
  }
}

/** The pixels of a canvas, bitmap or video, on white: { data: Uint8Array (height x width x 3), width, height, channels }. */
function pixelsOf(source, width, height) {
  const data = new Uint8Array(width * height * 3), rows = Math.min(height, Math.max(1, Math.floor(STRIP / width)));
  const canvas = canvasOf(width, rows);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  for (let top = 0, to = 0; top < height; top += rows) {
    const n = Math.min(rows, height - top);
    context.clearRect(0, 0, width, rows);
    context.drawImage(source, 0, top, width, n, 0, 0, width, n);
    const part = context.getImageData(0, 0, width, n).data;
    for (let i = 0; i < part.length; i += 4) {
      const alpha = part[i + 3], opaque = alpha === 255;
      data[to++] = opaque ? part[i] : onWhite(part[i], alpha);
      data[to++] = opaque ? part[i + 1] : onWhite(part[i + 1], alpha);
      data[to++] = opaque ? part[i + 2] : onWhite(part[i + 2], alpha);
    }
  }
  return { data, width, height, channels: 3 };
}

/** A canvas, in a page or in a worker. */
function canvasOf(width, height) {
  if (typeof document === "undefined") return new OffscreenCanvas(width, height);
  return Object.assign(document.createElement("canvas"), { width, height });
}

function onWhite(value, alpha) { // rounded as in Pillow's alpha_composite
  const sum = value * alpha + 255 * (255 - alpha) + 128;
  return (sum + (sum >> 8)) >> 8;
}

function shown(bitmap, side) {
  const shrink = Math.min(1, side / Math.max(bitmap.width, bitmap.height));
  const [width, height] = [bitmap.width, bitmap.height].map((length) => Math.max(1, Math.round(length * shrink)));
  const canvas = canvasOf(width, height);
  const context = canvas.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  return canvas;
}

/** Calls `use` with each file that is chosen with the input or dropped on the element. */
function takePictures(element, input, use) {
  input.addEventListener("change", () => {
    if (input.files[0]) use(input.files[0]);
    input.value = ""; // the same file may be chosen again
  });
  for (const kind of ["dragover", "dragleave", "drop"]) {
    element.addEventListener(kind, (event) => {
      event.preventDefault();
      element.classList.toggle("over", kind === "dragover");
      if (kind === "drop" && event.dataTransfer.files[0]) use(event.dataTransfer.files[0]);
    });
  }
}
