"""Few-shot adaptation: Reptile initializations, a few gradient steps on your own images, ONNX out.

The names below are the public ones. Each is imported on first use, because PyTorch takes
seconds to import and a `Predictor` does not need it. Those that need it raise MissingExtra without it.
"""

from __future__ import annotations

import os as _os
from typing import TYPE_CHECKING

from fewshot_sdk.version import __version__

# Otherwise onnxruntime 1.32 reports its use to Microsoft; it reads this when it is loaded. A user's own value counts.
_os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from fewshot_sdk.adaptation.adaptation import adapt as adapt
    from fewshot_sdk.adaptation.features import adapt_features as adapt_features
    from fewshot_sdk.artifacts.classifier import Classifier as Classifier
    from fewshot_sdk.artifacts.classifier import Delta as Delta
    from fewshot_sdk.artifacts.initialization import Initialization as Initialization
    from fewshot_sdk.artifacts.opening import load as load
    from fewshot_sdk.artifacts.opening import load_classifier as load_classifier
    from fewshot_sdk.artifacts.sharing import pull as pull
    from fewshot_sdk.artifacts.sharing import push as push
    from fewshot_sdk.config.presets import preset as preset
    from fewshot_sdk.config.recipe import Recipe as Recipe
    from fewshot_sdk.data.opening import open_dataset as open_dataset
    from fewshot_sdk.data.tasks import TaskSampler as TaskSampler
    from fewshot_sdk.errors import FewshotError as FewshotError
    from fewshot_sdk.export.classifier import export_onnx as export_onnx
    from fewshot_sdk.export.learner import export_learner as export_learner
    from fewshot_sdk.meta.evaluation import evaluate as evaluate
    from fewshot_sdk.meta.own_networks import meta_train_network as meta_train_network
    from fewshot_sdk.meta.training import meta_train as meta_train
    from fewshot_sdk.runtime.adaptation import adapt_to_onnx as adapt_to_onnx
    from fewshot_sdk.runtime.deltas import DeltaPredictor as DeltaPredictor
    from fewshot_sdk.runtime.learner import Learner as Learner
    from fewshot_sdk.runtime.predictor import Predictor as Predictor
    from fewshot_sdk.storage.files import save as save
else:
    _HOMES = {
        "Classifier": "artifacts.classifier",
        "Delta": "artifacts.classifier",
        "DeltaPredictor": "runtime.deltas",
        "FewshotError": "errors",
        "Initialization": "artifacts.initialization",
        "Learner": "runtime.learner",
        "Predictor": "runtime.predictor",
        "Recipe": "config.recipe",
        "TaskSampler": "data.tasks",
        "adapt": "adaptation.adaptation",
        "adapt_features": "adaptation.features",
        "adapt_to_onnx": "runtime.adaptation",
        "evaluate": "meta.evaluation",
        "export_learner": "export.learner",
        "export_onnx": "export.classifier",
        "load": "artifacts.opening",
        "load_classifier": "artifacts.opening",
        "meta_train": "meta.training",
        "meta_train_network": "meta.own_networks",
        "open_dataset": "data.opening",
        "preset": "config.presets",
        "pull": "artifacts.sharing",
        "push": "artifacts.sharing",
        "save": "storage.files",
    }

    def __getattr__(name):
        if name not in _HOMES:
            raise AttributeError(f"module 'fewshot_sdk' has no attribute {name!r}")
        from importlib import import_module

        from fewshot_sdk.extras import needing

        with needing(f"fewshot_sdk.{name}"):
            return getattr(import_module(f"fewshot_sdk.{_HOMES[name]}"), name)

    def __dir__():
        return sorted([*globals(), *_HOMES])


__all__ = [
    "Classifier",
    "Delta",
    "DeltaPredictor",
    "FewshotError",
    "Initialization",
    "Learner",
    "Predictor",
    "Recipe",
    "TaskSampler",
    "__version__",
    "adapt",
    "adapt_features",
    "adapt_to_onnx",
    "evaluate",
    "export_learner",
    "export_onnx",
    "load",
    "load_classifier",
    "meta_train",
    "meta_train_network",
    "open_dataset",
    "preset",
    "pull",
    "push",
    "save",
]
