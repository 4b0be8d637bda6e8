"""`RegressionInitialization`: what a few points make a curve of, and the folder it is kept in."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from fewshot_sdk.algorithms import ALGORITHMS
from fewshot_sdk.artifacts.initialization import Initialization, from_files, load
from fewshot_sdk.artifacts.states import beginning, outer_of, state_files, state_of
from fewshot_sdk.artifacts.timm import TIMM
from fewshot_sdk.config.records import Origin, Provenance
from fewshot_sdk.config.regression import REGRESSION, Fit, Regression, RegressionConfig
from fewshot_sdk.nets.params import LearnerState, Params
from fewshot_sdk.nets.perceptrons import perceptron, shapes, weights_of
from fewshot_sdk.storage import regression_cards
from fewshot_sdk.storage.bundles import WEIGHTS, format_of, open_bundle, read_archive
from fewshot_sdk.storage.files import sha256
from fewshot_sdk.storage.repositories import open_named


@dataclass(frozen=True, kw_only=True)
class RegressionInitialization:
    """Weights, the inner optimizer's memory, the recipe and how they came to be: an `Initialization` for numbers.

    evaluations: measured errors, shown on the card. source: user/repo@commit if it came from the Hub, else nothing.
    outer: what the outer optimizer remembers, to go on with training; part of a checkpoint alone.
    """

    recipe: Regression
    state: LearnerState
    provenance: Provenance
    evaluations: tuple[Fit, ...] = ()
    source: str = ""
    outer: Params = field(default_factory=dict)

    def files(self) -> dict[str, bytes]:
        """The folder's files: config.json, model.safetensors, inner_state.safetensors, README.md."""
        config = RegressionConfig(
            format=REGRESSION, recipe=self.recipe, provenance=self.provenance, evaluations=self.evaluations
        )
        card = regression_cards.initialization_card(self.recipe, self.provenance, self.evaluations)
        return {
            "config.json": (config.model_dump_json(indent=2) + "\n").encode(),
            **state_files(self.state),
            "README.md": card.encode(),
        }

    def with_evaluation(self, result: Fit) -> RegressionInitialization:
        """A copy whose card shows `result`, in place of an earlier one of as many points and steps."""
        others = [e for e in self.evaluations if (e.points, e.steps) != (result.points, result.steps)]
        return replace(self, evaluations=tuple(sorted([*others, result], key=lambda e: (e.points, e.steps))))

    @property
    def sha256(self) -> str:
        """The identity of what can be adapted: weights and inner state."""
        files = state_files(self.state)
        return sha256(b"".join(files[name] for name in WEIGHTS))

    def origin(self) -> Origin:
        """What is written of it into all that is derived from it."""
        return Origin(
            name=self.recipe.preset,
            sha256=self.sha256,
            provenance=self.provenance,
            data=self.recipe.data,
            source=self.source,
        )


def fresh_regression(recipe: Regression, provenance: Provenance) -> RegressionInitialization:
    """An initialization before any meta-training: random weights by the provenance's seed."""
    params = weights_of(perceptron(recipe.network, len(recipe.inputs), provenance.seed))
    state = beginning(params, recipe.inner, recipe.meta)
    return RegressionInitialization(recipe=recipe, state=state, provenance=provenance)


def load_any(name: str | Path) -> Initialization | RegressionInitialization:
    """The initialization, for pictures or for numbers, that `checkpoint.load` would find. Raises as that does."""
    if str(name).startswith(TIMM):
        return load(name)
    opened = open_named(name)
    of_numbers = format_of(opened.files.get("config.json", b"")) == REGRESSION
    read = _from_files if of_numbers else from_files
    return replace(read(opened.files, opened.folder), source=opened.source)


def load_regression_checkpoint(path: Path) -> RegressionInitialization:
    """The unfinished training in a file, checked as `load_any` does. Raises BundleError and ParamsMismatch."""
    return _from_files(read_archive(path), path)


def _from_files(files: dict[str, bytes], where: Path) -> RegressionInitialization:
    config = open_bundle(
        files, where, RegressionConfig, REGRESSION, WEIGHTS, "an initialization for numbers, such as `sine`"
    )
    recipe, params = config.recipe, shapes(config.recipe.network, len(config.recipe.inputs))
    moments, rates = recipe.inner.optimizer == "adam", ALGORITHMS[recipe.meta.algorithm].learns_rates
    like = LearnerState(  # no arithmetic: on tensors without memory it would import PyTorch's compiler
        params=params, second_moments=params if moments else {}, updates=0, rates=params if rates else {}
    )
    return RegressionInitialization(
        recipe=recipe,
        state=state_of(files, where, like),
        provenance=config.provenance,
        evaluations=config.evaluations,
        outer=outer_of(files, where, like, recipe.meta),
    )
