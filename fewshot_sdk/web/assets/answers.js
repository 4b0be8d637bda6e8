// What the pages of a bundle and of the server share: a chosen picture or the camera, and the answer.
"use strict";
const at = (id) => document.getElementById(id);
let camera = null; // the stream, while it is on
let turn = 0; // counts requests; the answer to an older one is not shown

/** Starts the page. file and frame classify a chosen file and what a video shows; both get the number of their turn. */
function takeTurns({ file, frame }) {
  const useFile = async (chosen) => {
    stopCamera();
    const mine = ++turn;
    try {
      at("verdict").classList.remove("bad");
      at("verdict").textContent = "\u2026";
      await file(chosen, mine);
    } catch (error) {
      if (mine === turn) complain(error.message);
    }
  };
  takePictures(at("drop"), at("file"), useFile);
  at("camera").addEventListener("click", () => (camera ? stopCamera() : useCamera(frame)));
}

async function useCamera(frame) {
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
      await frame(at("video"), mine);
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

/** Shows an answer: pairs of label and probability in any order, whether a label is known, and since when it took. */
function answer(pairs, known, began) {
  const [nearest, ...others] = pairs.sort((a, b) => b[1] - a[1]);
  at("verdict").classList.remove("bad");
  at("verdict").textContent = known ? nearest[0] : `Unknown; nearest is ${nearest[0]}`;
  fill((i) => { const [label, p] = [nearest, ...others][i]; return [label, `${(100 * p).toFixed(1)} %`, p]; });
  at("time").textContent = `${Math.round(performance.now() - began)} ms`;
  document.body.dataset.answers = Number(document.body.dataset.answers ?? 0) + 1;
}

/** Fills the rows, each with a label, a number and a bar. */
function fill(what) {
  [...at("answers").children].forEach((row, i) => {
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
