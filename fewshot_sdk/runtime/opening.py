"""Opens an ONNX file as what runs its format."""

from __future__ import annotations

from pathlib import Path

from fewshot_sdk.config.inspection import INSPECTOR_FILE
from fewshot_sdk.config.onnx_file import LEARNER
from fewshot_sdk.config.regression import REGRESSOR_FILE
from fewshot_sdk.runtime.inspector import InspectionPredictor
from fewshot_sdk.runtime.learner import Learner
from fewshot_sdk.runtime.predictor import Predictor
from fewshot_sdk.runtime.regressor import NumberPredictor
from fewshot_sdk.runtime.session import OnnxFile, opened


def open_file(path: str | Path, *, threads: int = 1) -> Predictor | NumberPredictor | InspectionPredictor | Learner:
    """The exported file as a predictor for pictures or for numbers, an inspector or a learner; it is read once.

    threads: how many onnxruntime may use. Raises BundleError if the file is none of these.
    """
    file = opened(path, threads)
    return Learner(file) if file.format == LEARNER else _predictor(file)


def open_predictor(path: str | Path, *, threads: int = 1) -> Predictor | NumberPredictor | InspectionPredictor:
    """Like `open_file`, but only for predictors. Raises BundleError for a learner too, which must be adapted first."""
    return _predictor(opened(path, threads))


def _predictor(file: OnnxFile) -> Predictor | NumberPredictor | InspectionPredictor:
    if file.format == INSPECTOR_FILE:
        return InspectionPredictor(file)
    return NumberPredictor(file) if file.format == REGRESSOR_FILE else Predictor(file)
