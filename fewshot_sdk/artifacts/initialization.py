"""`Initialization`: everything needed to adapt to a new task, and the folder it is saved in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Generic, TypeAlias

import torch
from typing_extensions import TypeIs, TypeVar

from fewshot_sdk.algorithms import ALGORITHMS
from fewshot_sdk.artifacts.states import initial_state, outer_files, outer_of, state_files, state_of
from fewshot_sdk.config.recipe import Recipe
from fewshot_sdk.config.records import Evaluation, InitializationConfig, Metric, Origin, Progress, Provenance
from fewshot_sdk.config.regression import Fit, Regression, RegressionConfig
from fewshot_sdk.engine.heads import close_head
from fewshot_sdk.nets.network import HEAD, build_network, random_params
from fewshot_sdk.nets.params import LearnerState, Params
from fewshot_sdk.nets.perceptrons import perceptron, shapes, weights_of
from fewshot_sdk.storage import cards
from fewshot_sdk.storage.bundles import (
    INITIALIZATION,
    REGRESSION,
    WEIGHTS,
    read_archive,
    settings_of,
    write_archive,
)
from fewshot_sdk.storage.files import sha256
from fewshot_sdk.storage.metrics import METRICS, from_lines, to_lines

R = TypeVar("R", Recipe, Regression, default=Recipe)
E = TypeVar("E", Evaluation, Fit, default=Evaluation)


@dataclass(frozen=True, kw_only=True)
class Initialization(Generic[R, E]):
    """Weights, the inner optimizer's second moments, the recipe and the provenance.

    For pictures it has a `Recipe`; for numbers it is a `NumberInitialization`, with a `Regression`.
    state: as stored (see `heads.close_head`), float32 on the CPU.
    evaluations: measured results, shown on the card: accuracies for pictures, errors for numbers.
    metrics: accuracies during training, and progress: the other lines of metrics.jsonl, without an accuracy.
    source: user/repo@commit if it came from the Hub, else empty; not part of its files.
    outer: the outer optimizer's state, needed to continue training; written to checkpoints only.
    """

    recipe: R
    state: LearnerState
    provenance: Provenance
    evaluations: tuple[E, ...] = ()
    metrics: tuple[Metric, ...] = ()
    progress: tuple[Progress, ...] = ()
    source: str = ""
    outer: Params = field(default_factory=dict)

    def files(self) -> dict[str, bytes]:
        """The folder's files: config.json, model.safetensors, inner_state.safetensors and README.md, and metrics.jsonl
        if there are lines for it."""
        config, card = _config_and_card(self)  # type: ignore[arg-type]
        files = {
            "config.json": (config.model_dump_json(indent=2) + "\n").encode(),
            **state_files(self.state),
            "README.md": card.encode(),
        }
        if self.metrics or self.progress:
            files[METRICS] = to_lines((*self.metrics, *self.progress))
        return files

    def with_evaluation(self, result: E) -> Initialization[R, E]:
        """A copy whose card shows `result`, which replaces an earlier one for the same kind of task."""
        kept: list[E] = [e for e in self.evaluations if e.task != result.task]
        kept.append(result)
        return replace(self, evaluations=tuple(sorted(kept, key=lambda e: e.task)))

    @property
    def sha256(self) -> str:
        """The hash of the weights and the inner state, which identifies the initialization."""
        files = state_files(self.state)
        return sha256(b"".join(files[name] for name in WEIGHTS))

    @property
    def origin(self) -> Origin:
        """The record of this initialization that is written into everything derived from it."""
        return Origin(
            name=self.recipe.preset,
            sha256=self.sha256,
            provenance=self.provenance,
            data=str(self.recipe.data),
            source=self.source,
        )


NumberInitialization: TypeAlias = Initialization[Regression, Fit]
AnyInitialization: TypeAlias = Initialization | NumberInitialization


def of_numbers(init: object) -> TypeIs[NumberInitialization]:
    """Whether this is an initialization for numbers, which adapts to a table."""
    return isinstance(init, Initialization) and isinstance(init.recipe, Regression)


def fresh(recipe: Recipe, seed: int, provenance: Provenance) -> Initialization:
    """An initialization before any meta-training: random weights, empty second moments."""
    network = build_network(recipe.backbone, recipe.preprocessing, recipe.meta.n_way)
    return from_weights(recipe, random_params(network, seed), provenance)


def from_weights(recipe: Recipe, params: Params, provenance: Provenance) -> Initialization:
    """An initialization with these weights, before any meta-training; a missing head is drawn by `provenance.seed`."""
    if not params.keys() >= set(HEAD):
        with torch.device("meta"):
            network = build_network(recipe.backbone, recipe.preprocessing, recipe.meta.n_way)
        rows, bias = (torch.zeros(network.get_parameter(name).shape) for name in HEAD)
        torch.nn.init.xavier_uniform_(rows, generator=torch.Generator().manual_seed(provenance.seed))
        params = {**params, **dict(zip(HEAD, (rows, bias), strict=True))}
    state = close_head(initial_state(params, recipe.inner, recipe.meta), recipe.head)
    return Initialization(recipe=recipe, state=state, provenance=provenance)


def fresh_for_numbers(recipe: Regression, provenance: Provenance) -> NumberInitialization:
    """An initialization for numbers before any meta-training: random weights, drawn by `provenance.seed`."""
    params = weights_of(perceptron(recipe.network, len(recipe.inputs), provenance.seed))
    state = initial_state(params, recipe.inner, recipe.meta)
    return NumberInitialization(recipe=recipe, state=state, provenance=provenance)


def save_checkpoint(init: AnyInitialization, path: Path) -> Path:
    """Write an unfinished training run to one file, replacing an older one. Raises SaveError."""
    return write_archive(path, {**init.files(), **outer_files(init.outer)})


def load_checkpoint(path: Path) -> Initialization:
    """The unfinished training run in a file, checked as `load` does. Raises BundleError and ParamsMismatch."""
    return read_initialization(read_archive(path), path)


def load_checkpoint_of_numbers(path: Path) -> NumberInitialization:
    """The unfinished training run for numbers in a file, checked likewise."""
    return read_numbers(read_archive(path), path)


def read_initialization(files: Mapping[str, bytes], where: Path) -> Initialization:
    """The initialization in a folder's files, checked as `load` does. Raises BundleError and ParamsMismatch."""
    config = settings_of(files, where, INITIALIZATION)
    template = _template(config.recipe)
    metrics, progress = from_lines(files.get(METRICS, b""))
    return Initialization(
        recipe=config.recipe,
        state=state_of(files, where, template),
        provenance=config.provenance,
        evaluations=config.evaluations,
        metrics=metrics,
        progress=progress,
        outer=outer_of(files, where, template, config.recipe.meta),
    )


