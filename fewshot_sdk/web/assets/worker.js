// Runs the learner in its own thread, so that drawing never waits for it.
"use strict";
importScripts("runtime.js");

let opened;

onmessage = async ({ data }) => {
  try {
    if (data.settings) {
      opened = await openModel(data.settings);
      postMessage({ ready: true });
      return;
    }
    postMessage({ id: data.id, ...(await adapted(data)) });
  } catch (error) {
    postMessage({ id: data.id, error: error.message ?? String(error) });
  }
};

/** The probabilities of one query after some gradient steps on the support set, and the milliseconds they took. */
async function adapted({ support, query, shape, steps, rate }) {
  const { ort, session } = opened;
  const n = support.length;
  const images = new Uint8Array(n * query.length);
  support.forEach((pixels, i) => images.set(pixels, i * query.length));
  const feeds = {
    support: new ort.Tensor("uint8", images, [n, ...shape]),
    labels: new ort.Tensor("int64", BigInt64Array.from({ length: n }, (_, i) => BigInt(i)), [n]),
    queries: new ort.Tensor("uint8", query, [1, ...shape]),
    steps: new ort.Tensor("int64", BigInt64Array.of(BigInt(steps)), []),
    learning_rate: new ort.Tensor("float32", Float32Array.of(rate), []),
  };
  const began = performance.now();
  const { probabilities } = await session.run(feeds, ["probabilities"]);
  return { probabilities: Array.from(probabilities.data), milliseconds: performance.now() - began };
}
