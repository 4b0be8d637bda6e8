// The worker's end of a conversation that `workerOf` in project.js begins.
"use strict";

/** Answers each message {id, what, given} with {id, found} or {id, error}, by these functions, one after another. */
function answers(tasks) {
  let last = Promise.resolve();
  onmessage = ({ data: { id, what, given } }) => {
    last = last.then(async () => {
      try {
        postMessage({ id, found: await tasks[what](given) });
      } catch (error) {
        postMessage({ id, error: error.message ?? String(error) });
      }
    });
  };
}
