"""`Predictor`: runs an exported file with onnxruntime, numpy and Pillow; no PyTorch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewshot_sdk.config.inspection import INSPECTOR_FILE
from fewshot_sdk.config.onnx_file import (
    FEATURES,
    FORMAT,
    HEAT_MAP,
    INPUT,
    KNOWN,
    LABEL,
    LEARNER,
    OUTPUT,
    PIXELS,
    THRESHOLD,
    OnnxMetadata,
)
from fewshot_sdk.config.recipe import Preprocessing, Rows
from fewshot_sdk.config.regression import REGRESSOR_FILE
from fewshot_sdk.errors import BundleError, ConfigError, ImageError
from fewshot_sdk.images.decoding import check_size
from fewshot_sdk.images.preprocessing import MANY_PIXELS, Picture, Pixels, picture, preprocess, several
from fewshot_sdk.runtime.predictions import Prediction, check_threshold, to_predictions
from fewshot_sdk.runtime.session import Model, opened

BATCH = 64


class Predictor:
    """A classifier from a file written by `fewshot export`, or from that file's bytes.

    threads: how many the runtime may use; one is fastest for networks this small.
    threshold: the probability below which a picture is `unknown`, besides the limit on its score, instead of the
    file's own; 0: none is because of its probability.
    Raises BundleError if the file is not ONNX, or not written by fewshot-sdk, ConfigError for a threshold that is not
    from 0 to 1.
    """

    def __init__(self, model: Model, *, threads: int = 1, threshold: float | None = None) -> None:
        check_threshold(threshold)
        file = opened(model, threads)
        self._session, self._name, stored = file.session, file.name, file.metadata
        name = self._name
        if stored is None:
            raise BundleError(f"{name} is an ONNX file, but not one made by `fewshot export`: it names no labels")
        if file.format == LEARNER:
            raise BundleError(
                f"{name} is a learner, which knows no classes yet; adapt it first: "
                f"fewshot adapt --engine onnx --init {name} --support DIR --output FILE.onnx"
            )
        if file.format == REGRESSOR_FILE:
            raise BundleError(f"{name} predicts numbers from numbers, not labels of pictures; give it a CSV file")
        if file.format == INSPECTOR_FILE:
            raise BundleError(
                f"{name} is an inspector, which tells good pictures from others and knows no classes; use `fewshot "
                "predict` or `fewshot test`"
            )
        try:
            self.metadata = OnnxMetadata.from_json(stored)
        except ConfigError as error:
            raise BundleError(f"{name}: its metadata cannot be used ({error}); export it again") from None
        if self.metadata.format != FORMAT:
            raise BundleError(
                f"{name} has format {self.metadata.format!r}, but this version reads {FORMAT!r}; export it again"
            )
        self._check_fits(name)
        self._threshold = threshold
        optional = {i.name for i in self._session.get_overridable_initializers()}
        self._takes_threshold = THRESHOLD in optional

    def _check_fits(self, name: str) -> None:
        """Raises BundleError unless the graph matches the metadata."""
        inputs = [(i.name, i.type, len(i.shape)) for i in self._session.get_inputs()]
        outputs = {o.name: o.shape for o in self._session.get_outputs()}
        expected = (PIXELS, "tensor(float)", 4) if self.metadata.raw else (INPUT, "tensor(uint8)", 4)
        if isinstance(self.metadata.preprocessing, Rows):
            expected = (FEATURES, "tensor(float)", 2)
        named = outputs.keys() >= {LABEL, OUTPUT, KNOWN} and len(outputs[OUTPUT]) == 2
        n = outputs[OUTPUT][1] if named else None
        if not (inputs == [expected] and named and (not isinstance(n, int) or n == len(self.labels))):
            raise BundleError(
                f"{name}: its graph, from {', '.join(i[0] for i in inputs)} to {', '.join(outputs)}, does not match "
                f"its metadata, which name {len(self.labels)} classes; export it again"
            )

    @property
    def labels(self) -> tuple[str, ...]:
        """The class names, in the order of the outputs."""
        return self.metadata.labels

    @property
    def preprocessing(self) -> Preprocessing:
        """How pictures become the network's pixels."""
        return self.metadata.preprocessing

    def predict(self, pictures: Sequence[Picture], *, threshold: float | None = None) -> list[Prediction]:
        """The prediction for each picture (a path, the bytes of a file, a Pillow image, an array).

        For a classifier of features: for each row, an array of numbers.

        threshold: for these pictures, instead of the one that the predictor was made with.
        Raises ImageError, naming the file, for one that is not a picture.
        """
        found: list[Prediction] = []
        for batch in self._batches(pictures):
            found += to_predictions(*self.answers(batch, threshold=threshold), self.labels)
        return found

    def explain(self, pictures: Sequence[Picture]) -> list[NDArray[np.float32]]:
        """The heat map (h, w) of each picture: see `heat_maps`. Raises ImageError as `predict` does."""
        found: list[NDArray[np.float32]] = []
        for batch in self._batches(pictures):
            found += list(self.heat_maps(batch))
        return found

    def probabilities(self, pictures: Pixels) -> NDArray[np.float32]:
        """The first of `answers`."""
        return self.answers(pictures)[0]

    def answers(
        self, pictures: Pixels, *, threshold: float | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Probabilities (n, n_way) for pictures of one size, and whether each seems to show a known class, (n,).

        pictures: uint8 (n, height, width, 3 or 1), which the graph resizes. A file exported with --raw does not resize:
        it takes the result of `images.preprocess`. A classifier of features takes float32 (n, columns).
        threshold: as for `predict`.
        Raises ImageError for another dtype or shape, or above 16,384 pixels a side or 50 million in total, ConfigError
        for a threshold that is not from 0 to 1.
        """
        check_threshold(threshold)
        least = self._threshold if threshold is None else threshold
        given = {} if least is None or not self._takes_threshold else {THRESHOLD: np.array(least, np.float32)}
        probabilities, known = self._run(pictures, OUTPUT, KNOWN, given=given)
        if least is not None and not given:  # a file from before there was this input
            if least < self.metadata.threshold:
                raise BundleError(
                    f"{self._name}: the threshold {self.metadata.threshold:g} is fixed in this older file, and cannot "
                    f"become {least:g}; export it again"
                )
            known &= probabilities.max(1) >= np.float32(least)
        return probabilities.astype(np.float32, copy=False), known.astype(np.bool_, copy=False)

    def heat_maps(self, pictures: Pixels) -> NDArray[np.float32]:
        """What each position adds to the logit of a picture's most probable label, (n, h, w); above 0: for it.

        Their sum is the logit without its bias, above the mean of all labels. pictures: as for `probabilities`.
        Raises BundleError for a file exported without --heat-map.
        """
        if HEAT_MAP not in (output.name for output in self._session.get_outputs()):
            raise BundleError(f"{self._name} has no heat map; make it anew with fewshot export --heat-map")
        (maps,) = self._run(pictures, HEAT_MAP)
        return maps.astype(np.float32, copy=False)

    def _run(
        self, pictures: Pixels, *outputs: str, given: Mapping[str, NDArray[np.float32]] = MappingProxyType({})
    ) -> list[NDArray[Any]]:
        """Outputs of the graph for pictures of one size, a few at a time, which bounds the memory."""
        size, shape = self.metadata.preprocessing, pictures.shape
        if isinstance(size, Rows):
            if pictures.dtype != np.float32 or shape not in (
                (len(pictures), size.width),
                (len(pictures), 1, size.width, 1),
            ):
                expected = f"float32 (n, {size.width})"
                raise ImageError(f"features: expected {expected}, found {pictures.dtype} {list(shape)}")
            return self._batch(pictures, outputs, given)
        fits = shape[1:] == (size.height, size.width, size.channels) if self.metadata.raw else shape[3:] in ((1,), (3,))
        if pictures.dtype != np.uint8 or not fits or 0 in shape:
            expected = f"{size.height}, {size.width}, {size.channels}" if self.metadata.raw else "height, width, 3"
            raise ImageError(f"pictures: expected uint8 (n, {expected}), found {pictures.dtype} {list(shape)}")
        check_size("the image", shape[2], shape[1])
        if not self.metadata.raw and shape[1] * shape[2] > MANY_PIXELS:
            batches = self._batches(list(pictures))
        else:
            n = max(1, min(BATCH, MANY_PIXELS // (shape[1] * shape[2])))
            batches = (pictures[i : i + n] for i in range(0, len(pictures), n))
        parts = [self._batch(batch, outputs, given) for batch in batches]
        return [np.concatenate(part) for part in zip(*parts, strict=True)]

    def _batch(
        self, pictures: Pixels, outputs: Sequence[str], given: Mapping[str, NDArray[np.float32]]
    ) -> list[NDArray[Any]]:
        if isinstance(self.metadata.preprocessing, Rows):
            feed: dict[str, NDArray[Any]] = {FEATURES: pictures.reshape(len(pictures), -1)}
        elif self.metadata.raw:
            feed = {PIXELS: normalized(pictures, self.metadata.preprocessing)}
        else:
            feed = {INPUT: np.broadcast_to(pictures, (*pictures.shape[:3], 3))}
        answers = self._session.run(outputs, {**feed, **given})
        for name, found in zip(outputs, answers, strict=True):
            self._check_answer(name, found, len(pictures))
        return answers

    def _check_answer(self, name: str, found: NDArray[Any], n: int) -> None:
        """Raises BundleError for what no file of ours gives, but a damaged one or a stranger's may."""
        shape = {OUTPUT: (n, len(self.labels)), KNOWN: (n,)}.get(name, (n, *found.shape[1:]))
        if found.shape != shape or found.dtype.kind not in "fb" or not np.isfinite(found).all():
            raise BundleError(
                f"{self._name}: its {name} are {found.dtype} {list(found.shape)}, where finite numbers {list(shape)} "
                "were expected; export it again"
            )

    def _batches(self, pictures: Sequence[Picture]) -> Iterator[Pixels]:
        """The pictures as arrays, neighbours of one size stacked, up to 64 pictures or half a megapixel."""
        waiting: list[Pixels] = []
        read = preprocess if self.metadata.raw or isinstance(self.metadata.preprocessing, Rows) else picture
        for source in several(pictures):
            array = read(source, self.metadata.preprocessing)
            full = len(waiting) == BATCH or (len(waiting) + 1) * array.shape[0] * array.shape[1] > MANY_PIXELS
            if waiting and (full or array.shape != waiting[0].shape):
                yield np.stack(waiting)
                waiting = []
            waiting.append(array)
        if waiting:
            yield np.stack(waiting)


def normalized(pixels: Pixels, preprocessing: Preprocessing) -> NDArray[np.float32]:
    """The input of a file exported with --raw, from preprocessed pictures: (n, h, w, c) -> (n, c, h, w)."""
    mean, std = (np.array(values, np.float32) for values in (preprocessing.mean, preprocessing.std))
    floats = (pixels.astype(np.float32) / 255 - mean) / std
    return np.ascontiguousarray(floats.transpose(0, 3, 1, 2))
