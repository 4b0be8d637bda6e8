// The studio's face: `openStudio(settings)` starts a worker that holds the pictures and the networks.
"use strict";

/**
 * The studio, once the networks are loaded. All its functions return promises, and reject with an Error whose message is
 * a plain sentence.
 * settings: what `studio_site` puts into the page: {photographs, labelsMax, origin, steps, movesAll, unknown, ...}.
 */
async function openStudio(settings) {
  const worker = new Worker("studio_worker.js"), waiting = new Map();
  let number = 0, broken = null;

  worker.onmessage = ({ data: { id, found, error } }) => {
    const { resolve, reject } = waiting.get(id);
    waiting.delete(id);
    if (error === undefined) resolve(found);
    else reject(new Error(error));
  };
  worker.onerror = (event) => {
    broken = new Error(event.message || "the browser could not start the studio");
    for (const { reject } of waiting.values()) reject(broken);
    waiting.clear();
  };

  function ask(what, given, transfer = []) {
    if (broken) return Promise.reject(broken);
    return new Promise((resolve, reject) => {
      waiting.set(++number, { resolve, reject });
      worker.postMessage({ id: number, what, given }, transfer);
    });
  }

  await ask("open", settings);
  return {
    settings,

    /** Keeps a picture: a file, or what a canvas or video shows. {id, name, thumbnail, findings}; thumbnail: a Blob. */
    async addPicture(source, name) {
      const blob = source instanceof Blob ? source : await frameOf(source);
      return ask("add", { blob, name: name ?? blob.name ?? "camera.jpg" });
    },

    removePicture: (id) => ask("remove", { id }),

    /** {recognized, total, milliseconds, findings, leastScore}. classes: [{name, pictures: ids}]. */
    fit: (classes, { steps } = {}) => ask("fit", { classes, steps }),

    /**
     * {label, nearest, known, probabilities, heatMap, milliseconds}. probabilities: in the order of the classes given to
     * `fit`; label: null if not known. heatMap: {data, height, width, box} or null; box: the part of the picture that it
     * covers, {left, top, width, height}, as shares of the picture's sides.
     */
    async classify(source, { heatMap = false } = {}) {
      if (source instanceof Blob) return ask("classify", { blob: source, heatMap });
      const bitmap = await createImageBitmap(source, { colorSpaceConversion: "none" });
      return ask("classify", { bitmap, heatMap }, [bitmap]);
    },

    /** [{severity, code, message, pictures: ids}], errors first. */
    findings: (classes) => ask("findings", { classes }),

    /** The zip of class folders that `fewshot adapt --support` takes. */
    projectZip: (classes, { steps } = {}) => ask("zip", { classes, steps }),

    /** The files of a zip of class folders, to be added: [{name, folder, files, findings}]; findings: those not readable. */
    unpack: (blob) => ask("unpack", { blob, name: blob.name ?? "the zip" }),

    /** Adds all pictures of a zip: [{name, pictures: [{id, name, thumbnail, findings}], findings}]; findings as of `unpack`. */
    async openProject(blob) {
      const found = [];
      for (const { name, folder, files, findings } of await this.unpack(blob)) {
        const pictures = [], complaints = [...findings];
        for (const file of files) {
          try {
            pictures.push(await this.addPicture(file));
          } catch ({ message }) {
            const named = message.startsWith(file.name) ? `${folder}/${message}` : message;
            complaints.push({ severity: "error", code: "unreadable", message: named, pictures: [] });
          }
        }
        found.push({ name, pictures, findings: complaints });
      }
      return found;
    },

    /** The classifier of the last `fit` as an ONNX file. */
    modelOnnx: () => ask("model", {}),

    /** How often each network ran, for tests. */
    runs: () => ask("runs", {}),
  };
}

/** What a canvas or video shows, as the bytes of a picture. */
async function frameOf(source) {
  let canvas = source;
  if (!(source instanceof HTMLCanvasElement)) {
    const [width, height] = [source.videoWidth ?? source.displayWidth ?? source.width, source.videoHeight ?? source.displayHeight ?? source.height];
    canvas = Object.assign(document.createElement("canvas"), { width, height });
    canvas.getContext("2d").drawImage(source, 0, 0);
  }
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.95));
  if (!blob) throw new Error("the camera shows no picture yet; try again");
  return blob;
}
