"""The settings of each kind of backbone, the facts that other modules need about it, and the table of all kinds.

To add one, add its settings and its row here, its layers in `nets/` and its ONNX nodes in `graphs/`: CONTRIBUTING
names the three files. The functions that a row names are imported on first use, so settings need no PyTorch or onnx.
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
GROUP = 8  # channels that group norm normalizes together
Layered = TypeVar("Layered", "Conv4", "Mlp")
_NORMS: dict[Norm, str] = {"batch": "", "group": ", group norm", "none": ", no norm"}


class FrozenNorm(NamedTuple):
    """A batch norm that is frozen to a support set's statistics: the layer before it, its own name, its epsilon."""

    layer: str
    norm: str
    epsilon: float


class BackboneSettings(Config):
    """The settings that every kind of backbone has, and the facts that other modules need about it.

    sharpness: scales the logits of class means so that the best temperature on new classes is about 1; see
    `heads.spread`. Not measured for fully connected and timm networks, for want of weights: they use the value of the
    most similar network.
    many_threads: whether pre-training is faster with a second thread, which it is not for small networks.
    comes_trained: whether its weights come trained, from another library.
    has_positions: whether the features are sums over the positions of a picture, of which `nets.heat_maps` makes maps.
    """

    kind: str
    sharpness: ClassVar[float] = 1.0
    many_threads: ClassVar[bool] = False
    comes_trained: ClassVar[bool] = False
    has_positions: ClassVar[bool] = False

    @abstractmethod
    def described(self) -> str:
        """The backbone in words, for cards."""

    def frozen_norms(self) -> tuple[FrozenNorm, ...]:
        """The batch norms that use a task's statistics, in order; empty if each picture is classified independently."""
        return ()

    def norm_buffers(self) -> tuple[str, ...]:
        """The names of the buffers that hold the statistics of the frozen batch norms."""
        return tuple(f"{norm.norm}.{part}" for norm in self.frozen_norms() for part in ("mean", "var"))

    @property
    def judges_alone(self) -> bool:
        """Whether a picture's features are independent of the other pictures in its batch."""
        return not self.frozen_norms()

    def for_features(self) -> Self:
        """The backbone whose features prototypes and probes use: the same weights, perhaps another summary."""
        return self

    def check_in_recipe(self) -> None:
        """Raises ConfigError if a recipe cannot train a network of these settings."""

    def check_pretraining(self) -> None:
        """Raises ConfigError unless a network of these settings can be pre-trained."""
        able = [kind for kind, row in BACKBONES.items() if row.pretraining_start]
        if self.kind not in able:
            raise ConfigError(f"pretraining: expected a {' or '.join(able)} network, found {self.kind}")


def _check_groups(backbone: Layered) -> Layered:
    odd = [width for width in backbone.widths if width % GROUP]
    if backbone.norm == "group" and odd:
        raise ConfigError(f"norm: group norm needs layers of a multiple of {GROUP} channels, found {odd[0]}")
    return backbone


def _batch_norms(backbone: Layered, layer: str) -> tuple[FrozenNorm, ...]:
    if backbone.norm != "batch":
        return ()
    numbers = range(1, len(backbone.widths) + 1)
    return tuple(FrozenNorm(f"{layer}{i}", f"norm{i}", backbone.norm_epsilon) for i in numbers)


