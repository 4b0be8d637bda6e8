"""Classifies pictures with the model.onnx beside it: python predict.py PICTURE...

Needs onnxruntime, numpy and Pillow; the model itself resizes and normalizes.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # without it onnxruntime reports its use
import onnxruntime
from pictures import MAX_BYTES, ImageError, decode  # type: ignore[import-not-found] # the file beside this one

options = onnxruntime.SessionOptions()
options.log_severity_level = 3  # errors; not that a constant is unused
session = onnxruntime.InferenceSession(Path(__file__).with_name("model.onnx"), options, ["CPUExecutionProvider"])
labels = json.loads(session.get_modelmeta().custom_metadata_map["fewshot_sdk"])["labels"]


def read(path: str) -> np.ndarray:
    """The picture as a person sees it, upright and on white where transparent: uint8 (1, height, width, 3)."""
    with Path(path).open("rb") as file:
        return np.asarray(decode(file.read(MAX_BYTES + 1), path).convert("RGB"))[None]


sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
for path in sys.argv[1:] or sys.exit(__doc__):
    try:
        pixels = read(path)
    except ImageError as error:
        sys.exit(str(error))
    except OSError as error:
        sys.exit(f"{path} cannot be read as a picture: {error}")
    label, probabilities, known = session.run(["label", "probabilities", "known"], {"images": pixels})
    name = labels[label[0]]
    print(f"{path}  {name if known[0] else f'unknown (nearest: {name})'}  {probabilities.max():.1%}")
