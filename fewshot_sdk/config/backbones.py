"""The settings of a backbone: which network, how wide, and what the rest asks about it; the table of all kinds.

A new one is its settings and its row here, its layers in `nets/`, its ONNX nodes in `graphs/`: CONTRIBUTING names the
three files. What a row refers to is imported when it is used, so that settings stay free of PyTorch and onnx.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, NamedTuple, Self, TypeVar

from pydantic import Field, PlainValidator, SerializeAsAny, model_validator

from fewshot_sdk.config.settings import Config, Count, Listed, Positive
from fewshot_sdk.errors import ConfigError
from fewshot_sdk.tables import row_of

Norm = Literal["batch", "group", "none"]
GROUP = 8  # channels that group norm takes together
Layered = TypeVar("Layered", "Conv4", "Mlp")
_NORMS: dict[Norm, str] = {"batch": "", "group": ", group norm", "none": ", no norm"}


class FrozenNorm(NamedTuple):
    """A batch norm that is frozen to a support set's statistics: the names of the layer before it and its own."""

    layer: str
    norm: str
    epsilon: float


class BackboneSettings(Config):
    """What every kind of backbone has: settings, and the facts that the rest asks about it.

    sharpness: of class means: with it the best temperature on new classes is about 1; see `heads.spread`. Not measured
    for fully connected and timm networks, for want of weights: there it is that of the network most like it.
    many_threads: whether a second one helps in pre-training, which it does not where networks are small.
    comes_trained: with weights of another library.
    """

    kind: str
    sharpness: ClassVar[float] = 1.0
    many_threads: ClassVar[bool] = False
    comes_trained: ClassVar[bool] = False

    @abstractmethod
    def described(self) -> str:
        """The backbone in words, for cards."""

    def frozen_norms(self) -> tuple[FrozenNorm, ...]:
        """The batch norms that use the statistics of a task, in order; none where each picture is judged alone."""
        return ()

    def norm_buffers(self) -> tuple[str, ...]:
        """The names of the statistics that batch norms are frozen to."""
        return tuple(f"{norm.norm}.{part}" for norm in self.frozen_norms() for part in ("mean", "var"))

    @property
    def judges_alone(self) -> bool:
        """Whether the features of a picture depend on nothing else in its batch."""
        return not self.frozen_norms()

    def for_features(self) -> Self:
        """The same network as class means and probes use it."""
        return self

    def check_in_recipe(self) -> None:
        """Raises ConfigError for settings that a recipe cannot train."""

    def check_pretraining(self) -> None:
        """Raises ConfigError unless a network of these settings can be pre-trained."""
        able = [kind for kind, row in BACKBONES.items() if row.pretraining_start]
        if self.kind not in able:
            raise ConfigError(f"pretraining: expected a {' or '.join(able)} network, found {self.kind}")


def _check_groups(backbone: Layered) -> Layered:
    odd = [width for width in backbone.widths if width % GROUP]
    if backbone.norm == "group" and odd:
        raise ConfigError(f"norm: group norm takes {GROUP} channels at once: expected a multiple of it, found {odd[0]}")
    return backbone


def _batch_norms(backbone: Layered, layer: str) -> tuple[FrozenNorm, ...]:
    if backbone.norm != "batch":
        return ()
    numbers = range(1, len(backbone.widths) + 1)
    return tuple(FrozenNorm(f"{layer}{i}", f"norm{i}", backbone.norm_epsilon) for i in numbers)


class Conv4(BackboneSettings):
    """The paper's network: four 3x3 convolutions, each with a norm and ReLU, then a linear layer.

    `stride` halves by strided convolutions (Omniglot), `pool` by 2x2 max-pooling (mini-ImageNet).
    norm: `batch`, as in the paper, by the statistics of the batch it is given; `group`, over each picture's own eight
    channels at a time; or none. Source of `group`: Wu and He 2018.
    """

    kind: Literal["conv4"] = "conv4"
    filters: Annotated[int, Field(ge=1, le=4096)] = 64
    downsample: Literal["stride", "pool"] = "stride"
    norm_epsilon: Positive = 1e-3
    norm: Annotated[Norm, Field(exclude_if=lambda norm: norm == "batch")] = "batch"  # what is older has no such key

    @property
    def widths(self) -> tuple[int, ...]:
        """Filters of each layer."""
        return (self.filters,) * 4

    def described(self) -> str:
        """The backbone in words."""
        return f"Conv4, {self.filters} filters, {self.downsample}{_NORMS[self.norm]}"

    def frozen_norms(self) -> tuple[FrozenNorm, ...]:
        """One after each convolution."""
        return _batch_norms(self, "conv")

    def check_pretraining(self) -> None:
        """Raises ConfigError without batch norm."""
        super().check_pretraining()
        if self.judges_alone:
            raise ConfigError(f"pretraining: expected a conv4 network with batch norm, found norm {self.norm}")

    _groups_fit = model_validator(mode="after")(_check_groups)


