// The SDK's preprocessing (images/preprocessing.py, with Pillow's resampling), to the same bytes; tests/browser compares.
"use strict";

/** A picture, as of `pixelsOf`, as the network's input: Uint8Array (height x width x channels). */
function preprocess(picture, settings) {
  const { channels, width, height } = settings;
  let image = channels === 1 ? grey(picture) : picture;
  if (settings.polarity === "dark_on_light" && average(grey(picture)) < 127.5) image = inverted(image);
  if (settings.fit !== "pad") image = cropped(image, settings);
  if (settings.fit === "pad") image = padded(image, width, height);
  if (image.width === width && image.height === height) return image.data;
  if (settings.resize === "nearest") return nearest(image, width, height).data;
  const filter = FILTERS[settings.resize];
  const wide = resized(image, width, filter); // columns first, for each pass rounds to bytes
  return transposed(resized(transposed(wide), height, filter)).data;
}

/**
 * A small picture with the same network's input as this one, or null if none is known: the graph takes pictures of any
 * size, but needs 8 bytes for each colour of each pixel. See images/preprocessing.py. known: its pixels, if they are.
 */
function standIn(picture, settings, known) {
  const { width, height, channels } = settings, pixels = known ?? preprocess(picture, settings);
  const frame = framed(settings);
  if (!frame) return null;
  const data = channels === 3 ? pixels : Uint8Array.from({ length: 3 * pixels.length }, (_, i) => pixels[Math.trunc(i / 3)]);
  const [w, h] = frame;
  const small = placed({ data, width, height, channels: 3 }, w, h, Math.floor((w - width) / 2), Math.floor((h - height) / 2));
  return preprocess(small, settings).every((value, i) => value === pixels[i]) ? small : null;
}

/** Width and height of a picture of which `cropped` keeps exactly as many pixels as the network has, or undefined. */
function framed(settings) {
  const { width, height, kept = 1 } = settings;
  const [wide, high] = [width, height].map((side) =>
    Array.from({ length: 9 * side + 1 }, (_, i) => side + i).filter((n) => halfToEven(kept * n) === side));
  const frames = wide.flatMap((w) => high.map((h) => [w, h]));
  return frames.find(([w, h]) => settings.fit === "pad" || String(keptOf(w, h, settings)) === String([width, height]));
}

function grey({ data, width, height }) {
  const found = new Uint8Array(width * height);
  for (let i = 0; i < found.length; i++) {
    found[i] = (data[3 * i] * 19595 + data[3 * i + 1] * 38470 + data[3 * i + 2] * 7471 + 0x8000) >> 16;
  }
  return { data: found, width, height, channels: 1 };
}

function average({ data }) {
  return data.reduce((sum, value) => sum + value, 0) / data.length;
}

function inverted(image) {
  return { ...image, data: image.data.map((value) => 255 - value) };
}

/** The picture at (left, top) of a canvas of another size, white where there is none. */
function placed(image, width, height, left, top) {
  const { channels } = image;
  const data = new Uint8Array(width * height * channels).fill(255);
  for (let y = Math.max(0, top); y < Math.min(height, top + image.height); y++) {
    const from = (y - top) * image.width + Math.max(0, -left);
    const n = Math.min(image.width - Math.max(0, -left), width - Math.max(0, left));
    data.set(image.data.subarray(from * channels, (from + n) * channels), (y * width + Math.max(0, left)) * channels);
  }
  return { data, width, height, channels };
}

/** The part of a picture that the network sees: {left, top, width, height} in pixels; white is added around a padded one. */
function seenBox(width, height, settings) {
  let [w, h] = [width, height];
  if (settings.fit === "pad") {
    w = Math.max(width, halfToEven((height * settings.width) / settings.height));
    h = Math.max(height, halfToEven((width * settings.height) / settings.width));
    return { left: 0 - Math.floor((w - width) / 2), top: 0 - Math.floor((h - height) / 2), width: w, height: h };
  }
  [w, h] = keptOf(width, height, settings);
  return { left: Math.floor((width - w) / 2), top: Math.floor((height - h) / 2), width: w, height: h };
}

