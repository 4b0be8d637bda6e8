"""A toy format: the weights alone, as safetensors, checked like an ONNX file."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fewshot_sdk.artifacts.classifier import Classifier
from fewshot_sdk.config.onnx_file import FORMAT, OnnxMetadata
from fewshot_sdk.export.checks import check_parity
from fewshot_sdk.export.classifier import Export, ExportSettings
from fewshot_sdk.images.preprocessing import Pixels
from fewshot_sdk.storage.tensors import to_bytes


def answers(classifier: Classifier, pixels: Pixels) -> NDArray[np.float32]:
    return classifier.probabilities(pixels)


def write(classifier: Classifier, path: Path, settings: ExportSettings) -> Export:
    config = classifier.config
    parity = check_parity(classifier, partial(answers, classifier), prepared=True, runtime="NumPy")
    path.write_bytes(to_bytes({name: tensor.numpy() for name, tensor in classifier.params.items()}))
    metadata = OnnxMetadata(
        format=FORMAT, labels=config.labels, preprocessing=config.preprocessing, adaptation=config.adaptation,
        initialization=config.initialization, opset=settings.opset, parity=parity, versions={}, raw=True,
    )  # fmt: skip
    return Export(path=path, size=path.stat().st_size, metadata=metadata)
