"""`Predictor`: runs an exported file with onnxruntime, numpy and Pillow; no PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from fewshot_sdk.errors import BundleError, ConfigError
from fewshot_sdk.files import MAX_FILE_BYTES, read_bounded
from fewshot_sdk.images import Picture, Pixels, preprocess
from fewshot_sdk.predictions import Prediction, to_predictions
from fewshot_sdk.records import OnnxMetadata

METADATA_KEY = "fewshot_sdk"
FORMAT = "fewshot-sdk onnx 1"
INPUT, OUTPUT = "images", "probabilities"
BATCH = 64


class Predictor:
    """A classifier from a file written by `fewshot export`, or from that file's bytes.

    threads: how many the runtime may use; one is fastest for networks this small.
    Raises BundleError if the file is no ONNX, or not one of ours.
    """

    def __init__(self, model: str | Path | bytes, *, threads: int = 1) -> None:
        name = "the model" if isinstance(model, bytes) else str(model)
        self._session, stored = open_session(model, name, threads)
        if stored is None:
            raise BundleError(f"{name} is an ONNX file, but not one made by `fewshot export`: it names no labels")
        try:
            self.metadata = OnnxMetadata.from_json(stored)
        except ConfigError as error:
            raise BundleError(f"{name}: its metadata cannot be used ({error}); export it again") from None

    @property
    def labels(self) -> tuple[str, ...]:
        """The class names, in the order of the outputs."""
        return self.metadata.labels

    def predict(self, pictures: Sequence[Picture]) -> list[Prediction]:
        """What the model says of each picture (a path, the bytes of a file, a Pillow image, an array).

        Raises ImageError, naming the file, for one that is no picture.
        """
        found: list[Prediction] = []
        for first in range(0, len(pictures), BATCH):
            pixels = [preprocess(p, self.metadata.preprocessing) for p in pictures[first : first + BATCH]]
            found += to_predictions(self.probabilities(np.stack(pixels)), self.labels, self.metadata.threshold)
        return found

    def probabilities(self, pixels: Pixels) -> NDArray[np.float32]:
        """Probabilities (n, n_way) of preprocessed images, uint8 (n, height, width, channels)."""
        (rows,) = self._session.run([OUTPUT], {INPUT: pixels})
        return np.asarray(rows, np.float32)


def open_session(model: str | Path | bytes, name: str, threads: int) -> tuple[onnxruntime.InferenceSession, str | None]:
    """A file or its bytes, ready to run on the processor, and what it holds under our metadata key, if anything.

    Raises BundleError, calling it `name`, if it is no ONNX.
    """
    data = model if isinstance(model, bytes) else read_bounded(Path(model), MAX_FILE_BYTES)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # its own errors reach us as exceptions
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no other base
        reason = str(error).splitlines()[0]
        raise BundleError(f"{name} is not an ONNX file that can be run ({reason}); export it again") from None
    return session, session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