class Mlp(BackboneSettings):
    """Fully connected layers on the pixels, each with a norm (see `Conv4`) and ReLU, then a linear layer.

    widths: units of the layers; those of the default are Finn et al.'s for Omniglot. Source: Finn et al. 2017, A.1.
    """

    kind: Literal["mlp"] = "mlp"
    widths: Annotated[Listed[Count], Field(min_length=1, max_length=16)] = (256, 128, 64, 64)
    norm_epsilon: Positive = 1e-3
    norm: Norm = "batch"

    def described(self) -> str:
        """The backbone in words."""
        return f"fully connected, layers of {', '.join(map(str, self.widths))} units{_NORMS[self.norm]}"

    def frozen_norms(self) -> tuple[FrozenNorm, ...]:
        """One after each layer."""
        return _batch_norms(self, "hidden")

    _groups_fit = model_validator(mode="after")(_check_groups)


class Residual(BackboneSettings):
    """A small residual network for photographs, each judged alone: see `fewshot_sdk.nets.residual`.

    widths: filters of the stages; the stem and every stage but the first halve the picture. summary: what the head
    sees: the last stage's `mean` over positions, or `statistics` of the last two, as class means and probes do.
    """

    kind: Literal["residual"] = "residual"
    widths: Annotated[Listed[Count], Field(min_length=1, max_length=6)] = (32, 64, 128, 256)
    summary: Annotated[Literal["mean", "statistics"], Field(exclude_if=lambda summary: summary == "mean")] = "mean"
    sharpness: ClassVar[float] = 25.0
    many_threads: ClassVar[bool] = True

    def described(self) -> str:
        """The backbone in words."""
        return f"residual, stages of {', '.join(map(str, self.widths))} filters, batch norm folded in"

    def for_features(self) -> Self:
        """By statistics of its stages.

        On mini-ImageNet's validation classes, 8-way 5-shot, that gave the probe a point, on grey textures and pictures
        of clothes both ways two to four.
        """
        return self.replace(summary="statistics")

    def check_in_recipe(self) -> None:
        """Raises ConfigError for another summary than the mean."""
        if self.summary != "mean":
            raise ConfigError(f"backbone.summary: a recipe's head sees the mean, found {self.summary}")


class Timm(BackboneSettings):
    """A model of the timm library before its classifier, each picture judged alone: see `fewshot_sdk.nets.timm`.

    name: timm's name of the architecture, without the tag that says which weights, such as `resnet10t`.
    """

    kind: Literal["timm"] = "timm"
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,100}$")]
    sharpness: ClassVar[float] = 25.0  # of features of one length, as a residual network's
    comes_trained: ClassVar[bool] = True

    def described(self) -> str:
        """The backbone in words."""
        return f"timm's {self.name}, batch norm folded to scales and shifts"


@dataclass(frozen=True, kw_only=True)
class BackboneRow:
    """A kind of backbone: its settings, and where the functions are that make something of them, `module:name`.

    layers: the network up to the features, `nets.network.Layers`.
    graph: its ONNX nodes, `graphs.classifier.Features`; or exporter: another library's graph of its body,
    `export.classifier.Exporter`, which then is of 32 bits alone.
    learner: its forward and backward pass as nodes, `graphs.learner.graph.NewForm`; none: it cannot be a learner.
    pretraining_start, pretraining_end: fresh weights in place, `meta.pretraining.Start`, and the weights that
    pre-training leaves, `meta.pretraining.End`; none: it is not pre-trained.
    compiled: its twin in C, `engine.compiled.CompiledNetwork`; none: PyTorch does it.
    """

    settings: type[BackboneSettings]
    layers: str
    graph: str = ""
    exporter: str = ""
    learner: str = ""
    pretraining_start: str = ""
    pretraining_end: str = ""
    compiled: str = ""


BACKBONES: dict[str, BackboneRow] = {
    "conv4": BackboneRow(
        settings=Conv4,
        layers="fewshot_sdk.nets.conv4:layers",
        graph="fewshot_sdk.graphs.conv4:features",
        learner="fewshot_sdk.graphs.learner.layered:conv4_form",
        pretraining_start="fewshot_sdk.nets.conv4:draw",
        pretraining_end="fewshot_sdk.nets.conv4:at_length",
        compiled="fewshot_sdk.engine.compiled:compile_conv4",
    ),
    "mlp": BackboneRow(
        settings=Mlp,
        layers="fewshot_sdk.nets.mlp:layers",
        graph="fewshot_sdk.graphs.mlp:features",
        learner="fewshot_sdk.graphs.learner.layered:mlp_form",
    ),
    "residual": BackboneRow(
        settings=Residual,
        layers="fewshot_sdk.nets.residual:layers",
        graph="fewshot_sdk.graphs.residual:features",
        learner="fewshot_sdk.graphs.learner.residual:ResidualForm",
        pretraining_start="fewshot_sdk.nets.residual:draw",
        pretraining_end="fewshot_sdk.nets.residual:folded",
    ),
    "timm": BackboneRow(
        settings=Timm, layers="fewshot_sdk.nets.timm:layers", exporter="fewshot_sdk.export.timm:timm_features"
    ),
}


def _of_its_kind(value: object) -> BackboneSettings:
    """Settings by the `kind` that they name. Raises ConfigError, listing the known ones."""
    if isinstance(value, BackboneSettings):
        return value
    if not isinstance(value, Mapping) or not isinstance(kind := value.get("kind"), str):
        raise ConfigError(
            f"backbone: expected settings with a kind, one of {', '.join(BACKBONES)}, found {value!r:.200}"
        )
    return row_of(BACKBONES, kind, "backbone").settings.model_validate(dict(value))


Backbone = Annotated[SerializeAsAny[BackboneSettings], PlainValidator(_of_its_kind)]
