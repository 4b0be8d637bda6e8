// The page of `fewshot export --bundle`: classifies a picture, or what the camera sees.
"use strict";
const at = (id) => document.getElementById(id);
const settings = JSON.parse(at("settings").textContent);
const rows = [...at("answers").children];
const opening = openModel(settings);
const MANY = 2 ** 19; // pixels
let camera = null; // the stream, while it is on
let turn = 0; // counts requests; the answer to an older one is not shown

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
  const order = probabilities.map((_, i) => i).sort((a, b) => probabilities[b] - probabilities[a]);
  const nearest = settings.labels[order[0]];
  at("verdict").classList.remove("bad");
  at("verdict").textContent = outputs.known.data[0] ? nearest : `Unknown; nearest is ${nearest}`;
  fill((i) => [settings.labels[order[i]], `${(100 * probabilities[order[i]]).toFixed(1)} %`, probabilities[order[i]]]);
  at("time").textContent = `${Math.round(performance.now() - began)} ms`;
  document.body.dataset.answers = Number(document.body.dataset.answers ?? 0) + 1;
}

async function useFile(file) {
  stopCamera();
  const mine = ++turn;
  try {
    const picture = await readPicture(file), { canvas } = picture;
    if (mine !== turn) return;
    show(at("picture"));
    Object.assign(at("picture"), { width: canvas.width, height: canvas.height });
    at("picture").getContext("2d").drawImage(canvas, 0, 0);
    at("verdict").textContent = "\u2026";
    await classify(picture, mine);
  } catch (error) {
    complain(error.message);
  }
}

async function useCamera() {
  const mine = ++turn;
  try {
    if (!navigator.mediaDevices) throw new Error("browsers give the camera only to https:// and localhost pages");
    const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment", width: { ideal: 640 } } });
    if (mine !== turn) {
      stream.getTracks().forEach((track) => track.stop());
      return;
    }
    camera = stream;
    at("camera").textContent = "Stop the camera";
    at("camera").setAttribute("aria-pressed", "true");
    at("video").srcObject = stream;
    await at("video").play();
    show(at("video"));
    while (mine === turn) {
      await classify(pixelsOf(at("video"), at("video").videoWidth, at("video").videoHeight), mine);
      await new Promise((resolve) => setTimeout(resolve, 60)); // keeps the page responsive
    }
  } catch (error) {
    if (mine !== turn) return;
    stopCamera();
    complain(error.name === "NotAllowedError" ? "The camera was not allowed." : `No camera: ${error.message}`);
  }
}

function stopCamera() {
  if (!camera) return;
  turn++;
  camera.getTracks().forEach((track) => track.stop());
  camera = null;
  at("video").srcObject = null;
  at("camera").textContent = "Use the camera";
  at("camera").setAttribute("aria-pressed", "false");
  show(at("hint"));
}

function show(one) {
  for (const each of [at("hint"), at("picture"), at("video")]) each.hidden = each !== one;
}

/** Fills the rows, each with a label, a number and a bar. */
function fill(what) {
  rows.forEach((row, i) => {
    const [label, number, share] = what(i);
    row.querySelector(".label").textContent = label;
    row.querySelector(".number").textContent = number;
    row.querySelector(".bar").style.setProperty("--share", share);
  });
}

function complain(text) {
  fill(() => ["", "", 0]); // the answer still shown is about the picture before
  at("verdict").classList.add("bad");
  at("verdict").textContent = text;
}

takePictures(at("drop"), at("file"), useFile);
at("camera").addEventListener("click", () => (camera ? stopCamera() : useCamera()));
