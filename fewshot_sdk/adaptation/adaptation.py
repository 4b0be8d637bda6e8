"""From an initialization and a user's own examples to a classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from fewshot_sdk.adaptation.cross_validation import Candidate, Outcome, Watch, cross_validate, plan, surest_within_error
from fewshot_sdk.adaptation.methods import Adapter, Strategy
from fewshot_sdk.adaptation.rejection import calibrate
from fewshot_sdk.artifacts.classifier import Classifier
from fewshot_sdk.artifacts.initialization import Initialization
from fewshot_sdk.config.recipe import Preprocessing, Recipe
from fewshot_sdk.config.records import Calibration, ClassifierConfig, Method
from fewshot_sdk.engine.compiler import made_with
from fewshot_sdk.engine.features import frozen
from fewshot_sdk.engine.heads import class_sums
from fewshot_sdk.engine.inner_loop import one_thread
from fewshot_sdk.engine.processors import cores
from fewshot_sdk.errors import ConfigError
from fewshot_sdk.images.examination import Examined, Warn, read_examined
from fewshot_sdk.images.support import SupportSet
from fewshot_sdk.images.thumbnails import is_grey
from fewshot_sdk.storage.bundles import CLASSIFIER

DRAWINGS, PHOTOGRAPHS = "omniglot", "photo"  # of several, where nothing can be compared
MANY_PICTURES = 500
REJECT_RATE = 0.05


@dataclass(frozen=True, kw_only=True, eq=False)
class Adaptation:
    """A classifier, how it came to be chosen (one sentence), and what it was chosen from."""

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
    """The classifier that `init` becomes by a few examples: what `fewshot adapt --init` makes of them.

    support: a folder of class folders, a CSV or a zip, which the doctor looks at, or a SupportSet preprocessed with
    the recipe's settings.
    method: `reptile` takes gradient steps, `prototypes` and `probe` only make a new head, and `auto` chooses
    by cross-validation. None is `reptile` if `steps` are given, else `auto`. steps: of `reptile`; None takes
    the recipe's. The normalization is frozen to the statistics of the support set, so that each later picture is
    judged alone.
    reject_rate: the share of known pictures that may be called unknown; the temperature is then fitted, too, by
    cross-validation. None leaves the temperature at 1 and never says unknown.
    warn: handed each of the doctor's warnings.
    Raises SupportError for what cannot be used, with all errors that the doctor finds.
    """
    made = compare_and_adapt(
        {init.recipe.preset: init}, support, method=method, steps=steps, reject_rate=reject_rate, seed=seed, warn=warn
    )
    return made.classifier


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
    """As `adapt`, choosing among several initializations, by name; and with the reason for the choice.

    Where no two classes have a second picture nothing can be compared: then `auto` is `reptile` with the recipe's
    steps, or where `strategies_of` tries none what the initialization is `made_for`; of several initializations it
    takes `photo` if most pictures are in colour, else `omniglot`; the temperature is 1 and nothing is unknown. (With
    one picture a class the three ways are within a point of each other on characters; on drawings foreign to the
    initialization Reptile was ahead.)
    support: as for `adapt`, or what was read and examined already, by all their recipes' settings.
    watch: handed every longer piece of work, an item for each part of it, and their number.
    """
    if reject_rate is not None and not 0 <= reject_rate < 1:
        raise ConfigError(f"reject_rate: expected at least 0 and under 1, found {reject_rate}")
    method = method or ("auto" if steps is None else "reptile")
    seen = _as_seen(support, [init.recipe.preprocessing for init in inits.values()], warn)
    candidates = []
    for name, init in inits.items():
        its = seen[init.recipe.preprocessing]
        strategies = strategies_of(init, method, steps, len(its.targets))
        candidates.append(Candidate(name=name, init=init, support=its, strategies=strategies))
    if not plan(candidates[0].support.targets, 1)[0]:
        wanted = PHOTOGRAPHS if _in_colour(candidates) else DRAWINGS
        candidate = next((e for e in candidates if e.name == wanted), candidates[0])
        stepping = Strategy(method="reptile", steps=_steps(candidate.init, steps))
        usual = stepping if stepping in candidate.strategies else Strategy(method=made_for(candidate.init.recipe))
        strategy = usual if method == "auto" else candidate.strategies[-1]
        alone = len(candidates[0].support.targets) == len(candidates[0].support.labels)
        short = "one picture a class" if alone else "a second picture in one class alone"
        reason = (
            f"cannot cross-validate with {short} (two classes with a second picture would do): "
            f"took {strategy.method if method == 'auto' else 'the method as told'} from {candidate.name}, "
            "temperature 1, and nothing will be called unknown"
        )
        return Adaptation(classifier=_finish(candidate, strategy, seed), reason=reason)
    if len(candidates) == 1 and len(candidates[0].strategies) == 1 and reject_rate is None:
        return Adaptation(classifier=_finish(candidates[0], candidates[0].strategies[0], seed), reason="as told")
    outcomes = cross_validate(candidates, seed=seed, watch=watch)
    chosen, reason = surest_within_error(outcomes)
    classifier = _finish(chosen.candidate, chosen.strategy, seed, tuple(outcomes))
    if reject_rate is not None:
        classifier = _calibrated(classifier, *calibrate(chosen, reject_rate=reject_rate, seed=seed, watch=watch))
    return Adaptation(classifier=classifier, reason=reason, outcomes=tuple(outcomes))


def _as_seen(
    support: SupportSet | Examined | str | Path, wanted: Sequence[Preprocessing], warn: Warn
) -> Mapping[Preprocessing, SupportSet]:
    if isinstance(support, SupportSet):
        return dict.fromkeys(wanted, support)
    return (support if isinstance(support, Examined) else read_examined(support, wanted, warn=warn)).supports


def _in_colour(candidates: Sequence[Candidate]) -> bool:
    """Whether most pictures are, as seen by an initialization that sees colours."""
    seen = next((e.support.images for e in candidates if e.support.images.shape[3] == 3), None)
    return seen is not None and sum(not is_grey(image) for image in seen) > len(seen) / 2


def made_for(recipe: Recipe) -> Method:
    """How an initialization by this recipe is best adapted, where nothing else is known."""
    if recipe.head == "prototype":
        return "prototypes"
    return "probe" if recipe.pretraining or recipe.backbone.comes_trained else "reptile"


def suitable(inits: Mapping[str, Initialization]) -> dict[str, Initialization]:
    """Those made for any number of classes; those for one number are the paper's experiments."""
    return {name: init for name, init in inits.items() if init.recipe.head != "dense"}


