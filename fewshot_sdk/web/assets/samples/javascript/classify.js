// Classifies pictures with model.onnx, in Node.js 20.9 or newer:
//   npm install
//   node classify.js ../../model.onnx PICTURE...
import { readFileSync } from "node:fs";
import { InferenceSession, Tensor } from "onnxruntime-node";
import sharp from "sharp";

/** What the file says of itself. onnxruntime-node does not tell, so this finds the entry in ONNX's protocol buffer. */
function metadata(file) {
  const entry = "\x0a\x0bfewshot_sdk\x12"; // a key of 11 bytes and, as a varint, the length of its value
  let at = file.lastIndexOf(entry) + entry.length;
  let length = 0;
  for (let shift = 0, more = true; more; shift += 7, at += 1) {
    length |= (file[at] & 127) << shift;
    more = file[at] > 127;
  }
  return JSON.parse(file.toString("utf8", at, at + length));
}

/** A picture as a person sees it: upright, 8 bits, on white where transparent; uint8 (1, height, width, 3). */
async function read(path) {
  const image = sharp(path, { ignoreIcc: true, limitInputPixels: 50_000_000 });
  const { space, depth } = await image.metadata();
  if (space === "cmyk") throw new Error("CMYK; convert it to RGB");
  if (!["uchar", "ushort"].includes(depth)) throw new Error("its numbers have no defined black and white");
  const upright = image.rotate().toColourspace("srgb").ensureAlpha();
  const { data, info } = await upright.raw({ depth: "uchar" }).toBuffer({ resolveWithObject: true });
  const pixels = new Uint8Array(info.width * info.height * 3);
  for (let from = 0, to = 0; from < data.length; from += 4) {
    const alpha = data[from + 3];
    for (let c = 0; c < 3; c += 1) {
      pixels[to++] = Math.floor((data[from + c] * alpha + 255 * (255 - alpha) + 127) / 255);
    }
  }
  return new Tensor("uint8", pixels, [1, info.height, info.width, 3]);
}

const [model, ...paths] = process.argv.slice(2);
if (!paths.length) throw new Error("usage: node classify.js model.onnx PICTURE...");
const file = readFileSync(model);
const { labels } = metadata(file);
const session = await InferenceSession.create(file, { logSeverityLevel: 3 });
for (const path of paths) {
  try {
    const { label, probabilities, known } = await session.run({ images: await read(path) });
    const best = Number(label.data[0]);
    console.log(`${path}  ${known.data[0] ? labels[best] : "unknown"}  ${probabilities.data[best].toFixed(6)}`);
  } catch (error) {
    console.error(`${path} cannot be read: ${error.message}`);
  }
}
