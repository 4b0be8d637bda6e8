"""`Initialization`: all that adapting to a new task needs, and the folder it is kept in."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Protocol

import torch

from fewshot_sdk.algorithms import ALGORITHMS
from fewshot_sdk.artifacts.states import beginning, outer_files, outer_of, state_files, state_of
from fewshot_sdk.artifacts.timm import TIMM, pretrained
from fewshot_sdk.config.recipe import Config, Recipe
from fewshot_sdk.config.records import Evaluation, InitializationConfig, Metric, Origin, Provenance
from fewshot_sdk.engine.heads import close_head
from fewshot_sdk.nets.network import HEAD, build_network, random_params
from fewshot_sdk.nets.params import LearnerState, Params
from fewshot_sdk.storage import cards
from fewshot_sdk.storage.bundles import INITIALIZATION, WEIGHTS, open_bundle, read_archive, write_archive
from fewshot_sdk.storage.files import sha256
from fewshot_sdk.storage.repositories import open_named
from fewshot_sdk.version import versions

FORMAT = INITIALIZATION
METRICS = "metrics.jsonl"


@dataclass(frozen=True, kw_only=True)
class Initialization:
    """Weights, the inner optimizer's second moments, the recipe and how they came to be.

    state: as stored (heads.close_head), float32 on the CPU.
    evaluations: measured accuracies, shown on the card.
    metrics: accuracies on the way, in metrics.jsonl.
    source: user/repo@commit if it came from the Hub, else nothing; not part of its files.
    outer: what the outer optimizer remembers, to go on with training; part of a checkpoint alone.
    """

    recipe: Recipe
    state: LearnerState
    provenance: Provenance
    evaluations: tuple[Evaluation, ...] = ()
    metrics: tuple[Metric, ...] = ()
    source: str = ""
    outer: Params = field(default_factory=dict)

    def files(self) -> dict[str, bytes]:
        """The folder's files: config.json, model.safetensors, inner_state.safetensors, README.md;
        metrics.jsonl if there are any."""
        config = InitializationConfig(
            format=FORMAT, recipe=self.recipe, provenance=self.provenance, evaluations=self.evaluations
        )
        files = {
            "config.json": (config.model_dump_json(indent=2) + "\n").encode(),
            **state_files(self.state),
            "README.md": cards.initialization_card(self.recipe, self.provenance, self.evaluations).encode(),
        }
        if self.metrics:
            files[METRICS] = "".join(
                metric.model_dump_json(exclude_none=True) + "\n" for metric in self.metrics
            ).encode()
        return files

    def with_evaluation(self, result: Evaluation) -> Initialization:
        """A copy whose card shows `result`, in place of an earlier one of the same kind of task."""

        def kind(e: Evaluation) -> tuple[str, int, int, str, str]:
            return e.data, e.ways, e.shots, e.baseline or "", e.mode

        others = [e for e in self.evaluations if kind(e) != kind(result)]
        return replace(self, evaluations=tuple(sorted([*others, result], key=kind)))

    @property
    def sha256(self) -> str:
        """The identity of what can be adapted: weights and inner state."""
        files = self.files()
        return sha256(files["model.safetensors"] + files["inner_state.safetensors"])


class Unfinished(Protocol):
    """What a checkpoint can be made of: an initialization on its way, for pictures or for numbers."""

    @property
    def recipe(self) -> Config:
        """All settings."""
        ...

    @property
    def provenance(self) -> Provenance:
        """How it came to be."""
        ...

    @property
    def outer(self) -> Params:
        """What the outer optimizer remembers."""
        ...

    def files(self) -> dict[str, bytes]:
        """File name -> bytes."""
        ...


def origin_of(init: Initialization) -> Origin:
    """What is written of an initialization into all that is derived from it."""
    return Origin(
        name=init.recipe.preset,
        sha256=init.sha256,
        provenance=init.provenance,
        data=str(init.recipe.data),
        source=init.source,
    )


def fresh(recipe: Recipe, seed: int, provenance: Provenance) -> Initialization:
    """An initialization before any meta-training: random weights, empty second moments."""
    network = build_network(recipe.backbone, recipe.preprocessing, recipe.meta.n_way)
    return begun(recipe, random_params(network, seed), provenance)


def begun(recipe: Recipe, params: Params, provenance: Provenance) -> Initialization:
    """An initialization before any meta-training, of weights that are there; a head that is not is drawn.

    It is a pure function of what it is given, `provenance.seed` among it.
    """
    if not params.keys() >= set(HEAD):
        with torch.device("meta"):
            network = build_network(recipe.backbone, recipe.preprocessing, recipe.meta.n_way)
        rows, bias = (torch.zeros(network.get_parameter(name).shape) for name in HEAD)
        torch.nn.init.xavier_uniform_(rows, generator=torch.Generator().manual_seed(provenance.seed))
        params = {**params, **dict(zip(HEAD, (rows, bias), strict=True))}
    return Initialization(recipe=recipe, state=_stored(recipe, params), provenance=provenance)


def load(name: str | Path) -> Initialization:
    """The initialization in a folder, a bundled one by its name (such as `omniglot`), or one on the Hub
    as `user/repo` or `user/repo@revision`, which is pulled if need be; in the order bundled, folder, Hub.
    `timm:NAME` is a model of the timm library, with its weights from the Hub and a zero head.

    Every file is checked against the manifest's sha256, every tensor against the recipe.
    Raises BundleError for a folder that is none or was changed, ParamsMismatch for a tensor that
    is missing, unexpected or of another shape, HubError if the Hub refuses.
    """
    if str(name).startswith(TIMM):
        found = pretrained(str(name))
        made = Provenance(
            command=f"the timm library, as {found.source}", seed=0, meta_steps_done=0, data_sha256="", seconds=0,
            versions={**versions(), "timm": metadata.version("timm")},
        )  # fmt: skip
        return replace(begun(found.recipe, found.params, made), source=found.source)
    opened = open_named(name)
    return replace(from_files(opened.files, opened.folder), source=opened.source)


def save_checkpoint(init: Unfinished, path: Path) -> Path:
    """Write an unfinished training as one file, in place of an older one. Raises SaveError."""
    return write_archive(path, {**init.files(), **outer_files(init.outer)})


def load_checkpoint(path: Path) -> Initialization:
    """The unfinished training in a file, checked as `load` does. Raises BundleError and ParamsMismatch."""
    return from_files(read_archive(path), path)


def from_files(files: dict[str, bytes], where: Path) -> Initialization:
    """The initialization in a folder's files, checked as `load` does. Raises BundleError and ParamsMismatch."""
    expected = "an initialization, such as `omniglot`"
    config = open_bundle(files, where, InitializationConfig, FORMAT, WEIGHTS, expected)
    template = _template(config.recipe)
    return Initialization(
        recipe=config.recipe,
        state=state_of(files, where, template),
        provenance=config.provenance,
        evaluations=config.evaluations,
        metrics=tuple(map(Metric.from_json, files.get(METRICS, b"").splitlines())),
        outer=outer_of(files, where, template, config.recipe.meta),
    )


def _stored(recipe: Recipe, params: Params) -> LearnerState:
    return close_head(beginning(params, recipe.inner, recipe.meta), recipe.head)


def _template(recipe: Recipe) -> LearnerState:
    """The shapes that a recipe's tensors must have, without the memory: a config.json may ask for any size.

    No arithmetic on them: the first on a tensor without memory imports PyTorch's compiler, and sympy with it.
    """
    with torch.device("meta"):
        network = build_network(recipe.backbone, recipe.preprocessing, recipe.meta.n_way)
    params = {name: tensor.detach() for name, tensor in network.named_parameters()}
    learned_of = params
    if recipe.head != "dense":
        learned_of = {name: tensor[:1] if name in HEAD else tensor for name, tensor in params.items()}
        params = {name: tensor for name, tensor in params.items() if name not in HEAD}
    return LearnerState(
        params=params,
        second_moments=learned_of if recipe.inner.optimizer == "adam" else {},
        updates=0,
        rates=learned_of if ALGORITHMS[recipe.meta.algorithm].learns_rates else {},
    )
