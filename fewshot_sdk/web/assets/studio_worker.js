// Holds the studio's project and networks in its own thread: computes each picture's features once, then takes steps on them.
"use strict";
importScripts("runtime.js", "random.js", "limits.js", "onnx.js", "doctor.js", "zips.js", "answers.js");

const NOTES = ".studio.json", SEED = 0, NO_LIMIT = -3.4028234663852886e38, SMALL = 2 ** 19;
const pictures = new Map(); // by id: {blob, name, width, height, digest, thumb, likened, seen, row}; row: features, or pixels
const runs = { network: 0, steps: 0 };
let settings, ort, network, stepper, graph, made = null, number = 0, told = {};

answers({ open, keep, remove, fit, classify, findings, zip, unpack, model, runs: () => ({ ...runs }) });

async function open(given) {
  settings = given;
  const files = [settings.network, settings.steps].map(({ name, integrity }) => fetched(name, integrity));
  ort = await openRuntime(settings.runtime);
  graph = await files[0];
  [network, stepper] = [await openSession(ort, graph), await openSession(ort, await files[1])];
}

/** Keeps a picture that was read, and its features: {id, findings}. */
async function keep({ blob, name, width, height, digest, thumb, seen, pixels }) {
  const row = settings.onFeatures ? await featuresOf(seen) : pixels, id = ++number;
  const kept = { id, blob, name, width, height, digest, thumb, likened: standard(thumb), row, seen: seen.width * seen.height > SMALL ? null : seen };
  pictures.set(id, kept);
  return { id, findings: blanks([kept]) };
}

function remove({ id }) {
  pictures.delete(id);
}

const asInput = ({ data, width, height }) => new ort.Tensor("uint8", data, [1, height, width, 3]);
const asFloats = ({ data, dims }) => new ort.Tensor("float32", data, dims);

async function featuresOf(seen) {
  runs.network++;
  const { features } = await network.run({ images: asInput(seen), ...feedsOf(made?.tensors ?? blank()) }, ["features"]);
  return Float32Array.from(features.data);
}

/** A head of zeros, to compute features with before there is a classifier. */
function blank() {
  const n = settings.nFeatures, row = (size) => ({ data: new Float32Array(size), dims: [size] });
  return {
    "head.weight": { data: new Float32Array(n), dims: [1, n] }, "head.bias": row(1),
    centre: row(n), shift: row(1), scale: row(1), least_score: { data: Float32Array.of(0), dims: [] },
  };
}

const feedsOf = (tensors) => Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [name, asFloats(tensor)]));

/** The project as it is saved: folders in the order of their names, each with its files in the order of theirs. */
function layoutOf(classes) {
  const names = folderNames(classes.map(({ name }) => name.trim()));
  const folders = classes.map(({ pictures: ids }, i) => {
    const taken = new Set();
    const files = ids.map((id) => {
      if (!pictures.has(id)) throw new Error(`there is no picture ${id}`);
      return { id, name: distinct(plain(pictures.get(id).name), taken, numberedFile) };
    });
    return { at: i, folder: names[i], files: files.sort((a, b) => byCodePoint(a.name, b.name)) };
  });
  return folders.filter(({ files }) => files.length).sort((a, b) => byCodePoint(a.folder, b.folder));
}

function numberedFile(name, n) {
  const dot = name.lastIndexOf(".");
  return dot > 0 ? `${name.slice(0, dot)} (${n})${name.slice(dot)}` : `${name} (${n})`;
}

function check(classes) {
  const names = classes.map(({ name }) => name.trim().normalize("NFC"));
  const twice = names.find((name, i) => names.indexOf(name) < i);
  if (names.includes("")) throw new Error("a class has no name; give it one");
  if (twice !== undefined) throw new Error(`two classes are called ${twice}; give each its own name`);
  const empty = classes.find(({ pictures: ids }) => !ids.length);
  if (empty) throw new Error(`the class ${empty.name} has no picture; add one, or remove the class`);
  if (classes.length < 2) throw new Error("a classifier needs at least two classes, each with a picture");
  const { nWay, labelsMax } = settings;
  if (nWay && classes.length !== nWay) throw new Error(`this network tells exactly ${nWay} classes apart, and there are ${classes.length}`);
  if (classes.length > labelsMax) throw new Error(`at most ${labelsMax} classes are possible here, and there are ${classes.length}`);
}

async function fit({ classes, steps = settings.stepsDefault }) {
  check(classes);
  const began = performance.now(), folders = layoutOf(classes);
  const ids = folders.flatMap(({ files }) => files.map(({ id }) => id));
  const targets = folders.flatMap(({ files }, k) => files.map(() => k)), rows = ids.map((id) => pictures.get(id).row);
  const found = settings.onFeatures ? await headFor(rows, targets, steps) : await networkFor(rows, targets, steps);
  const order = folders.map(({ at }) => at);
  made = { ...found, ids, targets, order, steps, names: classes.map(({ name }) => name), labels: folders.map(({ folder }) => folder) };
  const recognized = made.answers.filter((answer, i) => answer.indexOf(Math.max(...answer)) === targets[i]).length;
  const milliseconds = performance.now() - began;
  return { recognized, total: ids.length, milliseconds, findings: findings({ classes }), leastScore: made.leastScore };
}

