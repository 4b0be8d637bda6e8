"""Adapt to drawings with a learner file and onnxruntime alone: `learner_alone.py LEARNER FOLDER PICTURE...`."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession(sys.argv[1])
settings = json.loads(session.get_modelmeta().custom_metadata_map["fewshot_sdk"])
size, inner = settings["preprocessing"], settings["adaptation"]


def read(paths: list[str]) -> np.ndarray:
    """Square drawings, dark on light, as this network sees them."""
    sides = (size["width"], size["height"])
    images = [Image.open(path).convert("L").resize(sides, Image.Resampling.BOX) for path in paths]
    return np.stack([np.asarray(image)[:, :, None] for image in images])


paths = sorted(map(str, Path(sys.argv[2]).glob("*/*.png")))
labels = [Path(path).parent.name for path in paths]
names = sorted(set(labels))
probabilities, head, bias = session.run(
    ["probabilities", "head.weight", "head.bias"],
    {
        "support": read(paths),
        "labels": np.array([names.index(label) for label in labels], np.int64),
        "queries": read(sys.argv[3:]),
        "steps": np.array(inner["steps"], np.int64),
        "learning_rate": np.array(inner["learning_rate"], np.float32),
    },
)
for path, row in zip(sys.argv[3:], probabilities, strict=True):
    print(f"{path}  {names[row.argmax()]}  {row.max():.6f}")
