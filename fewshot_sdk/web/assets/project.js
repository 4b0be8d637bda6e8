// The studio's face: `openStudio(settings)` starts workers that read pictures, and one that holds the project and the networks.
"use strict";

/**
 * The studio, once the networks are loaded. All its functions return promises, and reject with an Error whose message is
 * a plain sentence.
 * settings: what `studio_site` puts into the page: {photographs, labelsMax, origin, stepsDefault, unknown, heatMap, ...}.
 */
async function openStudio(settings) {
  const { preprocessing } = settings, core = workerOf("studio_worker.js");
  const most = Math.min((navigator.hardwareConcurrency ?? 2) - 1, (navigator.deviceMemory ?? 2) < 4 ? 2 : 4); // 0.3 GB for each
  // all begin now: once the site has changed, their script might be another
  const readers = Array.from({ length: Math.max(1, most) }, () => workerOf("reading_worker.js"));
  let turn = 0;

  /** Reads with the next of the readers. */
  function reading(what, given, transfer) {
    return readers[turn++ % readers.length](what, { ...given, preprocessing }, transfer);
  }

  /** Keeps a picture: a file, or what a canvas or video shows. {id, name, thumbnail, findings}; thumbnail: a Blob. */
  async function addPicture(source, called) {
    const blob = source instanceof Blob ? source : await frameOf(source), name = called ?? blob.name ?? "camera.jpg";
    const read = await reading("read", { blob, name });
    const { id, findings } = await core("keep", { ...read, blob, name });
    return { id, name, thumbnail: read.thumbnail, findings };
  }

  /** The files of a zip of class folders, to be added: [{name, folder, files, findings}]; findings: those not readable. */
  const unpack = (blob) => core("unpack", { blob, name: blob.name ?? "the zip" });

  /** Adds pictures of one class of a zip: {name, pictures, findings}; findings: those that are none. */
  async function addAll({ name, folder, files, findings }) {
    const refused = (file, text) => ({
      severity: "error", code: "unreadable", pictures: [], message: text.startsWith(file.name) ? `${folder}/${text}` : text,
    });
    const found = await Promise.all(files.map((file) => addPicture(file).catch(({ message }) => refused(file, message))));
    return { name, pictures: found.filter(({ id }) => id), findings: [...findings, ...found.filter(({ id }) => !id)] };
  }

  await core("open", settings);
  return {
    settings,
    addPicture,
    removePicture: (id) => core("remove", { id }),

    /** {recognized, total, milliseconds, findings, leastScore}. classes: [{name, pictures: ids}]. */
    fit: (classes, { steps } = {}) => core("fit", { classes, steps }),

    /**
     * {label, nearest, known, probabilities, heatMap, milliseconds}. probabilities: in the order of the classes given to
     * `fit`; label: null if not known. heatMap: {data, height, width, box} or null; box: the part of the picture that it
     * covers, {left, top, width, height}, as shares of the picture's sides.
     */
    async classify(source, { heatMap = false } = {}) {
      const began = performance.now(), bitmap = source instanceof Blob ? null : await bitmapOf(source);
      const { seen, box } = await (bitmap ? reading("look", { bitmap }, [bitmap]) : reading("look", { blob: source }));
      const found = await core("classify", { seen, heatMap });
      return { ...found, heatMap: found.heatMap && { ...found.heatMap, box }, milliseconds: performance.now() - began };
    },

    /** [{severity, code, message, pictures: ids}], errors first. */
    findings: (classes) => core("findings", { classes }),

    /** The zip of class folders that `fewshot adapt --support` takes. */
    projectZip: (classes, { steps } = {}) => core("zip", { classes, steps }),

    unpack,

    /** Adds all pictures of a zip: [{name, pictures: [{id, name, thumbnail, findings}], findings}], by class. */
    openProject: async (blob) => Promise.all((await unpack(blob)).map(addAll)),

    /** The classifier of the last `fit` as an ONNX file. */
    modelOnnx: () => core("model", {}),

    /** How often each network ran, for tests. */
    runs: () => core("runs", {}),
  };
}

/** A function that asks a new worker: (what, given, transfer) -> a promise of its answer. */
function workerOf(script) {
  const worker = new Worker(script), waiting = new Map();
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
  return (what, given, transfer = []) => {
    if (broken) return Promise.reject(broken);
    return new Promise((resolve, reject) => {
      waiting.set(++number, { resolve, reject });
      worker.postMessage({ id: number, what, given }, transfer);
    });
  };
}

async function bitmapOf(source) {
  try {
    return await createImageBitmap(source, { colorSpaceConversion: "none" });
  } catch {
    throw new Error("there is no picture to see yet; try again");
  }
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
