// Reads and writes ONNX files, as far as the studio needs it: a graph with inputs becomes one with constants.
"use strict";

const FLOAT = 1; // ONNX's number for float32
// fields of ONNX's messages; source: onnx.proto
const GRAPH = 7, METADATA = 14, NODE = 1, INITIALIZER = 5, INPUT = 11, OUTPUT = 12, SHAPES = 13;

/** A message's fields in order: [number, kind, value], where value is a Uint8Array, or a BigInt for whole numbers. */
function fieldsOf(bytes) {
  const found = [], view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  const whole = () => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      if (at >= bytes.length || shift > 63n) throw new Error("this is not an ONNX file, or it is damaged");
      const byte = bytes[at++];
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.length) {
    const key = Number(whole()), number = key >>> 3, kind = key & 7;
    if (kind === 0) found.push([number, kind, whole()]);
    else {
      const length = kind === 1 ? 8 : kind === 5 ? 4 : kind === 2 ? Number(whole()) : NaN;
      if (!(at + length <= view.byteLength)) throw new Error("this is not an ONNX file, or it is damaged");
      found.push([number, kind, bytes.subarray(at, (at += length))]);
    }
  }
  return found;
}

/** The inverse of `fieldsOf`: the bytes of a message. */
function messageOf(fields) {
  const parts = [];
  for (const [number, kind, value] of fields) {
    parts.push(wholeNumber(BigInt(number * 8 + kind)));
    if (kind === 2) parts.push(wholeNumber(BigInt(value.length)));
    parts.push(kind === 0 ? wholeNumber(value) : value);
  }
  return joined(parts);
}

function wholeNumber(value) {
  const bytes = [];
  for (; value > 127n; value >>= 7n) bytes.push(Number(value & 127n) | 128);
  return Uint8Array.from([...bytes, Number(value)]);
}

function joined(parts) {
  const found = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    found.set(part, at);
    at += part.length;
  }
  return found;
}

const encoded = (text) => new TextEncoder().encode(text), decoded = (bytes) => new TextDecoder().decode(bytes);
const all = (fields, number) => fields.filter((field) => field[0] === number).map((field) => field[2]);
const textOf = (bytes, number) => decoded(all(fieldsOf(bytes), number)[0] ?? new Uint8Array());

/**
 * The bytes of a classifier: the graph of a file with some of its inputs given.
 * tensors: name -> {data: Float32Array, dims}, which become constants of the file. outputs: the names of those that
 * remain. nWay: the number of classes. metadata: key -> text.
 */
function classifierFile(bytes, { tensors, outputs, nWay, metadata }) {
  const model = fieldsOf(bytes), graph = fieldsOf(all(model, GRAPH)[0]);
  const kept = new Set(outputs), needed = new Set(outputs);
  const nodes = graph.filter(([number]) => number === NODE).map(([, , node]) => {
    const fields = fieldsOf(node);
    return { node, inputs: all(fields, 1).map(decoded), outputs: all(fields, 2).map(decoded) };
  });
  const used = nodes.reverse().filter((node) => {
    if (!node.outputs.some((name) => needed.has(name))) return false;
    for (const name of node.inputs) needed.add(name);
    return true;
  }).reverse();
  const fields = [];
  let done = false;
  for (const [number, kind, value] of graph) {
    const name = [INITIALIZER, INPUT, OUTPUT].includes(number) ? textOf(value, number === INITIALIZER ? 8 : 1) : "";
    if (number === NODE) {
      if (!done) for (const { node } of used) fields.push([NODE, 2, node]);
      done = true;
    } else if (number === INITIALIZER || number === INPUT) {
      if (needed.has(name) && !(name in tensors)) fields.push([number, kind, value]);
    } else if (number === OUTPUT) {
      if (kept.has(name)) fields.push([number, kind, name === "probabilities" ? withColumns(value, nWay) : value]);
    } else if (number !== SHAPES) fields.push([number, kind, value]);
  }
  for (const [name, tensor] of Object.entries(tensors)) {
    if (needed.has(name)) fields.push([INITIALIZER, 2, tensorOf(name, tensor)]);
  }
  return messageOf([
    ...model.filter(([number]) => number !== METADATA).map((field) => (field[0] === GRAPH ? [GRAPH, 2, messageOf(fields)] : field)),
    ...Object.entries(metadata).map(([key, text]) => [METADATA, 2, messageOf([[1, 2, encoded(key)], [2, 2, encoded(text)]])]),
  ]);
}

/** A float32 tensor, its numbers in little endian, whatever the machine's order. */
function tensorOf(name, { data, dims }) {
  const raw = new Uint8Array(4 * data.length), view = new DataView(raw.buffer);
  data.forEach((value, i) => view.setFloat32(4 * i, value, true));
  return messageOf([...dims.map((side) => [1, 0, BigInt(side)]), [2, 0, BigInt(FLOAT)], [8, 2, encoded(name)], [9, 2, raw]]);
}

/** An output's description with this number of columns. */
function withColumns(value, n) {
  const inside = (bytes, path, change) =>
    path.length ? messageOf(fieldsOf(bytes).map((field) =>
      (field[0] === path[0] ? [field[0], field[1], inside(field[2], path.slice(1), change)] : field))) : change(bytes);
  return inside(value, [2, 1, 2], (shape) => {
    const [rows] = fieldsOf(shape);
    return messageOf([rows, [1, 2, messageOf([[1, 0, BigInt(n)]])]]);
  });
}
