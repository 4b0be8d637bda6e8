// Looks at one picture: large, with what the doctor says of it, to move or remove it.
import { at, make } from "./studio_dom.js";

export class View {
  constructor(project) {
    Object.assign(this, { project, address: "" });
    at("view-close").addEventListener("click", () => at("view").close());
    at("view").addEventListener("click", (event) => { if (event.target === at("view")) at("view").close(); });
    at("view").addEventListener("close", () => URL.revokeObjectURL(this.address));
    at("view-remove").addEventListener("click", () => {
      at("view").close();
      this.remove();
    });
    at("view-class").addEventListener("change", () => {
      const to = project.classes.find(({ key }) => String(key) === at("view-class").value);
      if (to && to !== this.group) project.move(this.group, this.picture, to);
      this.group = to;
    });
  }

  /** Opens the view. findings: sentences about the picture; remove: called when it shall be removed. */
  open(group, picture, findings, remove) {
    Object.assign(this, { group, picture, remove });
    const image = at("view-image");
    URL.revokeObjectURL(this.address);
    this.address = URL.createObjectURL(picture.file);
    image.onerror = () => { image.hidden = true; };
    Object.assign(image, { hidden: false, src: this.address, alt: `A picture of ${group.name}: ${picture.file.name}` });
    at("view-name").textContent = picture.file.name;
    at("view-findings").replaceChildren(...findings.map((textContent) => make("li", { textContent })));
    at("view-class").replaceChildren(...this.project.classes.map(({ key, name }) =>
      make("option", { value: key, textContent: name, selected: key === group.key })));
    at("view").showModal();
  }
}