/** Steps on features: the tensors that the graph takes, the support pictures' probabilities, and the limit. */
async function headFor(rows, targets, steps) {
  const learn = async (some, labels) => {
    const found = await stepped(some, labels, steps, some.slice(0, 1), [settings.nFeatures], "float32");
    const [n, width] = found["head.weight"].dims, data = found["head.weight"].data;
    return {
      weight: Array.from({ length: n }, (_, k) => data.slice(k * width, (k + 1) * width)),
      bias: Array.from(found["head.bias"].data), centre: centreOf(some, labels),
    };
  };
  const head = await learn(rows, targets);
  const { temperature, leastScore } = await limitsOf(rows, targets, learn, { seed: SEED, rate: settings.rejectRate, leaveOut: settings.nWay === null });
  const { centre, shift, scale } = cosineOf(head, temperature), n = head.bias.length;
  const weight = new Float32Array(n * settings.nFeatures);
  head.weight.forEach((row, k) => weight.set(row.map((x) => x / temperature), k * row.length));
  const list = (data) => ({ data, dims: [data.length] });
  const tensors = {
    "head.weight": { data: weight, dims: [n, settings.nFeatures] }, "head.bias": list(Float32Array.from(head.bias, (x) => x / temperature)),
    centre: list(centre), shift: list(shift), scale: list(scale), least_score: { data: Float32Array.of(leastScore ?? NO_LIMIT), dims: [] },
  };
  return { tensors, leastScore, answers: rows.map((row) => softmax(logitsOf(head, row), temperature)) };
}

/** Steps on the whole network. */
async function networkFor(rows, targets, steps) {
  const { height, width, channels } = settings.preprocessing;
  const found = await stepped(rows, targets, steps, rows, [height, width, channels], "uint8");
  const { data, dims: [, n] } = found.probabilities, answers = rows.map((_, i) => Array.from(data.slice(i * n, (i + 1) * n)));
  const tensors = foldedTensors(Object.fromEntries(Object.entries(found).filter(([name]) => name !== "probabilities")));
  return { tensors: { ...tensors, least_score: { data: Float32Array.of(NO_LIMIT), dims: [] } }, leastScore: null, answers };
}

async function stepped(rows, targets, steps, queries, shape, kind) {
  const n = rows.length, size = settings.batchSize, few = n <= size || !steps;
  const batches = few ? [[...rows.keys()]] : schedule(n, size, steps, SEED);
  const stacked = (list) => {
    const data = new (kind === "uint8" ? Uint8Array : Float32Array)(list.length * list[0].length);
    list.forEach((row, i) => data.set(row, i * row.length));
    return new ort.Tensor(kind, data, [list.length, ...shape]);
  };
  const whole = (list, dims) => new ort.Tensor("int64", BigInt64Array.from(list, BigInt), dims);
  runs.steps++;
  const found = await stepper.run({
    support: stacked(rows), labels: whole(targets, [n]), queries: stacked(queries), steps: whole([steps], []),
    learning_rate: new ort.Tensor("float32", Float32Array.of(settings.learningRate), []),
    batches: whole(batches.flat(), [batches.length, batches[0].length]),
  });
  for (const { data } of Object.values(found)) {
    if (!data.every(Number.isFinite)) throw new Error("adapting to these pictures ended in weights that are not finite; try fewer steps");
  }
  return found;
}

/** The graph's tensors: each frozen norm is folded into the layer before it, as `graphs.weights.folded`. */
function foldedTensors(tensors) {
  const found = Object.fromEntries(Object.entries(tensors).map(([name, { data, dims }]) => [name, { data: Float32Array.from(data), dims }]));
  for (const { layer, norm, epsilon } of settings.norms) {
    const [gamma, beta, mean, variance] = ["weight", "bias", "mean", "var"].map((part) => tensors[`${norm}.${part}`].data);
    const kernel = tensors[`${layer}.weight`], bias = tensors[`${layer}.bias`]?.data;
    const scale = Array.from(gamma, (value, i) => value / Math.sqrt(variance[i] + epsilon)), each = kernel.data.length / scale.length;
    found[`${layer}.weight`] = { dims: kernel.dims, data: Float32Array.from(kernel.data, (value, i) => value * scale[Math.floor(i / each)]) };
    found[`${layer}.bias`] = { dims: [scale.length], data: Float32Array.from(scale, (value, i) => ((bias?.[i] ?? 0) - mean[i]) * value + beta[i]) };
    for (const part of ["weight", "bias", "mean", "var"]) delete found[`${norm}.${part}`];
  }
  return found;
}

