// Looks at one picture: large, with what the doctor says of it, to move or remove it.
import { at, make } from "./studio_dom.js";

export class View {
  /** remove: gets a class and a picture of it, when that shall be removed. */
  constructor(project, remove) {
    Object.assign(this, { project, address: "" });
    at("view-close").addEventListener("click", () => at("view").close());
    at("view").addEventListener("click", (event) => { if (event.target === at("view")) at("view").close(); });
    at("view").addEventListener("close", () => URL.revokeObjectURL(this.address));
    at("view-remove").addEventListener("click", () => {
      at("view").close();
      remove(this.group, this.picture);
    });
    at("view-class").addEventListener("change", () => {
      const to = project.classes.find(({ key }) => String(key) === at("view-class").value);
      if (to && to !== this.group) project.move(this.group, this.picture, to);
      this.group = to;
    });
  }

  /** Opens the view. findings: sentences about the picture. */
  open(group, picture, findings) {
    Object.assign(this, { group, picture });
    at("view-image").alt = `A picture of ${group.name}: ${picture.file.name}`;
    at("view-image").onerror = () => { if (this.shown !== picture.thumbnail) this.show(picture.thumbnail); }; // a HEIC, say
    this.show(picture.file);
    at("view-name").textContent = picture.file.name;
    at("view-findings").replaceChildren(...findings.map((textContent) => make("li", { textContent })));
    at("view-class").replaceChildren(...this.project.classes.map(({ key, name }) =>
      make("option", { value: key, textContent: name, selected: key === group.key })));
    at("view").showModal();
  }

  show(blob) {
    if (!blob) return;
    URL.revokeObjectURL(this.address);
    this.shown = blob;
    this.address = at("view-image").src = URL.createObjectURL(blob);
  }
}
