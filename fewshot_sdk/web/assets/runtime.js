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

/** onnxruntime-web and a session for the model. settings: {runtime, model}, see `openRuntime`; model: {name, integrity}. */
async function openModel({ runtime, model }) {
  const [ort, graph] = await Promise.all([openRuntime(runtime), fetched(model.name, model.integrity)]);
  return { ort, session: await openSession(ort, graph) };
}

/** onnxruntime-web. runtime: {base, script, wasm}, each file as {name, integrity}. */
async function openRuntime(runtime) {
  const [code, wasm] = await Promise.all([
    fetched(runtime.base + runtime.script.name, runtime.script.integrity),
    fetched(runtime.base + runtime.wasm.name, runtime.wasm.integrity),
  ]);
  // neither import() nor the runtime's own loader can check a hash
  const address = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
  const ort = await import(address);
  URL.revokeObjectURL(address);
  ort.env.logLevel = "error";
  ort.env.wasm.numThreads = 1; // a second one needs headers few hosts send, and is no faster on networks this small
  ort.env.wasm.wasmBinary = wasm;
  return ort;
}

/** A session for the bytes of a model. */
function openSession(ort, graph) {
  return ort.InferenceSession.create(graph, { executionProviders: ["wasm"], logSeverityLevel: 3 });
}
