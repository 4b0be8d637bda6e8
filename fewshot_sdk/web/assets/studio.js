// The page of `fewshot studio`.
"use strict";
const opening = openStudio(JSON.parse(document.getElementById("settings").textContent));
opening.then(
  () => { document.getElementById("verdict").textContent = "Ready."; },
  (error) => { document.getElementById("verdict").textContent = error.message; },
);
