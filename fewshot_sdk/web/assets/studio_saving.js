// Saves the classifier and the project, and says what to do with them.
import { at, notice } from "./studio_dom.js";
import { download } from "./studio_files.js";

const MODEL = "model.onnx", PROJECT = "project.zip";

/** Listens to the buttons that save. options: of the learning; settled: see studio.js; complain: gets an error. */
export function saving({ project, opening, options, settled, complain }) {
  const when = (button, make) => button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      await make(await opening);
    } catch (error) {
      complain(error);
    }
    update();
  });
  when(at("save-model"), async (studio) => {
    await settled();
    download(await studio.modelOnnx(), MODEL);
  });
  when(at("save-project"), async (studio) => download(await studio.projectZip(project.taught, options()), PROJECT));
  for (const button of document.querySelectorAll(".copy")) {
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(button.previousElementSibling.textContent);
        notice("Copied.");
      } catch {
        complain(new Error("The browser does not let this page copy; select the line instead."));
      }
    });
  }
  const update = () => {
    const { taught } = project;
    at("save-model").disabled = taught.length < 2;
    at("save-project").disabled = !taught.length;
  };
  project.addEventListener("change", update);
  update();
}
