"""What `benchmarks.photos` compares: each method learns from a few files and labels, and answers for others.

A method is called with the support pictures and the queries of one split, as paths and labels. Reading, decoding and
resizing are part of its time, but not starting Python nor importing libraries.
"""

from __future__ import annotations

import io
import pickle
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from skimage.feature import hog
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from fewshot_sdk.adaptation.adaptation import compare_and_adapt, settings_of, suitable
from fewshot_sdk.artifacts.opening import load, load_bundled
from fewshot_sdk.config.records import ClassifierConfig
from fewshot_sdk.engine.features import features
from fewshot_sdk.engine.inner_loop import one_thread
from fewshot_sdk.images.examination import read_examined
from fewshot_sdk.images.preprocessing import preprocess, read_image
from fewshot_sdk.nets.network import build_network
from fewshot_sdk.nets.params import Params
from fewshot_sdk.storage.tensors import to_safetensors

Labelled = list[tuple[Path, str]]
HOG_SIDE, BINS = 128, 8


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The result of one split.

    right: for each query; seconds: from the support files to a classifier; model_megabytes: of the classifier, stored;
    peak_megabytes: of the process so far; chosen: what was chosen, in words.
    """

    right: list[bool]
    seconds: float
    model_megabytes: float
    peak_megabytes: float
    chosen: str = ""


@dataclass(frozen=True, kw_only=True)
class Learned:
    """A classifier: its labels for files, its size in bytes, and what was chosen."""

    labels_of: Callable[[Sequence[Path]], list[str]]
    size: int
    chosen: str = ""


Learn = Callable[[Labelled, int], Learned]


def method(name: str, features_of: str) -> Callable[[tuple[Labelled, Labelled, int]], Answer]:
    """The method of this name in `METHODS`, as a function from support, queries and seed.

    features_of: the initialization whose frozen features are compared.
    """
    learn = METHODS[name](features_of)

    def answer(question: tuple[Labelled, Labelled, int]) -> Answer:
        support, queries, seed = question
        began = time.perf_counter()
        learned = learn(support, seed)
        seconds = time.perf_counter() - began
        found = learned.labels_of([path for path, _ in queries])
        return Answer(
            right=[label == truth for label, (_, truth) in zip(found, queries, strict=True)],
            seconds=seconds,
            model_megabytes=learned.size / 1e6,
            peak_megabytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
            chosen=learned.chosen,
        )

    return answer


def ours(features_of: str) -> Learn:  # noqa: ARG001
    """What `fewshot adapt` does with its defaults; a picture called unknown counts by its nearest label."""
    inits = suitable(load_bundled())
    preprocessings = settings_of(inits, "auto")

    def learn(support: Labelled, seed: int) -> Learned:
        with tempfile.TemporaryDirectory() as folder:
            for i, (path, label) in enumerate(support):
                place = Path(folder) / label / f"{i}{path.suffix}"
                place.parent.mkdir(exist_ok=True)
                shutil.copy(path, place)
            examined = read_examined(folder, preprocessings)
        made = compare_and_adapt(inits, examined, seed=seed)
        classifier, config = made.classifier, made.classifier.config
        steps = f", {config.adaptation.steps} steps" if config.method == "reptile" else ""
        return Learned(
            labels_of=lambda files: [found.nearest for found in classifier.predict(files)],
            size=len(classifier.files()["model.safetensors"]),
            chosen=f"{config.method}{steps} from {config.initialization.name}{_details(config)}",
        )

    return learn


def _details(config: ClassifierConfig) -> str:
    """The summary of the features and the fit, where they were chosen."""
    if not config.backbone.fits:
        return ""
    return f" ({getattr(config.backbone, 'summary', 'mean')}, {config.preprocessing.fit})"


def hog_and_colour(features_of: str) -> Learn:  # noqa: ARG001
    """Logistic regression on histograms of oriented gradients and of colours."""
    return _regression(lambda files: np.stack([_descriptors(read_image(file)) for file in files]), 0)


def frozen_features(features_of: str) -> Learn:
    """Logistic regression on the features of an initialization, as a notebook does it."""
    init = load(features_of)
    recipe = init.recipe
    network = build_network(recipe.backbone, recipe.preprocessing, 2)
    body: Params = {name: tensor for name, tensor in init.state.params.items() if not name.startswith("head.")}

    def extract(files: Sequence[Path]) -> NDArray[np.float64]:
        pixels = np.stack([preprocess(file, recipe.preprocessing) for file in files])
        with one_thread():
            found: NDArray[np.float64] = features(network, body, torch.from_numpy(pixels)).double().numpy()
        return found

    return _regression(extract, len(to_safetensors(body)))


METHODS: dict[str, Callable[[str], Learn]] = {
    "fewshot adapt": ours,
    "HOG and colour, logistic regression": hog_and_colour,
    "frozen features, logistic regression": frozen_features,
}


def _regression(extract: Callable[[Sequence[Path]], NDArray[np.float64]], size: int) -> Learn:
    """scikit-learn's logistic regression with its defaults on standardized features; size: bytes of what gives them."""

    def learn(support: Labelled, seed: int) -> Learned:  # noqa: ARG001
        model: Pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        model.fit(extract([path for path, _ in support]), [label for _, label in support])
        stored = io.BytesIO()
        pickle.dump(model, stored)
        return Learned(
            labels_of=lambda files: [str(label) for label in model.predict(extract(files))],
            size=size + stored.tell(),
        )

    return learn


def _descriptors(picture: Image.Image) -> NDArray[np.float64]:
    """Gradients of a 128 x 128 picture in cells of 16, and a histogram of each colour channel: (n_features,)."""
    image = picture.convert("RGB").resize((HOG_SIDE, HOG_SIDE), Image.Resampling.BILINEAR)
    grey = np.asarray(image.convert("L"), np.float64) / 255
    gradients = hog(grey, orientations=9, pixels_per_cell=(16, 16), cells_per_block=(2, 2))
    colours = [np.histogram(np.asarray(band), BINS, (0, 256))[0] / HOG_SIDE**2 for band in image.convert("HSV").split()]
    return np.concatenate([gradients, *colours])
