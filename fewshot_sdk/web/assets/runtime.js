// Fetches what the page runs, onnxruntime-web and the model, and checks each file against its hash in the page.
"use strict";

async function fetched(url, integrity) {
  let response;
  try {
    response = await fetch(url, { integrity });
  } catch (error) {
    const local = location.protocol === "file:";
    const why = local
      ? "browsers load no other files for a page opened from a folder; start `python3 -m http.server` in it and open http://localhost:8000/"
      : "it cannot be reached, or is not the file this page was made with";
    throw new Error(`${url}: ${why} (${error.message})`);
  }
  if (!response.ok) throw new Error(`${url}: the server answers ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}

/** onnxruntime-web and a session for the model. settings: {runtime: {base, script, wasm}, model}, each file as {name, integrity}. */
async function openModel({ runtime, model }) {
  const [code, wasm, graph] = await Promise.all([
    fetched(runtime.base + runtime.script.name, runtime.script.integrity),
    fetched(runtime.base + runtime.wasm.name, runtime.wasm.integrity),
    fetched(model.name, model.integrity),
  ]);
  // neither import() nor the runtime's own loader can check a hash
  const address = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
  const ort = await import(address);
  URL.revokeObjectURL(address);
  ort.env.logLevel = "error";
  ort.env.wasm.numThreads = 1; // a second one needs headers few hosts send, and is no faster on networks this small
  ort.env.wasm.wasmBinary = wasm;
  const session = await ort.InferenceSession.create(graph, { executionProviders: ["wasm"], logSeverityLevel: 3 });
  return { ort, session };
}
