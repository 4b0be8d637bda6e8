"""Adapting an initialization to a user's own examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch

from fewshot_sdk.adaptation.choice import choose
from fewshot_sdk.adaptation.cross_validation import (
    Candidate,
    Outcome,
    Watch,
    cross_validate,
)
from fewshot_sdk.adaptation.methods import Adapter, Strategy
from fewshot_sdk.adaptation.rejection import calibrate
from fewshot_sdk.artifacts.classifier import Classifier
from fewshot_sdk.artifacts.initialization import Initialization
from fewshot_sdk.config.recipe import Preprocessing, Recipe
from fewshot_sdk.config.records import Calibration, ClassifierConfig, Method
from fewshot_sdk.engine.compiler import made_with
from fewshot_sdk.engine.features import feature_backbones, frozen
from fewshot_sdk.engine.heads import centre_of, class_sums
from fewshot_sdk.engine.inner_loop import one_thread
from fewshot_sdk.engine.processors import cores
from fewshot_sdk.errors import ConfigError
from fewshot_sdk.images.examination import Examined, Warn, read_examined
from fewshot_sdk.images.support import SupportSet
from fewshot_sdk.images.thumbnails import is_grey
from fewshot_sdk.runtime.calibration import REJECT_RATE as REJECT_RATE
from fewshot_sdk.runtime.folds import folds_and_repeats
from fewshot_sdk.storage.bundles import CLASSIFIER

PREFERRED = "photo"  # of several initializations that cannot be compared
MANY_PICTURES = 500


@dataclass(frozen=True, kw_only=True, eq=False)
class Adaptation:
    """A classifier, the reason for choosing it (one sentence), and the results of all that were compared."""

    classifier: Classifier
    reason: str
    outcomes: tuple[Outcome, ...] = ()


def adapt(
    init: Initialization,
    support: SupportSet | str | Path,
    *,
    method: Method | Literal["auto"] | None = None,
    steps: int | None = None,
    reject_rate: float | None = REJECT_RATE,
    seed: int = 0,
    warn: Warn = lambda finding: None,  # noqa: ARG005
) -> Classifier:
    """Adapt `init` to a few examples, as `fewshot adapt --init` does.

    support: a folder of class folders, a CSV or a zip, which the doctor checks, or a SupportSet preprocessed with the
    recipe's settings.
    method: `reptile` takes gradient steps, `prototypes` and `probe` only make a new head, and `auto` chooses
    by cross-validation. None is `reptile` if `steps` are given, else `auto`. steps: for `reptile`; None takes
    the recipe's. Normalization is frozen to the statistics of the support set, so that each later picture is
    classified independently of the others.
    reject_rate: the share of pictures of known classes that may be called unknown; the temperature is then fitted by
    cross-validation as well. None keeps the temperature at 1 and calls nothing unknown.
    warn: called with each of the doctor's warnings.
    Raises SupportError for unusable examples, with all errors that the doctor finds.
    """
    inits = {init.recipe.preset: init}
    return compare_and_adapt(
        inits, support, method=method, steps=steps, reject_rate=reject_rate, seed=seed, warn=warn
    ).classifier


def compare_and_adapt(
    inits: Mapping[str, Initialization],
    support: SupportSet | Examined | str | Path,
    *,
    method: Method | Literal["auto"] | None = None,
    steps: int | None = None,
    reject_rate: float | None = REJECT_RATE,
    seed: int = 0,
    warn: Warn = lambda finding: None,  # noqa: ARG005
    watch: Watch = lambda work, total: work,  # noqa: ARG005
) -> Adaptation:
    """As `adapt`, but choose among several initializations, given by name, and say why.

    If fewer than two classes have a second picture, nothing can be compared. Then `auto` is `reptile` with the recipe's
    steps or, where `strategies_of` does not try that, the method that the initialization is `made_for`; of several
    initializations it takes `photo`; the temperature is 1 and nothing is called unknown. (With one picture of each
    class a probe on `photo` was right on 57 % of sketches and 29 of the example's 30 drawings, Reptile's steps from
    `omniglot` on 33 % and 19; only on Omniglot's own characters, 10-way, it was behind, 91 against 96 %.)
    support: as for `adapt`, or pictures already read and checked, preprocessed with every recipe's settings.
    watch: called with each longer piece of work, as an iterator over its parts, and their number.
    """
    if reject_rate is not None and not 0 <= reject_rate < 1:
        raise ConfigError(f"reject_rate: expected at least 0 and under 1, found {reject_rate}")
    method = method or ("auto" if steps is None else "reptile")
    if method not in ("auto", *get_args(Method)):
        raise ConfigError(f"method: expected auto, {', '.join(get_args(Method))}, found {method!r}")
    variants = [(name, each) for name, init in inits.items() for each in variants_of(init, method)]
    supports = _by_preprocessing(support, [init.recipe.preprocessing for _, init in variants], warn)
    candidates: list[Candidate] = []
    for name, init in variants:
        examples = supports[init.recipe.preprocessing]
        if any(c.name == name and np.array_equal(c.support.images, examples.images) for c in candidates):
            continue  # square pictures are the same cropped or stretched
        strategies = strategies_of(init, method, steps, len(examples.targets))
        candidates.append(Candidate(name=name, init=init, support=examples, strategies=strategies))
    return adapt_candidates(_fitting(candidates), method, reject_rate=reject_rate, seed=seed, watch=watch)


def adapt_candidates(
    candidates: Sequence[Candidate], method: Method | Literal["auto"], *, reject_rate: float | None, seed: int,
    watch: Watch,
) -> Adaptation:  # fmt: skip
    """The best of the candidates, and why; see `compare_and_adapt`."""
    if not folds_and_repeats(candidates[0].support.targets, 1)[0]:
        candidate = next((c for c in candidates if c.name == PREFERRED), candidates[0])
        steps = [each for each in candidate.strategies if each.method == "reptile"]
        made = Strategy(method=made_for(candidate.init.recipe))
        default = max(steps, key=lambda each: each.steps, default=made)  # of several rates, the first
        strategy = default if method == "auto" else candidate.strategies[0]
        one_each = len(candidates[0].support.targets) == len(candidates[0].support.labels)
        example = candidate.init.recipe.preprocessing.example
        shortage = f"one {example} a class" if one_each else f"a second {example} in only one class"
        reason = (
            f"cannot cross-validate with {shortage} (two classes with a second {example} would do): "
            f"took {strategy.method if method == 'auto' else 'the given method'} from {candidate.name}, "
            "temperature 1, and nothing will be called unknown"
        )
        return Adaptation(classifier=_finish(candidate, strategy, seed), reason=reason)
    if len(candidates) == 1 and len(candidates[0].strategies) == 1 and reject_rate is None:
        return Adaptation(classifier=_finish(candidates[0], candidates[0].strategies[0], seed), reason="as given")
    outcomes = cross_validate(candidates, seed=seed, watch=watch)
    chosen, reason = choose(outcomes)
    classifier = _finish(chosen.candidate, chosen.strategy, seed, tuple(outcomes))
    if reject_rate is not None:
        classifier = _calibrated(classifier, *calibrate(chosen, reject_rate=reject_rate, seed=seed, watch=watch))
    return Adaptation(classifier=classifier, reason=reason, outcomes=tuple(outcomes))


def variants_of(init: Initialization, method: Method | Literal["auto"]) -> tuple[Initialization, ...]:
    """The initialization with each way to make pictures fit that `auto` compares, the recipe's first."""
    recipe = init.recipe
    others = [fit for fit in recipe.backbone.fits if fit != recipe.preprocessing.fit] if method == "auto" else []
    fitted = [recipe.preprocessing.replace(fit=fit) for fit in others]
    return init, *(replace(init, recipe=recipe.replace(preprocessing=each)) for each in fitted)


def settings_of(inits: Mapping[str, Initialization], method: Method | Literal["auto"]) -> list[Preprocessing]:
    """All settings that a support set has to be read with."""
    return [each.recipe.preprocessing for init in inits.values() for each in variants_of(init, method)]


def _by_preprocessing(
    support: SupportSet | Examined | str | Path, wanted: Sequence[Preprocessing], warn: Warn
) -> Mapping[Preprocessing, SupportSet]:
    if isinstance(support, SupportSet):
        return dict.fromkeys(wanted, support)
    return (support if isinstance(support, Examined) else read_examined(support, wanted, warn=warn)).supports


def _fitting(candidates: Sequence[Candidate]) -> Sequence[Candidate]:
    """Without the networks for drawings if most pictures are in colour, and others are there to take."""
    for_colour = [c for c in candidates if c.support.images.shape[3] == 3]
    return for_colour if for_colour and _in_colour(candidates) else candidates


def _in_colour(candidates: Sequence[Candidate]) -> bool:
    """Whether most pictures are in colour; False if no candidate has three channels."""
    images = next((c.support.images for c in candidates if c.support.images.shape[3] == 3), None)
    return images is not None and sum(not is_grey(image) for image in images) > len(images) / 2


def made_for(recipe: Recipe) -> Method:
    """The default method for an initialization by this recipe."""
    if recipe.backbone.comes_trained:
        return "probe"
    if recipe.head == "prototype":
        return "prototypes"
    return "probe" if recipe.pretraining else "reptile"


def suitable(inits: Mapping[str, Initialization]) -> dict[str, Initialization]:
    """The initializations for any number of classes, and for any use.

    The others are the paper's experiments, for a fixed number, and those trained on pictures for research only.
    """
    return {
        name: init
        for name, init in inits.items()
        if init.recipe.head != "dense" and not (init.recipe.data.row.research or init.provenance.for_research)
    }


def strategies_of(
    init: Initialization, method: Method | Literal["auto"], steps: int | None, n_pictures: int
) -> tuple[Strategy, ...]:
    """The strategies to try with one initialization, simplest first.

    With `trainable="tail"` reptile's steps of SGD are tried at several rates.
    `auto` tries reptile with a quarter, half and all of the recipe's steps; with over 500 pictures, only with all.
    From a pre-trained network or a ProtoNet it tries reptile only if `steps` are given: that takes as long as all else.
    """
    most = _steps(init, steps)
    loop = init.recipe.adaptation
    at_rates = loop.trainable == "tail" and loop.optimizer == "sgd"
    rates = (at_rates and init.recipe.backbone.tail_rates) or (None,)
    if method == "reptile":
        return tuple(Strategy(method=method, steps=most, rate=rate) for rate in rates)
    if method != "auto":
        return (Strategy(method=method),)
    if steps is None and made_for(init.recipe) != "reptile":
        several = range(len(feature_backbones(init.recipe)))
        return (Strategy(method="prototypes"), *(Strategy(method="probe", features=i) for i in several))
    counts = (most,) if steps is not None or n_pictures > MANY_PICTURES else (most // 4, most // 2, most)
    each = sorted({count for count in counts if count})
    reptile = [Strategy(method="reptile", steps=count, rate=rate) for count in each for rate in rates]
    return (Strategy(method="prototypes"), Strategy(method="probe"), *reptile)


def _steps(init: Initialization, steps: int | None) -> int:
    return init.recipe.adaptation.steps if steps is None else steps


def _finish(candidate: Candidate, strategy: Strategy, seed: int, outcomes: tuple[Outcome, ...] = ()) -> Classifier:
    """The classifier made from all pictures by one strategy."""
    init, support = candidate.init, candidate.support
    adapter = Adapter(init, len(support.labels))
    images, targets = torch.from_numpy(support.images), torch.from_numpy(support.targets)
    with one_thread():
        features = None
        if strategy.method != "reptile":
            features = candidate.features.values if candidate.features else adapter.features(images)
        ((_, params),) = adapter.learn(images, targets, [strategy], seed, features, cores())
        network = adapter.network_of(strategy)
        with_statistics = frozen(network, params, images)
        sums = centre = None
        if candidate.features and strategy.method != "reptile":
            centre = centre_of(candidate.features.values[strategy.features][0], targets, len(support.labels))
        if strategy.method == "prototypes" and features is not None:
            averaged = features[strategy.features].mean(0)
            sums = dict(zip(("sums", "counts"), class_sums(averaged, targets, len(support.labels)), strict=True))
    config = ClassifierConfig(
        format=CLASSIFIER.name,
        labels=support.labels,
        preprocessing=init.recipe.preprocessing,
        backbone=network.backbone,
        adaptation=adapter.inner(strategy),
        seed=seed,
        initialization=init.origin,
        versions=made_with(),
        method=strategy.method,
        comparison=tuple(outcome.trial for outcome in outcomes) if len(outcomes) > 1 else (),
    )
    return Classifier(config=config, params=with_statistics, support=support, class_sums=sums, centre=centre)


def _calibrated(classifier: Classifier, temperature: float, least: float | None, record: Calibration) -> Classifier:
    score = "logit" if least is None or classifier.centre is None else "cosine"
    config = classifier.config.replace(temperature=temperature, least_score=least, score=score, calibration=record)
    return replace(classifier, config=config)