def strategies_of(
    init: Initialization, method: Method | Literal["auto"], steps: int | None, n_pictures: int
) -> tuple[Strategy, ...]:
    """What is tried with one initialization, simplest first.

    With `auto` reptile is tried with a quarter, half and all of the recipe's steps; over 500 pictures only with all.
    From a pre-trained network or a ProtoNet it is tried only if `steps` are given: one takes as long as all the rest.
    """
    usual = _steps(init, steps)
    if method == "reptile":
        return (Strategy(method=method, steps=usual),)
    if method != "auto":
        return (Strategy(method=method),)
    if steps is None and made_for(init.recipe) != "reptile":
        return (Strategy(method="prototypes"), Strategy(method="probe"))
    counts = (usual,) if steps is not None or n_pictures > MANY_PICTURES else (usual // 4, usual // 2, usual)
    reptile = [Strategy(method="reptile", steps=count) for count in sorted({count for count in counts if count})]
    return (Strategy(method="prototypes"), Strategy(method="probe"), *reptile)


def _steps(init: Initialization, steps: int | None) -> int:
    return init.recipe.adaptation.steps if steps is None else steps


def _finish(candidate: Candidate, strategy: Strategy, seed: int, outcomes: tuple[Outcome, ...] = ()) -> Classifier:
    """The classifier that learns from all pictures."""
    init, support = candidate.init, candidate.support
    adapter = Adapter(init, len(support.labels))
    images, targets = torch.from_numpy(support.images), torch.from_numpy(support.targets)
    with one_thread():
        seen = None
        if strategy.method != "reptile":
            seen = candidate.seen.features if candidate.seen else adapter.features(images)
        ((_, params),) = adapter.learn(images, targets, [strategy], seed, seen, cores())
        network = adapter.network_of(strategy)
        whole = frozen(network, params, images)
        sums = None
        if strategy.method == "prototypes" and seen is not None:
            sums = dict(zip(("sums", "counts"), class_sums(seen, targets, len(support.labels)), strict=True))
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
    return Classifier(config=config, params=whole, support=support, class_sums=sums)


def _calibrated(classifier: Classifier, temperature: float, threshold: float, record: Calibration) -> Classifier:
    config = classifier.config.replace(temperature=temperature, threshold=threshold, calibration=record)
    return replace(classifier, config=config)
