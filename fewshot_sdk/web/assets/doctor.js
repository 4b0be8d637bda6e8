// The doctor of images/doctor.py in the browser: the same findings, in the same words, about the pictures of a project.
"use strict";

const SAME = 0.98, TOO_FEW = 3, UNEVEN = 3, ODD_SHARE = 0.1, ALIKE_SHARE = 0.9, ALIKE_SHOTS = 4;
const THUMB = 32, ENOUGH = 512, LISTED = 5;

/** The picture squeezed to 32 x 32 pixels, as `images.thumbnails.thumbnail`. */
function thumbOf(picture) {
  const factor = Math.floor(Math.min(picture.width, picture.height) / ENOUGH);
  const small = factor > 1 ? averaged(picture, factor) : picture;
  const wide = resized(small, THUMB, FILTERS.bilinear);
  return transposed(resized(transposed(wide), THUMB, FILTERS.bilinear)).data;
}

/** Means of squares of `factor` pixels a side, smaller at the right and lower edges, as Pillow's `reduce`. */
function averaged({ data, width, height, channels }, factor) {
  const [w, h] = [width, height].map((side) => Math.ceil(side / factor));
  const found = new Uint8Array(w * h * channels);
  for (let y = 0; y < h; y++) {
    const rows = Math.min(factor, height - y * factor);
    for (let x = 0; x < w; x++) {
      const columns = Math.min(factor, width - x * factor), n = rows * columns;
      for (let c = 0; c < channels; c++) {
        let sum = 0;
        for (let i = 0; i < rows; i++) {
          let at = ((y * factor + i) * width + x * factor) * channels + c;
          for (let j = 0; j < columns; j++, at += channels) sum += data[at];
        }
        found[(y * w + x) * channels + c] = Math.floor(sum / n + 0.5);
      }
    }
  }
  return { data: found, width: w, height: h, channels };
}

/** The findings about pictures {id, name, label, width, height, digest, thumb, likened}, ordered by label; errors first. */
function examined(pictures) {
  const alike = likenesses(pictures);
  const found = [...blanks(pictures), ...copies(pictures, alike), ...counted(pictures), ...oddColours(pictures), ...alikeClasses(pictures, alike)];
  return [...found.filter((each) => each.severity === "error"), ...found.filter((each) => each.severity !== "error")];
}

const finding = (severity, code, message, pictures = []) => ({ severity, code, message, pictures: pictures.map((each) => each.id) });
const warning = (code, message, pictures) => finding("warning", code, message, pictures);

function blanks(pictures) {
  return pictures.filter((each) => isBlank(each.thumb))
    .map((each) => warning("blank", `${each.name} is a single colour; take it again or remove it`, [each]));
}

function copies(pictures, alike) {
  const found = [], unique = [];
  for (const same of grouped(pictures, (each) => each.digest)) {
    unique.push(same[0]);
    if (new Set(same.map((each) => each.label)).size > 1) {
      found.push(finding("error", "contradiction", `${named(same)} are the same file under different labels; keep the right one and remove the rest`, same));
    } else if (same.length > 1) {
      found.push(warning("duplicate", `${named(same)} are the same file; keep one, as copies teach nothing new`, same));
    }
  }
  for (const group of nearGroups(unique, pictures, alike)) {
    const across = new Set(group.map((each) => each.label)).size > 1;
    const advice = across
      ? "check their labels, and keep one unless the small difference is what sets the classes apart"
      : "keep the best one and take another picture";
    const [one, other] = group.map((each) => `${each.width} x ${each.height}`);
    const scaled = one === other ? "" : ` (the first is ${one} pixels, the second ${other})`;
    const where = across ? "nearly the same picture under different labels" : "nearly the same picture";
    found.push(warning("near-duplicate", `${named(group)} are ${where}${scaled}; ${advice}`, group));
  }
  return found;
}

function nearGroups(unique, pictures, alike) {
  const places = unique.map((each) => pictures.indexOf(each)), group = unique.map((_, i) => i);
  const root = (i) => (group[i] === i ? i : (group[i] = root(group[i])));
  places.forEach((place, i) => {
    for (let j = i + 1; j < places.length; j++) if (alike[place][places[j]] >= SAME) group[root(j)] = root(i);
  });
  return grouped(unique, (_, i) => root(i)).filter((each) => each.length > 1);
}

