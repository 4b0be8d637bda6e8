// The project: classes of pictures, and what may be done with them. Dispatches "change" and "progress".
import { quoted } from "./studio_dom.js";

const LONGEST = 200; // characters of a class's name
const AT_ONCE = 5; // pictures: some are decoded while the features of another are computed
let keys = 0;

export class Project extends EventTarget {
  /** opening: a promise of the core; most: how many classes it tells apart. */
  constructor(opening, most) {
    super();
    Object.assign(this, { opening, most, later: 0 });
    this.classes = []; // of { key, name, fresh, pictures: [{ key, file, id, thumbnail, findings }] }; see `add`, `addFiles`
    this.progress = { done: 0, total: 0 };
    this.queue = [];
    this.working = 0;
  }

  changed() {
    clearTimeout(this.later);
    this.later = 0;
    this.dispatchEvent(new Event("change"));
  }

  /** Tells of a change soon, for many pictures are read in a second. */
  changedSoon() {
    this.later ||= setTimeout(() => this.changed(), 60);
  }

  /** The classes that have pictures, as the core takes them. */
  get taught() {
    const read = this.classes.map(({ name, pictures }) => ({ name, pictures: pictures.filter(({ id }) => id !== null).map(({ id }) => id) }));
    return read.filter(({ pictures }) => pictures.length);
  }

  get empty() {
    return this.classes.every(({ pictures }) => !pictures.length);
  }

  find(name) {
    return this.classes.find((each) => alike(each.name, name));
  }

  /** The class and the picture of a key or of the core's id. */
  picture(test) {
    for (const group of this.classes) {
      const picture = group.pictures.find(test);
      if (picture) return { group, picture };
    }
    return null;
  }

  /** A name as it is stored. Throws a sentence if no class, but this one, may have it. */
  checked(name, group = null) {
    const plain = name.normalize("NFC").replace(/[\p{Cc}\p{Cs}\p{Zl}\p{Zp}]+/gu, " ").trim();
    if (!plain) throw new Error("A class needs a name.");
    if (plain.length > LONGEST) throw new Error(`A name has at most ${LONGEST} characters; this one has ${plain.length}.`);
    const other = this.find(plain);
    if (other && other !== group) throw new Error(`There is already a class ${quoted(other.name)}.`);
    return plain;
  }

  /** Adds a class and returns it. Its `fresh` says whether it is one to begin with, untouched. */
  add(name = this.free("Class")) {
    if (this.classes.length >= this.most) throw new Error(`It tells at most ${this.most} classes apart.`);
    const group = { key: ++keys, name: this.checked(name), fresh: false, pictures: [] };
    this.classes.push(group);
    this.changed();
    return group;
  }

  free(stem) {
    let number = 1;
    while (this.find(`${stem} ${number}`)) number++;
    return `${stem} ${number}`;
  }

  rename(group, name) {
    const plain = this.checked(name, group);
    if (plain === group.name) return;
    Object.assign(group, { name: plain, fresh: false });
    this.changed();
  }

  /** Removes the classes of which `test` is true, which have no pictures. */
  drop(test) {
    this.classes = this.classes.filter((group) => !test(group) || group.pictures.length);
    this.changed();
  }

  /** Puts other classes in the place of all: { undo, settle }. */
  replace(classes) {
    const before = this.classes;
    this.classes = classes;
    this.changed();
    return {
      undo: () => {
        this.classes = [...before, ...this.classes.filter(({ fresh, name }) => !fresh && !before.some((each) => alike(each.name, name)))];
        this.changed();
      },
      settle: () => before.forEach(({ pictures }) => pictures.forEach((picture) => this.forget(picture))),
    };
  }

  /** Removes a class: { undo, settle }. */
  remove(group) {
    const place = this.classes.indexOf(group);
    this.classes.splice(place, 1);
    this.changed();
    return {
      undo: () => {
        if (this.find(group.name)) group.name = this.free(group.name);
        this.classes.splice(place, 0, group);
        this.changed();
      },
      settle: () => group.pictures.forEach((picture) => this.forget(picture)),
    };
  }

  /** Removes a picture: { undo, settle }. */
  removePicture(group, picture) {
    const place = group.pictures.indexOf(picture);
    group.pictures.splice(place, 1);
    this.changed();
    return {
      undo: () => {
        group.pictures.splice(place, 0, picture);
        this.changed();
      },
      settle: () => this.forget(picture),
    };
  }

  move(group, picture, to) {
    group.pictures.splice(group.pictures.indexOf(picture), 1);
    to.pictures.push(picture);
    this.changed();
  }

  async forget(picture) {
    picture.gone = true;
    if (picture.id !== null) (await this.opening).removePicture(picture.id);
  }

  /**
   * Adds pictures to a class; their `id` is null until they are read. Resolves to { pictures, complaints }: those that
   * could be, and a sentence for each other.
   */
  async addFiles(group, files) {
    group.fresh = false;
    const pictures = [...files].map((file) => ({ key: ++keys, file, id: null, thumbnail: null, findings: [], gone: false }));
    group.pictures.push(...pictures);
    this.progress.total += pictures.length;
    this.changed();
    const complaints = (await Promise.all(pictures.map((picture) => this.read(picture)))).filter(Boolean);
    return { pictures: pictures.filter(({ id }) => id !== null), complaints };
  }

  /** Reads a picture when its turn comes; resolves to a sentence if it cannot be read, and then removes it. */
  read(picture) {
    return new Promise((resolve) => {
      this.queue.push({ picture, resolve });
      this.work();
    });
  }

  async work() {
    if (this.working >= AT_ONCE || !this.queue.length) return;
    this.working++;
    const { picture, resolve } = this.queue.shift();
    let complaint = "";
    try {
      const studio = await this.opening;
      if (!picture.gone) Object.assign(picture, await studio.addPicture(picture.file));
      if (picture.gone && picture.id !== null) studio.removePicture(picture.id);
    } catch (error) {
      complaint = error.message;
      const { group } = this.picture((each) => each === picture) ?? {};
      group?.pictures.splice(group.pictures.indexOf(picture), 1);
    }
    this.working--;
    this.progress.done++;
    if (!this.busy) this.progress = { done: 0, total: 0 };
    this.dispatchEvent(new Event("progress"));
    resolve(complaint);
    this.changedSoon();
    this.work();
  }

  get busy() {
    return this.working + this.queue.length > 0;
  }
}

function alike(one, other) {
  return one.toLocaleLowerCase("en") === other.toLocaleLowerCase("en");
}
