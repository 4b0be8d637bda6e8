// NumPy's default generator, as far as the SDK's folds and mini-batches need it: the same seeds give the same orders.
"use strict";

const WORD = 0xffffffffn, PAIR = (1n << 64n) - 1n, WIDE = (1n << 128n) - 1n;
const STEP = 0x2360ed051fc65da44385df649fccf645n;

/** The generator `numpy.random.default_rng(seeds)`: PCG64, seeded by SeedSequence. Sources: O'Neill 2014; NumPy. */
class Random {
  constructor(seeds) {
    const [a, b, c, d] = seeded(seeds);
    this.increment = (((c << 64n) | d) << 1n | 1n) & WIDE;
    this.state = 0n;
    this.step();
    this.state = (this.state + ((a << 64n) | b)) & WIDE;
    this.step();
    this.half = null; // the upper half of the last number, used next
  }

  step() {
    this.state = (this.state * STEP + this.increment) & WIDE;
  }

  word() {
    if (this.half !== null) {
      const found = this.half;
      this.half = null;
      return found;
    }
    this.step();
    const value = (this.state >> 64n) ^ (this.state & PAIR), turn = this.state >> 122n;
    const turned = ((value >> turn) | (value << (64n - turn))) & PAIR;
    this.half = turned >> 32n;
    return turned & WORD;
  }

  /** A whole number from 0 to `most`: of the bits that it needs, drawn until they are no more. */
  upTo(most) {
    const mask = BigInt(2 ** (32 - Math.clz32(most)) - 1);
    let found = this.word() & mask;
    while (found > most) found = this.word() & mask;
    return Number(found);
  }

  /** A copy of the list in random order. */
  permuted(list) {
    const found = [...list];
    for (let i = found.length - 1; i > 0; i--) {
      const j = this.upTo(i);
      [found[i], found[j]] = [found[j], found[i]];
    }
    return found;
  }
}

/** Four numbers of 64 bits from a few small whole numbers. */
function seeded(seeds) {
  let constant = 0x43b0d7e5;
  const hashed = (value, factor) => {
    let found = (value ^ constant) >>> 0;
    constant = Math.imul(constant, factor) >>> 0;
    found = Math.imul(found, constant) >>> 0;
    return (found ^ (found >>> 16)) >>> 0;
  };
  const mixed = (x, y) => {
    const found = (Math.imul(0xca01f9dd, x) - Math.imul(0x4973f715, y)) >>> 0;
    return (found ^ (found >>> 16)) >>> 0;
  };
  const pool = Array.from({ length: 4 }, (_, i) => hashed(seeds[i] ?? 0, 0x931e8875));
  for (let from = 0; from < 4; from++) {
    for (let to = 0; to < 4; to++) if (to !== from) pool[to] = mixed(pool[to], hashed(pool[from], 0x931e8875));
  }
  for (const seed of seeds.slice(4)) for (let to = 0; to < 4; to++) pool[to] = mixed(pool[to], hashed(seed, 0x931e8875));
  constant = 0x8b51f9dd;
  const words = Array.from({ length: 8 }, (_, i) => BigInt(hashed(pool[i % 4], 0x58f38ded)));
  return [0, 2, 4, 6].map((i) => words[i] | (words[i + 1] << 32n));
}

/** The rows of each step's mini-batch, as `data.minibatches.schedule`. */
function schedule(n, size, steps, seed) {
  const random = new Random([seed, 1]), width = Math.min(size, n), rows = [...Array(n).keys()], order = [];
  while (order.length < steps * width) order.push(...random.permuted(rows));
  return Array.from({ length: steps }, (_, i) => order.slice(i * width, (i + 1) * width));
}

/** The number of folds for a support set, as `runtime.folds.folds_and_repeats`; 0: it cannot be divided. */
function foldsOf(targets) {
  const counts = countsOf(targets), n = targets.length;
  if (counts.filter((count) => count > 1).length < 2) return 0;
  return Math.min(n <= 500 ? 5 : n <= 2000 ? 3 : 2, Math.max(...counts));
}

/** The rows to train on and those held out, fold by fold, as `runtime.folds.stratified_splits`. */
function splitsOf(targets, folds, seed) {
  const random = new Random([seed, 0, 2]), foldOf = Array(targets.length).fill(-1);
  let next = 0;
  for (const label of [...new Set(targets)].sort((a, b) => a - b)) {
    const rows = random.permuted(targets.flatMap((target, i) => (target === label ? [i] : [])));
    if (rows.length < 2) continue;
    rows.forEach((row, i) => { foldOf[row] = (next + i) % folds; });
    next += rows.length;
  }
  const where = (fits) => foldOf.flatMap((fold, i) => (fits(fold) ? [i] : []));
  return Array.from({ length: folds }, (_, i) => ({ train: where((fold) => fold !== i), heldOut: where((fold) => fold === i) }));
}

function countsOf(targets) {
  const counts = [];
  for (const target of targets) counts[target] = (counts[target] ?? 0) + 1;
  return Array.from(counts, (count) => count ?? 0);
}
