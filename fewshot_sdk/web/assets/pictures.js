// Reads the pictures that people choose, drop or take.
"use strict";

const LARGEST = 1024; // pixels a side; a larger picture is scaled down first, which changes next to nothing

/** A picture file as a canvas, as a person sees it: upright, on white where transparent. Throws if it is not a picture. */
async function readPicture(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  } catch {
    throw new Error(`${file.name || "this"} is not a picture that this browser can read`);
  }
  const shrink = Math.min(1, LARGEST / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * shrink));
  canvas.height = Math.max(1, Math.round(bitmap.height * shrink));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
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
