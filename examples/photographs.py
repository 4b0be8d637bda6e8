"""From a folder of photographs to a file and an answer, with the choice left to cross-validation: half a minute."""

import fewshot_sdk as fewshot

classifier = fewshot.adapt(fewshot.load("photo"), "my_images")
fewshot.export_onnx(classifier, "again.onnx")
print(fewshot.Predictor("again.onnx").predict(["new_images/lemon/8.jpg"])[0])