class Conv4(BackboneSettings):
    """The paper's network: four 3x3 convolutions, each with a norm and ReLU, then a linear layer.

    downsample: `stride` halves the picture by strided convolutions (Omniglot), `pool` by 2x2 max-pooling
    (mini-ImageNet).
    norm: `batch`, with the statistics of the current batch, as in the paper; `group`, over each picture's own
    channels in groups of eight (Source: Wu and He 2018); or `none`.
    """

    kind: Literal["conv4"] = "conv4"
    filters: Annotated[int, Field(ge=1, le=4096)] = 64
    downsample: Literal["stride", "pool"] = "stride"
    norm_epsilon: Positive = 1e-3
    has_positions: ClassVar[bool] = True
    # absent from files written before this field existed
    norm: Annotated[Norm, Field(exclude_if=lambda norm: norm == "batch")] = "batch"

    @property
    def widths(self) -> tuple[int, ...]:
        """The number of filters of each layer."""
        return (self.filters,) * 4

    def described(self) -> str:
        """The backbone in words."""
        return f"Conv4, {self.filters} filters, {self.downsample}{_NORMS[self.norm]}"

    def frozen_norms(self) -> tuple[FrozenNorm, ...]:
        """The batch norm after each convolution."""
        return _batch_norms(self, "conv")

    def check_pretraining(self) -> None:
        """Raises ConfigError unless the network has batch norm."""
        super().check_pretraining()
        if self.judges_alone:
            raise ConfigError(f"pretraining: expected a conv4 network with batch norm, found norm {self.norm}")

    _groups_fit = model_validator(mode="after")(_check_groups)


class Mlp(BackboneSettings):
    """Fully connected layers on the pixels, each with a norm (see `Conv4`) and ReLU, then a linear layer.

    widths: units of each layer; the default is Finn et al.'s for Omniglot. Source: Finn et al. 2017, A.1.
    """

    kind: Literal["mlp"] = "mlp"
    widths: Annotated[Listed[Count], Field(min_length=1, max_length=16)] = (256, 128, 64, 64)
    norm_epsilon: Positive = 1e-3
    norm: Norm = "batch"

    def described(self) -> str:
        """The backbone in words."""
        return f"fully connected, layers of {', '.join(map(str, self.widths))} units{_NORMS[self.norm]}"

    def frozen_norms(self) -> tuple[FrozenNorm, ...]:
        """The batch norm after each layer."""
        return _batch_norms(self, "hidden")

    _groups_fit = model_validator(mode="after")(_check_groups)


class Residual(BackboneSettings):
    """A small residual network for photographs, each classified independently: see `fewshot_sdk.nets.residual`.

    widths: filters of each stage; the stem and every stage but the first halve the picture. summary: the head's input:
    the last stage's `mean` over positions, or `statistics` of the last two stages, as for prototypes and probes.
    """

    kind: Literal["residual"] = "residual"
    widths: Annotated[Listed[Count], Field(min_length=1, max_length=6)] = (32, 64, 128, 256)
    summary: Annotated[Literal["mean", "statistics"], Field(exclude_if=lambda summary: summary == "mean")] = "mean"
    sharpness: ClassVar[float] = 25.0
    many_threads: ClassVar[bool] = True
    has_positions: ClassVar[bool] = True

    def described(self) -> str:
        """The backbone in words."""
        return f"residual, stages of {', '.join(map(str, self.widths))} filters, batch norm folded in"

    def for_features(self) -> Self:
        """The same network with `summary="statistics"`.

        On mini-ImageNet's validation classes, 8-way 5-shot, this gained one point for the probe; on grey textures and
        pictures of clothes, two to four points for both methods.
        """
        return self.replace(summary="statistics")

    def check_in_recipe(self) -> None:
        """Raises ConfigError unless the summary is the mean."""
        if self.summary != "mean":
            raise ConfigError(f"backbone.summary: expected mean in a recipe, found {self.summary}")


class Stage(NamedTuple):
    """Blocks of one width: the first has the stride, and every block the kernel's side and the expansion."""

    expansion: int
    kernel: int
    stride: int
    width: int
    blocks: int


