"""`InspectionPredictor`: runs an exported inspector with onnxruntime, numpy and Pillow; no PyTorch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fewshot_sdk.config.inspection import GOOD, SCORE, InspectionMetadata
from fewshot_sdk.config.onnx_file import HEAT_MAP, INPUT, THRESHOLD
from fewshot_sdk.config.recipe import Preprocessing
from fewshot_sdk.errors import BundleError, ConfigError, ImageError
from fewshot_sdk.images.decoding import check_size
from fewshot_sdk.images.preprocessing import Picture, Pixels, picture, several
from fewshot_sdk.runtime.inspections import Inspected, to_inspected
from fewshot_sdk.runtime.session import Model, opened

Floats = NDArray[np.float32]


class InspectionPredictor:
    """An inspector from a file written by `fewshot export`, or from that file's bytes.

    threads: how many the runtime may use. Raises BundleError if the file is not ONNX, or no inspector of fewshot-sdk.
    """

    def __init__(self, model: Model, *, threads: int = 1) -> None:
        file = opened(model, threads)
        self._session, self._name = file.session, file.name
        try:
            self.metadata = InspectionMetadata.from_json(file.metadata or "")
        except ConfigError:
            raise BundleError(
                f"{file.name} is not an inspector; `fewshot export` writes one from a model adapted to good pictures"
            ) from None
        takes = [(each.name, each.type, len(each.shape)) for each in self._session.get_inputs()]
        gives = {each.name for each in self._session.get_outputs()}
        optional = {each.name for each in self._session.get_overridable_initializers()}
        if (takes, gives, optional) != ([(INPUT, "tensor(uint8)", 4)], {GOOD, SCORE, HEAT_MAP}, {THRESHOLD}):
            raise BundleError(f"{file.name}: its graph does not match its metadata; export it again")

    @property
    def preprocessing(self) -> Preprocessing:
        """How pictures become the network's pixels."""
        return self.metadata.preprocessing

    @property
    def limit(self) -> float | None:
        """The score above which a picture is not good; None: nothing is called so."""
        return self.metadata.limit

    def predict(self, pictures: Sequence[Picture], *, threshold: float | None = None) -> list[Inspected]:
        """Whether each picture (a path, the bytes of a file, a Pillow image or an array) is good, and its score.

        threshold: instead of the file's own limit. Raises ImageError, naming the file, if one is not a picture.
        """
        read = (picture(source, self.preprocessing)[None] for source in several(pictures))
        found = [self.scores(pixels) for pixels in read]
        return to_inspected(np.concatenate([*found, np.empty(0, np.float32)]), self.limit, threshold)

    def explain(self, pictures: Sequence[Picture]) -> list[Floats]:
        """The heat map (h, w) of each picture: the distance of each patch to the nearest one in memory, from 0 to 2."""
        return [self.heat_maps(picture(source, self.preprocessing)[None])[0] for source in several(pictures)]

    def scores(self, pictures: Pixels) -> Floats:
        """The score of each picture of uint8 (n, height, width, 3 or 1), of any one size: (n,), from 0 to 2."""
        return self._run(pictures, SCORE, ())

    def heat_maps(self, pictures: Pixels) -> Floats:
        """The heat maps of pictures as for `scores`: (n, h, w)."""
        return self._run(pictures, HEAT_MAP, self.metadata.grid)

    def _run(self, pictures: Pixels, output: str, shape: tuple[int, ...]) -> Floats:
        if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[3] not in (1, 3) or 0 in pictures.shape:
            found = f"{pictures.dtype} {list(pictures.shape)}"
            raise ImageError(f"pictures: expected uint8 (n, height, width, 3), found {found}")
        check_size("the image", pictures.shape[2], pictures.shape[1])
        answers = []
        for each in pictures[:, None]:
            (answer,) = self._session.run([output], {INPUT: np.broadcast_to(each, (*each.shape[:3], 3))})
            if answer.shape != (1, *shape) or answer.dtype != np.float32 or not np.isfinite(answer).all():
                raise BundleError(
                    f"{self._name}: its {output} is {answer.dtype} {list(answer.shape)}, where finite numbers "
                    f"{[1, *shape]} were expected; export it again"
                )
            answers.append(answer)
        return np.concatenate(answers)
