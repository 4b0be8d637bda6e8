// Heads on features, and the temperature and limit for `unknown`, as runtime/rejection.py and runtime/calibration.py find them.
"use strict";

const FEWEST = 8, LEAST_LENGTH = 1e-12, MOST_LEFT_OUT = 10;

/** A head: {weight: n_way rows of Float32Array, bias, centre}; centre: the mean of the classes' mean features. */
function logitsOf(head, row) {
  return head.weight.map((weight, k) => dot(weight, row) + head.bias[k]);
}

/** The parts of the score for logits divided by a temperature, as of `nets.score.Cosine`. */
function cosineOf(head, temperature) {
  const shift = head.weight.map((row, k) => (head.bias[k] + dot(row, head.centre)) / temperature);
  const scale = head.weight.map((row) => temperature / Math.max(Math.sqrt(dot(row, row)), LEAST_LENGTH));
  return { centre: head.centre, shift: Float32Array.from(shift), scale: Float32Array.from(scale) };
}

/** How well a picture with these features points to its class: see `nets.score.Cosine`. */
function scoreOf(head, cosine, row, logits = logitsOf(head, row)) {
  const distance = Math.sqrt(row.reduce((sum, x, i) => sum + (x - head.centre[i]) ** 2, 0));
  return Math.max(...logits.map((z, k) => (z - cosine.shift[k]) * cosine.scale[k])) / Math.max(distance, LEAST_LENGTH);
}

/** The mean of the class means. */
function centreOf(rows, targets) {
  const counts = countsOf(targets), centre = new Float64Array(rows[0].length);
  rows.forEach((row, i) => {
    const share = 1 / (counts[targets[i]] * counts.length);
    for (let j = 0; j < row.length; j++) centre[j] += row[j] * share;
  });
  return Float32Array.from(centre);
}

/**
 * {temperature, leastScore} by cross-validation; leastScore is null if nothing is to be called unknown.
 * learn: a promise of the head from features and targets. leaveOut: whether classes can be left out.
 */
async function limitsOf(rows, targets, learn, { seed, rate, leaveOut }) {
  const folds = foldsOf(targets);
  if (!folds) return { temperature: 1, leastScore: null };
  const logits = [], scores = [], truth = [];
  const at = (list, places) => places.map((i) => list[i]);
  for (const { train, heldOut } of splitsOf(targets, folds, seed)) {
    const head = await learn(at(rows, train), at(targets, train)), cosine = cosineOf(head, 1);
    for (const i of heldOut) {
      logits.push(logitsOf(head, rows[i]));
      scores.push(scoreOf(head, cosine, rows[i], logits[logits.length - 1]));
      truth.push(targets[i]);
    }
  }
  const limit = rejectLimit(scores, rate);
  const unknown = limit === null || !leaveOut ? [] : await strangers(rows, targets, learn, seed);
  const leastScore = unknown.length ? Math.min(limit, (limit + Math.max(...unknown)) / 2) : limit;
  return { temperature: fitTemperature(logits, truth), leastScore };
}

/** The scores of each class's pictures by a head that was made without that class, and without one fold. */
async function strangers(rows, targets, learn, seed) {
  const n = Math.max(...targets) + 1, found = [];
  if (n < 3) return found;
  const last = Math.min(n, MOST_LEFT_OUT) - 1, step = (n - 1) / last;
  const places = Array.from({ length: last + 1 }, (_, i) => (i === last ? n - 1 : Math.trunc(i * step)));
  for (const [number, label] of [...new Set(places)].entries()) {
    const rest = targets.flatMap((target, i) => (target === label ? [] : [i]));
    const others = rest.map((i) => targets[i] - (targets[i] > label ? 1 : 0)), folds = foldsOf(others);
    if (!folds) continue;
    const { train } = splitsOf(others, folds, seed)[number % folds];
    const head = await learn(train.map((i) => rows[rest[i]]), train.map((i) => others[i])), cosine = cosineOf(head, 1);
    rows.forEach((row, i) => { if (targets[i] === label) found.push(scoreOf(head, cosine, row)); });
  }
  return found;
}

/** The most probable temperature of held-out logits, as `calibration.fit_temperature`. */
function fitTemperature(logits, targets) {
  const n = logits.length, mean = (of) => logits.reduce((sum, row, i) => sum + of(row, i), 0) / n;
  const atTargets = mean((row, i) => row[targets[i]]);
  let low = Math.log(1e-3), high = Math.log(1e3);
  for (let i = 0; i < 60; i++) {
    const middle = (low + high) / 2, temperature = Math.exp(middle);
    const expected = mean((row) => softmax(row, temperature).reduce((sum, p, k) => sum + p * row[k], 0));
    if (n * (expected - atTargets) + 1 - temperature > 0) low = middle;
    else high = middle;
  }
  return Math.exp((low + high) / 2);
}

function softmax(row, temperature) {
  const most = Math.max(...row), powers = row.map((z) => Math.exp(z / temperature - most / temperature));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
}

/** The limit that a known picture's score is below in at most a share `rate` of cases, as `calibration.reject_limit`. */
function rejectLimit(scores, rate) {
  if (!rate || !scores.length) return null;
  const ordered = [...scores].sort((a, b) => a - b), n = ordered.length, rank = rate * (n + 1);
  if (rank >= 1) {
    const low = Math.min(Math.floor(rank), n), high = Math.min(low + 1, n);
    return ordered[low - 1] + (ordered[high - 1] - ordered[low - 1]) * (rank - low);
  }
  if (n < FEWEST) return null;
  const median = (ordered[Math.floor((n - 1) / 2)] + ordered[Math.ceil((n - 1) / 2)]) / 2;
  return ordered[0] + (median - ordered[0]) * Math.log(rank);
}

function dot(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}