def read_numbers(files: Mapping[str, bytes], where: Path) -> NumberInitialization:
    """The initialization for numbers in a folder's files. Raises BundleError and ParamsMismatch."""
    config = settings_of(files, where, REGRESSION)
    recipe, params = config.recipe, shapes(config.recipe.network, len(config.recipe.inputs))
    template = _template_state(recipe, params, params)
    return NumberInitialization(
        recipe=recipe,
        state=state_of(files, where, template),
        provenance=config.provenance,
        evaluations=config.evaluations,
        progress=from_lines(files.get(METRICS, b""))[1],
        outer=outer_of(files, where, template, recipe.meta),
    )


def _config_and_card(init: AnyInitialization) -> tuple[InitializationConfig | RegressionConfig, str]:
    """The settings for config.json, and the card."""
    if of_numbers(init):
        config = RegressionConfig(
            format=REGRESSION.name, recipe=init.recipe, provenance=init.provenance, evaluations=init.evaluations
        )
        return config, cards.regression_card(init.recipe, init.provenance, init.evaluations)
    return InitializationConfig(
        format=INITIALIZATION.name, recipe=init.recipe, provenance=init.provenance, evaluations=init.evaluations
    ), cards.initialization_card(init.recipe, init.provenance, init.evaluations)


def _template(recipe: Recipe) -> LearnerState:
    """The shapes a recipe's tensors must have, as tensors without memory: a config.json may ask for any size."""
    with torch.device("meta"):
        network = build_network(recipe.backbone, recipe.preprocessing, recipe.meta.n_way)
    params = {name: tensor.detach() for name, tensor in network.named_parameters()}
    learned = params
    if recipe.head != "dense":
        learned = {name: tensor[:1] if name in HEAD else tensor for name, tensor in params.items()}
        params = {name: tensor for name, tensor in params.items() if name not in HEAD}
    return _template_state(recipe, params, learned)


def _template_state(recipe: Recipe | Regression, params: Params, learned: Params) -> LearnerState:
    """A state of tensors without memory. Arithmetic on them would import PyTorch's compiler, and sympy with it."""
    return LearnerState(
        params=params,
        second_moments=learned if recipe.inner.optimizer == "adam" else {},
        updates=0,
        rates=learned if ALGORITHMS[recipe.meta.algorithm].learns_rates else {},
    )