async function classify({ seen, heatMap }) {
  if (!made) throw new Error("there is no classifier yet; make one from at least two classes");
  const map = heatMap && settings.heatMap;
  runs.network++;
  const found = await network.run({ images: asInput(seen), ...feedsOf(made.tensors) }, ["probabilities", "known", ...(map ? ["heat_map"] : [])]);
  const sorted = Array.from(found.probabilities.data), probabilities = Array(made.names.length).fill(0);
  made.order.forEach((at, k) => { probabilities[at] = sorted[k]; });
  const nearest = made.names[made.order[sorted.indexOf(Math.max(...sorted))]], known = Boolean(found.known.data[0]);
  return { label: known ? nearest : null, nearest, known, probabilities, heatMap: map ? mapOf(found.heat_map) : null };
}

function mapOf({ data, dims: [, height, width] }) {
  return { data: Float32Array.from(data), height, width };
}

/** The doctor's findings; those about the same project again are not found anew. */
function findings({ classes }) {
  const list = layoutOf(classes).flatMap(({ folder, files }) => files.map(({ id, name }) => ({ id, name: `${folder}/${name}`, label: folder })));
  const key = JSON.stringify(list);
  if (told.key !== key) told = { key, found: examined(list.map((each) => ({ ...pictures.get(each.id), ...each }))) };
  return told.found;
}

async function zip({ classes, steps }) {
  const folders = layoutOf(classes);
  if (!folders.length) throw new Error("there is no picture to save yet");
  const notes = { format: "fewshot-sdk studio 1", steps, classes: classes.map(({ name }, i) => ({ name, folder: folders.find(({ at }) => at === i)?.folder })) };
  const files = folders.flatMap(({ folder, files: inside }) => inside.map(({ id, name }) => ({ name: `${folder}/${name}`, blob: pictures.get(id).blob })));
  return zipOf([...files, { name: NOTES, blob: new Blob([JSON.stringify(notes)]) }]);
}

/** The files of a zip of class folders: [{name, files, findings}]; findings: those that cannot be read from it. */
async function unpack({ blob, name }) {
  const files = await filesOfZip(blob, name, NOTES), notes = files.find(({ parts }) => parts[0] === NOTES);
  const classes = classesOf(files.filter((file) => file !== notes), name);
  if (classes.length > settings.labelsMax) throw new Error(`${name} has ${classes.length} classes; at most ${settings.labelsMax} are possible here`);
  const known = new Map(notes ? namesIn(await notes.read(), classes) : []);
  const places = [...known.keys()];
  if (known.size) classes.sort((a, b) => places.indexOf(a.name) - places.indexOf(b.name));
  const found = [];
  for (const { name: folder, files: inside } of classes) {
    const unpacked = [], complaints = [];
    for (const { parts, read } of inside) {
      try {
        unpacked.push(new File([await read()], parts.slice(1).join("_")));
      } catch (error) {
        complaints.push(finding("error", "unreadable", error.message));
      }
    }
    found.push({ name: known.get(folder) ?? folder, folder, files: unpacked, findings: complaints });
  }
  return found;
}

/** [folder, name] of each class, in the order in which they were shown; none if the notes do not fit the folders. */
function namesIn(bytes, classes) {
  try {
    const { classes: noted } = JSON.parse(decoded(bytes));
    const pairs = noted.filter(({ folder }) => folder).map(({ folder, name }) => [folder, name]);
    const fits = pairs.length === classes.length && pairs.every(([folder, name]) => typeof name === "string" && classes.some((each) => each.name === folder));
    return fits && folderNames(pairs.map(([, name]) => name)).every((folder, i) => folder === pairs[i][0]) ? pairs : [];
  } catch {
    return [];
  }
}

async function model() {
  if (!made) throw new Error("there is no classifier yet; make one from at least two classes");
  const { labels, leastScore, steps, ids, answers, tensors } = made;
  const written = (parity) => classifierFile(graph, {
    tensors, nWay: labels.length, outputs: ["label", "probabilities", "known"],
    metadata: {
      fewshot_sdk: JSON.stringify({
        ...settings.metadata, labels, parity, adaptation: { ...settings.metadata.adaptation, steps },
        ...(leastScore === null ? {} : { least_score: leastScore, score: "cosine" }),
      }),
    },
  });
  const session = await openSession(ort, written({ images: 0, max_difference: 0 }));
  let [images, worst] = [0, 0];
  try {
    for (const [i, id] of ids.entries()) {
      const seen = pictures.get(id)?.seen;
      if (!seen) continue;
      const { probabilities } = await session.run({ images: asInput(seen) }, ["probabilities"]);
      images++;
      probabilities.data.forEach((value, k) => { worst = Math.max(worst, Math.abs(value - answers[i][k])); });
    }
  } finally {
    await session.release();
  }
  if (!(worst <= 1e-4)) throw new Error(`the model and the studio disagree on a picture by ${worst}; nothing was saved`);
  return new Blob([written({ images, max_difference: worst })], { type: "application/octet-stream" });
}