function counted(pictures) {
  const found = [], counts = grouped(pictures, (each) => each.label).map((each) => [each[0].label, each.length]);
  const few = counts.filter(([, n]) => n < TOO_FEW).map(([label, n]) => `${label} (${n})`);
  if (few.length) {
    found.push(warning("few-shots", `too few pictures to estimate the accuracy: ${listed(few)}; add some until each class has at least ` +
      `${TOO_FEW}, or set others aside to test the classifier on`));
  }
  if (!counts.length) return found;
  const [most, high] = counts.reduce((a, b) => (b[1] > a[1] ? b : a)), [least, low] = counts.reduce((a, b) => (b[1] < a[1] ? b : a));
  if (high > UNEVEN * low) {
    found.push(warning("imbalance", `the class ${most} has ${high} pictures and ${least} has ${low}, which favours ${most}; ` +
      `add pictures of ${least} or remove some of ${most}`));
  }
  return found;
}

function oddColours(pictures) {
  const seen = pictures.filter((each) => !isBlank(each.thumb));
  const grey = seen.filter((each) => isGrey(each.thumb)), colour = seen.filter((each) => !isGrey(each.thumb));
  const allowed = Math.max(1, Math.trunc(ODD_SHARE * seen.length));
  const odd = (some, others) => some.length > 0 && some.length <= allowed && allowed < others.length;
  return [
    ...(odd(grey, colour) ? grey : []).map((each) => warning("odd-grey", `${each.name} is grey and the others are in colour; take it in colour`, [each])),
    ...(odd(colour, grey) ? colour : []).map((each) => warning("odd-colour", `${each.name} is in colour and the others are grey; save it in grey, too`, [each])),
  ];
}

function alikeClasses(pictures, alike) {
  const groups = grouped(pictures, (each) => each.label), names = groups.map((each) => each[0].label);
  const labels = pictures.map((each) => names.indexOf(each.label)), crossing = new Map();
  alike.forEach((row, i) => {
    let nearest = i === 0 && row.length > 1 ? 1 : 0;
    for (let j = 0; j < row.length; j++) if (j !== i && row[j] > row[nearest]) nearest = j;
    const pair = [labels[i], labels[nearest]].sort((a, b) => a - b).join(" ");
    crossing.set(pair, (crossing.get(pair) ?? 0) + 1);
  });
  const found = [];
  for (const [pair, n] of crossing) {
    const [one, other] = pair.split(" ").map(Number), sizes = [groups[one].length, groups[other].length], total = sizes[0] + sizes[1];
    if (one !== other && Math.min(...sizes) >= ALIKE_SHOTS && n >= ALIKE_SHARE * total) {
      found.push(warning("alike-classes", `the classes ${names[one]} and ${names[other]} look the same: ${n} of their ${total} pictures are most ` +
        "like one of the other class; check that neither is a copy, or merge them into one class", [...groups[one], ...groups[other]]));
    }
  }
  return found;
}

/** The list in groups with the same key, in the order of their first members. */
function grouped(list, key) {
  const groups = new Map();
  list.forEach((each, i) => {
    const of = key(each, i);
    if (!groups.has(of)) groups.set(of, []);
    groups.get(of).push(each);
  });
  return [...groups.values()];
}

function listed(names) {
  return names.slice(0, LISTED).join(", ") + (names.length > LISTED ? ` and ${names.length - LISTED} more` : "");
}

function named(pictures) {
  const names = pictures.map((each) => each.name);
  return names.length > LISTED ? listed(names) : `${names.slice(0, -1).join(", ")} and ${names[names.length - 1]}`;
}

function isGrey(thumb) {
  let most = 0;
  for (let i = 0; i < thumb.length; i += 3) {
    most = Math.max(most, Math.max(thumb[i], thumb[i + 1], thumb[i + 2]) - Math.min(thumb[i], thumb[i + 1], thumb[i + 2]));
  }
  return most <= 6;
}

function isBlank(thumb) {
  return [0, 1, 2].every((c) => {
    let [low, high] = [255, 0];
    for (let i = c; i < thumb.length; i += 3) [low, high] = [Math.min(low, thumb[i]), Math.max(high, thumb[i])];
    return high - low <= 3;
  });
}

/** A thumbnail with mean 0 and length 1; all zeros if it is blank. */
function standard(thumb) {
  const mean = thumb.reduce((sum, value) => sum + value, 0) / thumb.length;
  const row = Float32Array.from(thumb, (value) => value - mean), length = Math.sqrt(row.reduce((sum, value) => sum + value * value, 0));
  return row.map((value) => (length > 1e-3 ? value / length : 0));
}

/** The correlation of each picture's thumbnail with each other's: rows of Float32Array. */
function likenesses(pictures) {
  const found = pictures.map(() => new Float32Array(pictures.length));
  pictures.forEach(({ likened: one }, i) => {
    for (let j = i; j < pictures.length; j++) {
      const other = pictures[j].likened;
      let sum = 0;
      for (let k = 0; k < one.length; k++) sum += one[k] * other[k];
      found[i][j] = found[j][i] = sum;
    }
  });
  return found;
}
