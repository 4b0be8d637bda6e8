"""`Initialization`: everything needed to adapt to a new task, and the folder it is saved in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Generic, TypeAlias

import torch
from torch import Tensor
from typing_extensions import TypeIs, TypeVar

from fewshot_sdk.algorithms import ALGORITHMS
from fewshot_sdk.artifacts.states import initial_state, outer_files, outer_of, state_files, state_of
from fewshot_sdk.config.recipe import Recipe
from fewshot_sdk.config.recipe_files import recipe_text
from fewshot_sdk.config.records import Evaluation, InitializationConfig, Metric, Origin, Progress, Provenance
from fewshot_sdk.config.regression import Fit, Regression, RegressionConfig
from fewshot_sdk.engine.heads import close_head
from fewshot_sdk.errors import ConfigError
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
from fewshot_sdk.storage.files import RECIPE, sha256
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
    bundled: the name under which it comes with the package, if it does.
    outer: the outer optimizer's state, needed to continue training; written to checkpoints only.
    """

    recipe: R
    state: LearnerState
    provenance: Provenance
    evaluations: tuple[E, ...] = ()
    metrics: tuple[Metric, ...] = ()
    progress: tuple[Progress, ...] = ()
    source: str = ""
    bundled: str = ""
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
        own = getattr(self.recipe.data, "own", None)  # numbers have no classes
        return Origin(
            name=self.bundled or self.recipe.preset,
            sha256=self.sha256,
            provenance=self.provenance,
            data=str(self.recipe.data),
            source=self.source,
            classes=own.train if own else (),
        )

    @property
    def own_classes(self) -> frozenset[str]:
        """The names of all one's own classes that it, or what it went on from, was trained on."""
        return frozenset(self.origin.classes).union(*(origin.classes for origin in self.provenance.chain))

    @property
    def named_classes(self) -> frozenset[str]:
        """The same, and the classes of published data sets with names that one's own data may have, such as cup."""
        row = getattr(self.recipe.data, "row", None)  # numbers have no classes
        return self.own_classes | self.provenance.classes_before | frozenset(row.classes if row else ())


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


def continued(start: Initialization, recipe: Recipe, provenance: Provenance) -> Initialization:
    """The beginning of a training by `recipe` that goes on from `start`, which has the same backbone.

    Kept are the weights and, where the recipe has a use for them, the rows of a dense head, the second moments of the
    inner optimizer and the learned rates. `provenance` is completed by the chain that leads to `start`.
    Raises ConfigError for another backbone or pixels of another kind.
    """
    was = start.recipe
    for name, mine, theirs in (
        ("backbone", recipe.backbone, was.backbone),
        ("preprocessing", recipe.preprocessing, was.preprocessing),
    ):
        if mine != theirs:
            raise ConfigError(
                f"{name}: expected that of the initialization to go on from, {theirs}, found {mine}; leave it out of "
                "the recipe, or start without an initialization"
            )
    body = {name: tensor for name, tensor in start.state.params.items() if name not in HEAD}
    rows = {name: tensor for name, tensor in start.state.params.items() if name in HEAD}
    if recipe.head == "dense" and rows and len(rows[HEAD[0]]) == recipe.meta.n_way:
        body |= rows
    made = provenance.replace(start=start.origin)
    begun = from_weights(recipe, body, made)
    memory, rates = (
        {name: _as_rows(kept[name], like) if name in kept else like for name, like in wanted.items()}
        for kept, wanted in (
            (start.state.second_moments, begun.state.second_moments),
            (start.state.rates, begun.state.rates),
        )
    )
    updates = start.state.updates if start.state.second_moments and memory else 0
    return replace(begun, state=replace(begun.state, second_moments=memory, rates=rates, updates=updates))


def _as_rows(kept: Tensor, like: Tensor) -> Tensor:
    """What is remembered of a head's rows, for another number of rows: their mean for each."""
    return kept if kept.shape == like.shape else kept.mean(0, keepdim=True).expand(like.shape).clone()


def fresh_for_numbers(recipe: Regression, provenance: Provenance) -> NumberInitialization:
    """An initialization for numbers before any meta-training: random weights, drawn by `provenance.seed`."""
    params = weights_of(perceptron(recipe.network, len(recipe.inputs), provenance.seed))
    state = initial_state(params, recipe.inner, recipe.meta)
    return NumberInitialization(recipe=recipe, state=state, provenance=provenance)


def save_checkpoint(init: AnyInitialization, path: Path) -> Path:
    """Write an unfinished training run to one file, replacing an older one. Raises SaveError."""
    return write_archive(path, {**files_of_run(init), **outer_files(init.outer)})


def files_of_run(init: AnyInitialization) -> dict[str, bytes]:
    """The files of an initialization that a training run made: its own, and the recipe that repeats the run."""
    return {**init.files(), RECIPE: recipe_text(init.recipe).encode()}


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
        bundled=config.bundled,
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
        bundled=config.bundled,
        progress=from_lines(files.get(METRICS, b""))[1],
        outer=outer_of(files, where, template, recipe.meta),
    )


def _config_and_card(init: AnyInitialization) -> tuple[InitializationConfig | RegressionConfig, str]:
    """The settings for config.json, and the card."""
    if of_numbers(init):
        numbers = RegressionConfig(
            format=REGRESSION.name, bundled=init.bundled, recipe=init.recipe, provenance=init.provenance,
            evaluations=init.evaluations,
        )  # fmt: skip
        return numbers, cards.regression_card(numbers)
    pictures = InitializationConfig(
        format=INITIALIZATION.name, bundled=init.bundled, recipe=init.recipe, provenance=init.provenance,
        evaluations=init.evaluations,
    )  # fmt: skip
    return pictures, cards.initialization_card(pictures)


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
