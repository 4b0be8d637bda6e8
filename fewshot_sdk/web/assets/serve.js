// The page of `fewshot serve`: sends a picture's bytes, or what the camera sees, and shows the answer.
"use strict";
const ROWS = 10;
const QUALITY = 0.95; // of the JPEG of a camera's frame

/** The server's answer as an object. Throws its sentence if it refuses; without a token it asks for one. */
async function asked(path, body) {
  const headers = at("token").value ? { Authorization: `Bearer ${at("token").value}` } : {};
  if (body) headers["Content-Type"] = "application/octet-stream"; // its bytes say what it is
  let response;
  try {
    response = await fetch(path, body ? { method: "POST", body, headers } : { headers });
  } catch (error) {
    throw new Error(`The server does not answer (${error.message}).`);
  }
  const found = await response.json();
  at("ask").hidden = response.status !== 401;
  if (response.status === 401) throw new Error(at("token").value ? "This is not the server's token." : "It needs its token first.");
  if (found.error) throw new Error(found.error);
  return found;
}

async function begin() {
  try {
    const { name, labels } = await asked("labels");
    at("about").textContent = `${name} tells ${labels.length} kinds of pictures apart. Pictures go to the server, which keeps none.`;
    const rows = labels.slice(0, ROWS).map((label) => {
      const row = at("row").content.cloneNode(true);
      row.querySelector(".label").textContent = label;
      return row;
    });
    at("answers").replaceChildren(...rows);
    at("verdict").classList.remove("bad");
    at("verdict").textContent = "Ready.";
  } catch (error) {
    if (at("token").value || at("ask").hidden) complain(error.message);
    else at("verdict").textContent = "It needs its token first.";
  }
}

async function classify(bytes, mine) {
  const began = performance.now();
  const { probabilities, label } = await asked("predict", bytes);
  if (mine === turn) answer(Object.entries(probabilities), label !== null, began);
}

at("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  begin();
});
at("picture").addEventListener("error", () => { // the server reads kinds of files that a browser does not
  at("hint").textContent = "No preview of this kind of picture";
  show(at("hint"));
});
takeTurns({
  file: async (chosen, mine) => {
    URL.revokeObjectURL(at("picture").src);
    at("hint").textContent = "Drop a picture here";
    at("picture").src = URL.createObjectURL(chosen);
    show(at("picture"));
    await classify(chosen, mine);
  },
  frame: async (video, mine) => {
    const canvas = Object.assign(document.createElement("canvas"), { width: video.videoWidth, height: video.videoHeight });
    canvas.getContext("2d").drawImage(video, 0, 0);
    await classify(await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", QUALITY)), mine);
  },
});
begin();