/** Width and height of the middle that remains of a picture. */
function keptOf(width, height, { fit, kept = 1, ...wanted }) {
  const even = (side, one, other) => (fit === "crop" ? Math.max(1, halfToEven((side * one) / other)) : Infinity);
  const widest = Math.min(width, even(height, wanted.width, wanted.height));
  const highest = Math.min(height, even(width, wanted.height, wanted.width));
  return [widest, highest].map((side) => Math.max(1, halfToEven(kept * side)));
}

function cropped(image, settings) {
  const [w, h] = keptOf(image.width, image.height, settings);
  if (w === image.width && h === image.height) return image;
  return placed(image, w, h, -Math.floor((image.width - w) / 2), -Math.floor((image.height - h) / 2));
}

function padded(image, width, height) {
  const w = Math.max(image.width, halfToEven((image.height * width) / height));
  const h = Math.max(image.height, halfToEven((image.width * height) / width));
  return placed(image, w, h, Math.floor((w - image.width) / 2), Math.floor((h - image.height) / 2));
}

function halfToEven(x) { // Python's round
  const low = Math.floor(x);
  return x - low === 0.5 ? low + (low % 2) : Math.round(x);
}

const FILTERS = {
  box: { reach: 0.5, at: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0) },
  bilinear: { reach: 1, at: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: { reach: 2, at: (x) => cubic(Math.abs(x)) },
};

function cubic(x) {
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0;
}

const BITS = 22, HALF = 2 ** (BITS - 1); // of a weight's fraction; each of the two passes rounds to bytes

/** The image with its rows resampled to another length. */
function resized(image, width, filter) {
  if (image.width === width) return image;
  const { height, channels, data: from } = image, columns = columnsOf(image.width, width, filter);
  const data = new Uint8ClampedArray(width * height * channels);
  for (let y = 0, to = 0; y < height; y++) { // row by row: a photograph is larger than a processor's cache
    const row = y * image.width * channels;
    for (const { first, weights } of columns) {
      let at = row + first * channels;
      if (channels === 3) {
        let [red, green, blue] = [HALF, HALF, HALF];
        for (let i = 0; i < weights.length; i++, at += 3) {
          const weight = weights[i];
          red += from[at] * weight;
          green += from[at + 1] * weight;
          blue += from[at + 2] * weight;
        }
        data[to] = red >> BITS;
        data[to + 1] = green >> BITS;
        data[to + 2] = blue >> BITS;
      } else {
        let sum = HALF;
        for (let i = 0; i < weights.length; i++) sum += from[at + i] * weights[i];
        data[to] = sum >> BITS;
      }
      to += channels;
    }
  }
  return { data: new Uint8Array(data.buffer), width, height, channels };
}

/** For each new column the first of the old ones that it is made of, and their weights, Int32Array. */
function columnsOf(length, width, filter) {
  const scale = length / width, stretch = Math.max(1, scale), reach = filter.reach * stretch;
  return Array.from({ length: width }, (_, x) => {
    const centre = (x + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - reach + 0.5));
    const last = Math.min(length, Math.trunc(centre + reach + 0.5));
    const raw = Array.from({ length: last - first }, (_, i) => filter.at((i + first - centre + 0.5) / stretch));
    const total = raw.reduce((sum, weight) => sum + weight, 0);
    return { first, weights: Int32Array.from(raw, (weight) => Math.trunc((weight / total) * 2 ** BITS + (weight < 0 ? -0.5 : 0.5))) };
  });
}

function transposed({ data, width, height, channels }) {
  const found = new Uint8Array(data.length);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let c = 0; c < channels; c++) found[(x * height + y) * channels + c] = data[(y * width + x) * channels + c];
    }
  }
  return { data: found, width: height, height: width, channels };
}

function nearest(image, width, height) {
  const { channels } = image;
  const data = new Uint8Array(width * height * channels);
  const [columns, rows] = [picked(image.width, width), picked(image.height, height)];
  rows.forEach((row, y) => columns.forEach((column, x) => {
    const from = (row * image.width + column) * channels;
    data.set(image.data.subarray(from, from + channels), (y * width + x) * channels);
  }));
  return { data, width, height, channels };
}

function picked(length, n) { // summed step by step, as in Pillow, for the same rounding
  const found = [];
  for (let at = length / n / 2; found.length < n; at += length / n) found.push(Math.trunc(at));
  return found;
}