class EfficientNet(BackboneSettings):
    """EfficientNet-Lite for photographs, each classified independently: see `fewshot_sdk.nets.efficientnet`.

    variant: `lite0` (for 224 pixels) or `lite2` (for 260, twice the work). summary: the head's input: the last
    convolution's `mean` over positions, the square `roots` of these, or `statistics` of the last three stages and of
    that convolution, as for textures.
    Source: Tan and Le 2019, table 1, for the stages; scaled by 1.1 in width and 1.2 in depth for lite2.
    """

    kind: Literal["efficientnet"] = "efficientnet"
    variant: Literal["lite0", "lite2"] = "lite0"
    summary: Annotated[Literal["mean", "roots", "statistics"], Field(exclude_if=lambda summary: summary == "mean")] = (
        "mean"
    )
    sharpness: ClassVar[float] = 25.0
    many_threads: ClassVar[bool] = True
    has_positions: ClassVar[bool] = True
    comes_trained: ClassVar[bool] = True
    stem: ClassVar[int] = 32
    top: ClassVar[int] = 1280
    summarized: ClassVar[int] = 4

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages, in order."""
        narrow = self.variant == "lite0"
        widths = (16, 24, 40, 80, 112, 192, 320) if narrow else (16, 24, 48, 88, 120, 208, 352)
        blocks = (1, 2, 2, 3, 3, 4, 1) if narrow else (1, 3, 3, 4, 4, 5, 1)
        shapes = ((1, 3, 1), (6, 3, 2), (6, 5, 2), (6, 3, 2), (6, 5, 1), (6, 5, 2), (6, 3, 1))
        return tuple(Stage(*shape, *size) for shape, *size in zip(shapes, widths, blocks, strict=True))

    def described(self) -> str:
        """The backbone in words."""
        return f"EfficientNet-Lite{self.variant[-1]}, batch norm folded in"

    def for_features(self) -> Self:
        """The same network with `summary="statistics"`."""
        return self.replace(summary="statistics")


class Timm(BackboneSettings):
    """A timm model without its classifier, each picture classified independently: see `fewshot_sdk.nets.timm`.

    name: timm's name of the architecture, such as `resnet10t`, without the tag of the weights.
    """

    kind: Literal["timm"] = "timm"
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,100}$")]
    sharpness: ClassVar[float] = 25.0  # its features are normalized in length, as a residual network's
    comes_trained: ClassVar[bool] = True

    def described(self) -> str:
        """The backbone in words."""
        return f"timm's {self.name}, batch norm folded to scales and shifts"


@dataclass(frozen=True, kw_only=True)
class BackboneRow:
    """A kind of backbone: its settings, and the functions that implement it, each as `module:name` and its type.

    layers: the network up to the features, `nets.network.Layers`.
    graph: its ONNX nodes, `graphs.classifier.Features`; or exporter: another library's graph of its body,
    `export.classifier.Exporter`, which is exported as float32 only.
    learner: its forward and backward pass as nodes, `graphs.learner.graph.NewForm`; empty: it has no learner.
    pretraining_start: initializes its weights in place, `meta.pretraining.Start`; pretraining_end: the weights that
    pre-training leaves, `meta.pretraining.End`; both empty: it cannot be pre-trained.
    compiled: its C code, `engine.compiled.CompiledNetwork`; empty: it runs in PyTorch.
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
    "efficientnet": BackboneRow(settings=EfficientNet, layers="fewshot_sdk.nets.efficientnet:layers"),
    "timm": BackboneRow(
        settings=Timm, layers="fewshot_sdk.nets.timm:layers", exporter="fewshot_sdk.export.timm:timm_features"
    ),
}


def _of_its_kind(value: object) -> BackboneSettings:
    """The settings of the `kind` that a mapping names. Raises ConfigError, listing the known kinds."""
    if isinstance(value, BackboneSettings):
        return value
    if not isinstance(value, Mapping) or not isinstance(kind := value.get("kind"), str):
        raise ConfigError(
            f"backbone: expected settings with a kind, one of {', '.join(BACKBONES)}, found {value!r:.200}"
        )
    return row_of(BACKBONES, kind, "backbone").settings.model_validate(dict(value))


Backbone = Annotated[SerializeAsAny[BackboneSettings], PlainValidator(_of_its_kind)]
