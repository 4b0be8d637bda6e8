// Reads pictures in a thread of its own: to what the networks see, and to what the doctor compares.
"use strict";
importScripts("pictures.js", "pixels.js", "doctor.js", "zips.js", "conversation.js");

const SHOWN_SIDE = 320; // pixels

answers({ read, look });

/** A picture file for a project: {width, height, digest, thumb, thumbnail, seen, pixels}; seen: what the graph is given. */
async function read({ blob, name, preprocessing }) {
  const picture = await readPicture(blob instanceof File ? blob : new File([blob], name), SHOWN_SIDE), { width, height } = picture;
  const pixels = preprocess(picture, preprocessing);
  return {
    width, height, pixels, thumb: thumbOf(picture), seen: seenOf(picture, preprocessing, pixels),
    thumbnail: await picture.canvas.convertToBlob({ type: "image/jpeg", quality: 0.85 }), digest: await digestOf(blob),
  };
}

/** A picture to be classified, a file or a bitmap: {seen, box}; box: the part that is seen, as shares of its sides. */
async function look({ blob, bitmap, preprocessing }) {
  const picture = blob ? await readPicture(blob, 1) : pixelsOf(bitmap, bitmap.width, bitmap.height);
  bitmap?.close();
  const { width, height } = picture, { left, top, width: w, height: h } = seenBox(width, height, preprocessing);
  return { seen: seenOf(picture, preprocessing), box: { left: left / width, top: top / height, width: w / width, height: h / height } };
}

function seenOf(picture, preprocessing, pixels) {
  const { data, width, height } = standIn(picture, preprocessing, pixels) ?? picture;
  return { data, width, height };
}

/** What tells files apart: SHA-256 where the browser has it (pages over https and of this machine), else two checksums. */
async function digestOf(blob) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  if (!self.crypto?.subtle) return `${bytes.length} ${crc32(bytes)} ${bytes.reduce((sum, value) => (Math.imul(sum, 31) + value) >>> 0, 7)}`;
  return Array.from(new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
