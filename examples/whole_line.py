"""The whole line: meta-train an initialization, adapt it to 15 drawings, export, predict."""

import fewshot_sdk as fewshot

recipe = fewshot.preset("glyphs")
characters = fewshot.open_dataset(recipe.data, recipe.preprocessing, "train")
tasks = fewshot.TaskSampler(data=characters, n_way=recipe.meta.n_way, k_shot=recipe.meta.k_shot, seed=0)
for step in fewshot.meta_train(recipe, tasks):  # a minute; `fewshot.load("omniglot")` takes none
    print(f"\r{step.done} of {step.meta_steps}, loss {step.loss:.3f}", end="")
fewshot.save(step.initialization, "init")
classifier = fewshot.adapt(fewshot.load("init"), "examples/drawings")
fewshot.export_onnx(classifier, "model.onnx")
print("\n", fewshot.Predictor("model.onnx").predict(["examples/new_drawings/fish1.png"])[0])
