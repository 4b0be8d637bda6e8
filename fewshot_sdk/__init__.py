"""Few-shot adaptation: Reptile initializations, a few gradient steps on your own images, ONNX out.

The names below are the public ones. They are loaded when first used, because PyTorch takes
seconds to import and a `Predictor` does not need it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fewshot_sdk.version import __version__

if TYPE_CHECKING:
    from fewshot_sdk.adaptation import adapt as adapt
    from fewshot_sdk.checkpoint import Initialization as Initialization
    from fewshot_sdk.checkpoint import load as load
    from fewshot_sdk.classifier import Classifier as Classifier
    from fewshot_sdk.classifier import load_classifier as load_classifier
    from fewshot_sdk.config import Recipe as Recipe
    from fewshot_sdk.datasets import open_dataset as open_dataset
    from fewshot_sdk.delta_runtime import DeltaPredictor as DeltaPredictor
    from fewshot_sdk.errors import FewshotError as FewshotError
    from fewshot_sdk.evaluation import evaluate as evaluate
    from fewshot_sdk.fast_weights import Delta as Delta
    from fewshot_sdk.files import save as save
    from fewshot_sdk.learner import Learner as Learner
    from fewshot_sdk.learner_export import export_learner as export_learner
    from fewshot_sdk.onnx_adaptation import adapt_to_onnx as adapt_to_onnx
    from fewshot_sdk.onnx_export import export_onnx as export_onnx
    from fewshot_sdk.own_networks import meta_train_network as meta_train_network
    from fewshot_sdk.presets import preset as preset
    from fewshot_sdk.runtime import Predictor as Predictor
    from fewshot_sdk.sharing import pull as pull
    from fewshot_sdk.sharing import push as push
    from fewshot_sdk.tasks import TaskSampler as TaskSampler
    from fewshot_sdk.training import meta_train as meta_train
else:
    _HOMES = {
        "Classifier": "classifier",
        "Delta": "fast_weights",
        "DeltaPredictor": "delta_runtime",
        "FewshotError": "errors",
        "Initialization": "checkpoint",
        "Learner": "learner",
        "Predictor": "runtime",
        "Recipe": "config",
        "TaskSampler": "tasks",
        "adapt": "adaptation",
        "adapt_to_onnx": "onnx_adaptation",
        "evaluate": "evaluation",
        "export_learner": "learner_export",
        "export_onnx": "onnx_export",
        "load": "checkpoint",
        "load_classifier": "classifier",
        "meta_train": "training",
        "meta_train_network": "own_networks",
        "open_dataset": "datasets",
        "preset": "presets",
        "pull": "sharing",
        "push": "sharing",
        "save": "files",
    }

    def __getattr__(name):
        if name not in _HOMES:
            raise AttributeError(f"module 'fewshot_sdk' has no attribute {name!r}")
        from importlib import import_module

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
