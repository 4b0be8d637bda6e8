// Keeps the project in this browser (IndexedDB), so that it is still there when the page is opened again.
const STORES = ["pictures", "project"];
const PATIENCE = 1500; // milliseconds for a page that is being closed, as on a reload, to let go of the project

/** The keeper of the project of this address. Throws a sentence if the browser keeps nothing. */
export async function openKeeper() {
  const name = `fewshot studio ${location.pathname.replace(/[^/]*$/, "")}`;
  if (!(await alone(name))) throw new Error("This page is open in another tab, too. Changes are kept only in the tab that was opened first.");
  let database;
  try {
    const request = indexedDB.open(name, 1);
    request.onupgradeneeded = () => STORES.forEach((store) => request.result.createObjectStore(store));
    database = await done(request);
  } catch (error) {
    throw new Error(`This browser does not keep the project (${error?.message ?? "private window"}); save it before you leave.`);
  }
  return new Keeper(database);
}

/** Whether no other tab has the project; this tab has it until it is closed. */
function alone(name) {
  if (!navigator.locks) return true;
  return new Promise((resolve) => {
    const taken = () => {
      resolve(true);
      return new Promise(() => {});
    };
    navigator.locks.request(name, { signal: AbortSignal.timeout(PATIENCE) }, taken).catch(() => resolve(false));
  });
}

class Keeper {
  constructor(database) {
    this.database = database;
    this.stored = new Map(); // from a picture to its key in the database
    this.last = Promise.resolve();
    this.next = 1;
  }

  /** Puts what was kept into a project. */
  async load(project) {
    const transaction = this.database.transaction(STORES);
    const [classes, keys, files] = await Promise.all([
      done(transaction.objectStore("project").get("classes")),
      done(transaction.objectStore("pictures").getAllKeys()),
      done(transaction.objectStore("pictures").getAll()),
    ]);
    this.next = Math.max(0, ...keys) + 1;
    const found = new Map(keys.map((key, i) => [key, files[i]]));
    for (const { name, pictures } of classes ?? []) {
      const group = project.add(name), here = pictures.filter((key) => found.has(key));
      project.addFiles(group, here.map((key) => found.get(key)));
      group.pictures.forEach((picture, i) => this.stored.set(picture, here[i]));
    }
  }

  /** Stores the project as it is now; pictures that it already has are not written again. Rejects with a sentence. */
  save(classes) {
    const wanted = classes.map(({ name, pictures }) => ({ name, pictures: [...pictures] }));
    this.last = this.last.catch(() => {}).then(() => this.write(wanted));
    return this.last;
  }

  async write(classes) {
    const transaction = this.database.transaction(STORES, "readwrite");
    const [pictures, project] = STORES.map((store) => transaction.objectStore(store));
    const here = new Set(classes.flatMap((each) => each.pictures)), added = [];
    for (const picture of here) {
      if (this.stored.has(picture)) continue;
      this.stored.set(picture, this.next++);
      added.push(picture);
      pictures.put(picture.file, this.stored.get(picture));
    }
    const gone = [...this.stored.keys()].filter((picture) => !here.has(picture));
    for (const picture of gone) pictures.delete(this.stored.get(picture));
    project.put(classes.map(({ name, pictures: some }) => ({ name, pictures: some.map((each) => this.stored.get(each)) })), "classes");
    try {
      await ended(transaction);
      gone.forEach((picture) => this.stored.delete(picture));
    } catch (error) {
      added.forEach((picture) => this.stored.delete(picture));
      const why = error?.name === "QuotaExceededError" ? "it has no room left" : error?.message ?? "it refuses";
      throw new Error(`This browser could not keep the newest changes: ${why}. Save the project to be safe.`);
    }
  }
}

function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

function ended(transaction) {
  return new Promise((resolve, reject) => {
    transaction.oncomplete = resolve;
    transaction.onabort = transaction.onerror = () => reject(transaction.error);
  });
}
