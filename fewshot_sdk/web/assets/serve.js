// The page of `fewshot serve`: sends a picture's bytes and shows the answer.
"use strict";
const at = (id) => document.getElementById(id);

async function ask(file) {
  at("picture").src = URL.createObjectURL(file);
  at("picture").hidden = false;
  at("verdict").textContent = "...";
  at("table").replaceChildren();
  const headers = { "Content-Type": "application/octet-stream" }; // its bytes say what it is
  if (at("token").value) headers.Authorization = `Bearer ${at("token").value}`;
  try {
    const response = await fetch("predict", { method: "POST", body: file, headers });
    const answer = await response.json();
    if (response.status === 401) at("ask").hidden = false;
    at("verdict").textContent = answer.error ?? answer.label ?? `unknown; nearest is ${answer.nearest}`;
    const rows = Object.entries(answer.probabilities ?? {}).sort((a, b) => b[1] - a[1]).slice(0, 20);
    for (const [label, probability] of rows) {
      const row = at("table").insertRow();
      row.insertCell().textContent = label;
      row.insertCell().append(Object.assign(document.createElement("meter"), { value: probability }));
      row.insertCell().textContent = `${(100 * probability).toFixed(1)} %`;
    }
  } catch (error) {
    at("verdict").textContent = `The server does not answer (${error.message}).`;
  }
}

at("file").addEventListener("change", () => at("file").files[0] && ask(at("file").files[0]));
for (const kind of ["dragover", "dragleave", "drop"]) {
  at("drop").addEventListener(kind, (event) => {
    event.preventDefault();
    at("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files[0]) ask(event.dataTransfer.files[0]);
  });
}
