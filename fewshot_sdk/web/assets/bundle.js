// The page of `fewshot export --bundle`: classifies a picture, or what the camera sees.
"use strict";
const settings = JSON.parse(at("settings").textContent);
const opening = openModel(settings);
const MANY = 2 ** 19; // pixels

opening.then(
  () => { if (!turn) at("verdict").textContent = "Ready."; },
  (error) => complain(error.message),
);

/** Classifies a picture, as of `pixelsOf`, and shows the answer; the graph does the preprocessing, if it is small. */
async function classify(picture, mine) {
  const { ort, session } = await opening;
  const began = performance.now();
  const large = picture.width * picture.height > MANY;
  const { data, width, height } = (large && standIn(picture, settings.preprocessing)) || picture;
  const outputs = await session.run({ images: new ort.Tensor("uint8", data, [1, height, width, 3]) });
  if (mine !== turn) return;
  const probabilities = Array.from(outputs.probabilities.data);
  answer(probabilities.map((p, i) => [settings.labels[i], p]), outputs.known.data[0], began);
}

takeTurns({
  file: async (chosen, mine) => {
    const picture = await readPicture(chosen), { canvas } = picture;
    if (mine !== turn) return;
    show(at("picture"));
    Object.assign(at("picture"), { width: canvas.width, height: canvas.height });
    at("picture").getContext("2d").drawImage(canvas, 0, 0);
    await classify(picture, mine);
  },
  frame: (video, mine) => classify(pixelsOf(video, video.videoWidth, video.videoHeight), mine),
});
