"""From a folder of class folders to an ONNX file, with the bundled initialization: in seconds, offline."""

import sys
from pathlib import Path

import fewshot_sdk as fewshot

support, picture, output = map(Path, sys.argv[1:4])
classifier = fewshot.adapt(fewshot.load("omniglot"), support)
exported = fewshot.export_onnx(classifier, output)
answer = fewshot.Predictor(exported.path).predict([picture])[0]
print(f"{answer.label} {answer.probability:.1%}")
