"""Adapting to good pictures alone: an inspector, its memory, its limit, and what is kept of each picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewshot_sdk.adaptation.memory import left_out_scores, most_different, quota
from fewshot_sdk.artifacts.initialization import Initialization
from fewshot_sdk.artifacts.inspector import FEW, Inspector
from fewshot_sdk.config.inspection import GOOD, Inspection, InspectorConfig, PatchSettings, Views
from fewshot_sdk.config.recipe import Preprocessing
from fewshot_sdk.config.records import Origin
from fewshot_sdk.data.collages import pasted
from fewshot_sdk.data.textures import drawn_texture, textured
from fewshot_sdk.engine.compiler import made_with
from fewshot_sdk.engine.inner_loop import one_thread
from fewshot_sdk.engine.processors import side_by_side
from fewshot_sdk.errors import ConfigError, SupportError
from fewshot_sdk.images.examination import Warn
from fewshot_sdk.images.goods import read_goods
from fewshot_sdk.images.preprocessing import Pixels, preprocess
from fewshot_sdk.images.support import SupportSet
from fewshot_sdk.intervals import standard_error
from fewshot_sdk.nets.network import Network
from fewshot_sdk.nets.params import Params
from fewshot_sdk.nets.patches import directions, distances, patch_network, patches, scores
from fewshot_sdk.runtime.calibration import REJECT_RATE as REJECT_RATE
from fewshot_sdk.runtime.calibration import auroc, reject_limit
from fewshot_sdk.storage.bundles import INSPECTOR

Floats = NDArray[np.float64]
Watch = Callable[[Iterator[str], int], Iterator[str]]
TEXTURES, SHRINKAGE = 20, 0.3  # made-up pictures that tell how patches vary; share of the identity in their covariance
COMPARED = range(4, 41)  # good pictures for which the views are compared: too few tell nothing, many need no views


def adapt_inspector(
    init: Initialization,
    support: SupportSet | str | Path,
    *,
    reject_rate: float = REJECT_RATE,
    settings: PatchSettings | None = None,
    seed: int = 0,
    warn: Warn = lambda finding: None,  # noqa: ARG005
    watch: Watch = lambda work, total: work,  # noqa: ARG005
) -> Inspector:
    """An inspector from good pictures, as `fewshot adapt --one-class` makes it.

    init: with an EfficientNet, such as `photo`. support: a folder of good pictures, or one with a folder `good` and
    others with bad ones, see `images.goods`; or a SupportSet preprocessed with the recipe's settings, whose label
    `good` marks the good ones. The bad ones set the limit and nothing else.
    reject_rate: the share of good pictures that may be called not good; 0: nothing is. settings: with the default
    views, what is kept of each picture is chosen, see `compared`.
    Raises SupportError for unusable pictures, ConfigError for another network or rate.
    """
    if not 0 <= reject_rate < 1:
        raise ConfigError(f"reject_rate: expected at least 0 and under 1, found {reject_rate}")
    recipe, asked = init.recipe, settings or PatchSettings()
    if not isinstance(support, SupportSet):
        support = read_goods(support, recipe.preprocessing, warn=warn).support
    network = patch_network(recipe.backbone, recipe.preprocessing, asked)
    network.load_state_dict({name: init.state.params[name] for name in network.state_dict()})
    good, bad = _parted(support)
    return _made(
        network, good, bad, settings=asked, origin=init.origin, rate=reject_rate, seed=seed,
        every=settings is None, watch=watch,
    )  # fmt: skip


def extend_inspector(
    inspector: Inspector, more: SupportSet, *, watch: Watch = lambda work, total: work  # noqa: ARG005
) -> Inspector:  # fmt: skip
    """The inspector of the old and the new pictures, as if it had been adapted to all of them at once.

    Pictures that it has already are left out. Raises SupportError if it kept none of its own.
    """
    config = inspector.config
    if not len(inspector.pictures):
        raise SupportError("the inspector kept no pictures (--no-keep-pictures); adapt again to all of them")
    kept = inspector.pictures[: config.good], inspector.pictures[config.good :]
    good, bad = (np.concatenate([old, _new(old, new)]) for old, new in zip(kept, _parted(more), strict=True))
    return _made(
        inspector.network(), good, bad, settings=config.patches, origin=config.initialization,
        rate=config.inspection.reject_rate, seed=config.seed, every=True, watch=watch,
    )  # fmt: skip


def _new(old: Pixels, new: Pixels) -> Pixels:
    known = {image.tobytes() for image in old}
    found: Pixels = new[np.array([image.tobytes() not in known for image in new], bool)]
    return found


def _parted(support: SupportSet) -> tuple[Pixels, Pixels]:
    """The good pictures and the others. Raises SupportError if none is good."""
    is_good = np.array([support.labels[target] == GOOD for target in support.targets], bool)
    if not is_good.any() and GOOD not in support.labels and len(support.labels) > 1:
        raise SupportError(f"expected pictures of the class {GOOD!r}, found {', '.join(support.labels)}")
    return np.ascontiguousarray(support.images[is_good]), np.ascontiguousarray(support.images[~is_good])


def _made(
    network: Network, good: Pixels, bad: Pixels, *, settings: PatchSettings, origin: Origin, rate: float, seed: int,
    every: bool, watch: Watch,
) -> Inspector:  # fmt: skip
    """The inspector of these pictures. every: choose among all views instead of taking those of the settings."""
    if not len(good):
        raise SupportError(f"expected at least one picture of the class {GOOD!r}, found none")
    with one_thread(), torch.no_grad():
        seen = Seen(network, settings, network.preprocessing)
        trials = compared(seen, good, seed, watch) if every else [trial(seen, good, settings.views, seed)]
        chosen = better(trials)
        memory = chosen.kept.flatten(0, 1)
        found = Inspection(
            reject_rate=rate,
            scores=tuple(map(float, chosen.scores)),
            bad_scores=tuple(map(float, scores(distances(seen(bad), memory), settings.top))) if len(bad) else (),
            told_apart=auroc(chosen.pasted, chosen.scores) if len(good) > 1 else None,
        )
    limit = limit_of(found)
    config = InspectorConfig(
        format=INSPECTOR.name,
        preprocessing=network.preprocessing,
        backbone=network.backbone,
        patches=settings.replace(views=chosen.views),
        limit=limit,
        good=len(good),
        bad=len(bad),
        inspection=found if limit is None else counted(found, limit),
        initialization=origin,
        seed=seed,
        versions=made_with(),
    )
    return Inspector(
        config=config,
        params=dict(network.state_dict()),
        parts={"memory": memory.contiguous(), **seen.parts},
        pictures=np.concatenate([good, bad]),
    )


def limit_of(found: Inspection) -> float | None:
    """The limit of the score; None where there is none.

    With bad pictures, half-way across the widest gap at which the fewest are on the wrong side, each kind by its
    share. Without, see `reject_limit`: a further good picture is above it with a chance of at most the rate.
    """
    if found.reject_rate == 0 or not found.scores:
        return None
    good = np.array(found.scores)
    if found.bad_scores:
        return _parting(good, np.array(found.bad_scores))
    least = reject_limit(-good, found.reject_rate, fewest=2)
    return None if least is None else float(np.float32(-least))


def _parting(good: Floats, bad: Floats) -> float:
    ends = np.unique(np.concatenate([good, bad]))
    ends = np.concatenate([[0.0], ends, [2.0]])
    middles, gaps = (ends[1:] + ends[:-1]) / 2, np.diff(ends)
    wrong = np.array([(good > limit).mean() + (bad <= limit).mean() for limit in middles])
    best = wrong <= wrong.min() + 1e-12
    return float(np.float32(middles[best][gaps[best].argmax()]))


def counted(found: Inspection, limit: float) -> Inspection:
    """The record with the pictures on the wrong side of the limit."""
    lost, missed = sum(score > limit for score in found.scores), sum(score <= limit for score in found.bad_scores)
    return found.replace(lost=lost, missed=missed)


class Seen:
    """From preprocessed pictures to patches of length 1, (n, positions, channels); shared among the cores."""

    def __init__(self, network: Network, settings: PatchSettings, preprocessing: Preprocessing) -> None:
        self._network, self.settings = network, settings
        self.parts: Params = {}
        self.parts = how_patches_vary(self._patches(made_up(preprocessing)))

    def __call__(self, images: Pixels) -> Tensor:
        """The patches of images, uint8 (n, height, width, channels)."""
        return directions(self._patches(images), self.parts)

    def _patches(self, images: Pixels) -> Tensor:
        def work(batch: Tensor, cores: int) -> Tensor:  # noqa: ARG001
            with torch.no_grad():
                return patches(self._network.outputs(batch), self.settings)

        batches = torch.split(torch.from_numpy(images), FEW)
        return torch.cat(list(side_by_side([partial(work, batch) for batch in batches])))


def made_up(preprocessing: Preprocessing) -> Pixels:
    """Made-up textures of every kind, the same each time, preprocessed."""
    rng = np.random.default_rng(0)
    side = max(preprocessing.height, preprocessing.width)
    return np.stack(
        [preprocess(textured(drawn_texture(rng, i % 5), side, rng), preprocessing) for i in range(TEXTURES)]
    )


def how_patches_vary(found: Tensor) -> Params:
    """`centre`, the mean of patches, (channels,), and `whitening`, after which made-up ones vary alike in all channels.

    The matrix is S (0.7 C + 0.3)^(-1/2), with C the correlations and S the inverses of the standard deviations. Angles
    of patches so changed tell good from bad far better than distances as they are: see docs/inspection.md.
    """
    rows = found.flatten(0, 1).double()
    inverse = 1 / rows.std(0).clamp_min(1e-9)
    correlations = torch.cov((rows * inverse).T)
    values, vectors = torch.linalg.eigh((1 - SHRINKAGE) * correlations + SHRINKAGE * torch.eye(len(inverse)))
    whitening = inverse[:, None] * (vectors * values.clamp_min(1e-9).rsqrt()) @ vectors.T
    return {"centre": rows.mean(0).float(), "whitening": whitening.float().contiguous()}


@dataclass(frozen=True, kw_only=True, eq=False)
class Trial:
    """A way to keep good pictures: what is kept of each, and scores of each left out, as it is and with a piece pasted.

    kept: (n, quota, channels); scores, pasted: (n,), none for a single picture.
    """

    views: Views
    kept: Tensor
    scores: Floats
    pasted: Floats

    @property
    def losses(self) -> Floats:
        """For each picture, the share of pictures whose score its own with a piece pasted does not pass."""
        found: Floats = (self.pasted[:, None] <= self.scores[None]).mean(1)
        return found


def trial(seen: Seen, good: Pixels, views: Views, seed: int) -> Trial:
    """What comes of keeping the good pictures, uint8 (n, height, width, channels), in these views."""
    each = [seen(view) for view in views_of(good, views)]
    rows = quota(seen.settings.memory, len(good))
    kept = most_different(torch.cat(each, 1), rows)
    none = np.empty(0)
    if len(good) == 1:
        return Trial(views=views, kept=kept, scores=none, pasted=none)
    rng = np.random.default_rng((seed, len(good)))
    changed = seen(np.stack([pasted(image, rng) for image in good]))
    found = [left_out_scores(rows, kept, seen.settings.top).double().numpy() for rows in (each[0], changed)]
    return Trial(views=views, kept=kept, scores=found[0], pasted=found[1])


def compared(seen: Seen, good: Pixels, seed: int, watch: Watch) -> list[Trial]:
    """A trial of each way to keep them, `as taken` first and alone where there are too few pictures, or many."""
    square = good.shape[1] == good.shape[2]
    every: Sequence[Views] = [views for views in get_args(Views) if square or views != "turned"]
    trials: list[Trial] = []

    def work() -> Iterator[str]:
        for views in every if len(good) in COMPARED else every[:1]:
            trials.append(trial(seen, good, views, seed))
            yield views

    for _ in watch(work(), len(every) if len(good) in COMPARED else 1):
        pass
    return trials


def better(trials: Sequence[Trial]) -> Trial:
    """The first trial, or that which has a lower loss by more than one standard error of the paired difference."""
    chosen = trials[0]
    for other in trials[1:]:
        gain = trials[0].losses - other.losses
        if gain.mean() > standard_error(gain) and other.losses.mean() < chosen.losses.mean():
            chosen = other
    return chosen


def views_of(images: Pixels, views: Views) -> list[Pixels]:
    """The images, and with `turned` their quarter turns, with `shifted` the same by 4 pixels down, right and both."""
    if views == "turned":
        return [np.ascontiguousarray(np.rot90(images, turns, (1, 2))) for turns in range(4)]
    if views == "shifted":
        padded = np.pad(images, ((0, 0), (4, 0), (4, 0), (0, 0)), mode="edge")
        height, width = images.shape[1:3]
        return [
            np.ascontiguousarray(padded[:, down : down + height, right : right + width])
            for down, right in ((4, 4), (0, 4), (4, 0), (0, 0))
        ]
    return [images]
