// Files that are chosen, dropped or pasted: pictures, folders of them, and zips.
const HIDDEN = /^(\.|__macosx$|thumbs\.db$|desktop\.ini$|@eadir$|\$recycle\.bin$)/i;
const PICTURE = /\.(jpe?g|png|webp|hei[cf]|avif|bmp|gif|tiff?)$/i;

/** Whether a file is a zip, by its type or name. */
export function isZip(file) {
  return /zip/.test(file.type) || /\.zip$/i.test(file.name);
}

/** What was dropped, as of `sorted`; call it during the event, for its data are gone afterwards. */
export async function dropped(transfer) {
  const items = [...transfer.items].filter((item) => item.kind === "file");
  const entries = items.map((item) => item.webkitGetAsEntry?.() ?? null);
  const files = items.map((item) => item.getAsFile());
  if (!items.length) return sorted([...transfer.files].map((file) => ({ path: [file.name], file })));
  const found = [];
  for (const [i, entry] of entries.entries()) {
    if (entry?.isDirectory) await walk(entry, [entry.name], found);
    else if (files[i]) found.push({ path: [files[i].name], file: files[i] });
  }
  return sorted(found);
}

/** The files of an input, with their folders if it chooses folders, as of `sorted`. */
export function chosen(input) {
  const found = [...input.files].map((file) => ({ path: (file.webkitRelativePath || file.name).split("/"), file }));
  input.value = ""; // the same files may be chosen again
  return sorted(found.filter(({ path }) => !path.some((part) => HIDDEN.test(part))));
}

/**
 * { loose, folders, zips }: files outside folders, and { name, files } for each class. A folder that holds nothing but
 * folders is one of classes, as for `fewshot adapt --support`; in any other all pictures, at any depth, are one class.
 */
function sorted(found) {
  const loose = [], zips = [], tops = new Map();
  const name = ({ path }) => path.join("/");
  for (const each of found.sort((a, b) => name(a).localeCompare(name(b), "en", { numeric: true }))) {
    if (isZip(each.file)) zips.push(each.file);
    else if (each.path.length === 1) loose.push(each.file);
    else if (PICTURE.test(each.file.name)) grouped(tops, each.path[0], each);
  }
  const folders = new Map();
  for (const [name, inside] of tops) {
    const classes = inside.every(({ path }) => path.length > 2);
    for (const { path, file } of inside) grouped(folders, classes ? path[1] : name, file);
  }
  return { loose, zips, folders: [...folders].map(([name, files]) => ({ name, files })) };
}

function grouped(map, key, value) {
  map.set(key, [...(map.get(key) ?? []), value]);
}

async function walk(folder, path, found) {
  const reader = folder.createReader();
  const entries = [];
  for (let part; (part = await new Promise((resolve, reject) => reader.readEntries(resolve, reject))).length; ) entries.push(...part);
  for (const entry of entries.filter(({ name }) => !HIDDEN.test(name))) {
    if (entry.isDirectory) await walk(entry, [...path, entry.name], found);
    else found.push({ path: [...path, entry.name], file: await new Promise((resolve, reject) => entry.file(resolve, reject)) });
  }
}

/** Calls `use` with what is dropped on an element, which shows that it can be. */
export function takeDrops(element, use) {
  for (const kind of ["dragover", "dragleave", "drop"]) {
    element.addEventListener(kind, (event) => {
      if (kind !== "dragleave" && !event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      event.stopPropagation();
      element.classList.toggle("over", kind === "dragover");
      if (kind === "drop") use(dropped(event.dataTransfer));
    });
  }
}

/** A canvas as a file. */
export async function fileOf(canvas, name, type = "image/png") {
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, type, 0.95));
  return new File([blob], name, { type });
}

/** Lets people save a blob under a name. */
export function download(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // a browser may ask for the place first
}
