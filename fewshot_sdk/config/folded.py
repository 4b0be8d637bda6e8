"""The settings of networks whose norms are folded in, so that each image is judged alone."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, NamedTuple, Self

from pydantic import Field

from fewshot_sdk.config.backbone import BackboneSettings, Fit, View
from fewshot_sdk.config.settings import Count, Listed
from fewshot_sdk.errors import ConfigError


class Residual(BackboneSettings):
    """A small residual network for photographs, each classified independently: see `fewshot_sdk.nets.residual`."""

    kind: Literal["residual"] = Field("residual", description="Kind of network: a small residual one, for photographs.")
    widths: Annotated[Listed[Count], Field(min_length=1, max_length=6)] = Field(
        (32, 64, 128, 256),
        description="Filters of each stage; the stem and every stage but the first halve the picture.",
    )
    summary: Annotated[Literal["mean", "statistics"], Field(exclude_if=lambda summary: summary == "mean")] = Field(
        "mean",
        description="The head's input: the last stage's mean over positions; statistics of the last two stages are for "
        "prototypes and probes, not for recipes.",
    )
    sharpness: ClassVar[float] = 25.0
    many_threads: ClassVar[bool] = True
    has_positions: ClassVar[bool] = True

    def described(self) -> str:
        """The backbone in words."""
        return f"residual, stages of {', '.join(map(str, self.widths))} filters, batch norm folded in"

    def for_features(self) -> tuple[Self, ...]:
        """The same network with `summary="statistics"`.

        On mini-ImageNet's validation classes, 8-way 5-shot, this gained one point for the probe; on grey textures and
        pictures of clothes, two to four points for both methods.
        """
        return (self.replace(summary="statistics"),)

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

    Source: Tan and Le 2019, table 1, for the stages; scaled by 1.1 in width and 1.2 in depth for lite2.
    """

    kind: Literal["efficientnet"] = Field("efficientnet", description="Kind of network: EfficientNet-Lite.")
    variant: Literal["lite0", "lite2"] = Field(
        "lite0", description="lite0 is for pictures of 224 pixels, lite2 for 260, at twice the work."
    )
    summary: Annotated[Literal["mean", "roots", "statistics"], Field(exclude_if=lambda summary: summary == "mean")] = (
        Field(
            "mean",
            description="The head's input: the last convolution's mean over positions, the square roots of these, or "
            "statistics of it and of the last three stages, as for textures.",
        )
    )
    sharpness: ClassVar[float] = 160.0  # four times the scale of 40 that class means learned on the training tasks
    many_threads: ClassVar[bool] = True
    has_positions: ClassVar[bool] = True
    comes_trained: ClassVar[bool] = True
    tail: ClassVar[tuple[str, ...]] = ("stage7", "top")
    tail_rates: ClassVar[tuple[float, ...]] = (0.03, 0.1, 0.3)
    views: ClassVar[tuple[View, ...]] = ("whole", "mirrored", "top left", "top right", "bottom left", "bottom right")
    fits: ClassVar[tuple[Fit, ...]] = ("stretch", "crop")
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

    def for_features(self) -> tuple[Self, ...]:
        """The same network with `statistics`, and with `roots`."""
        return self.replace(summary="statistics"), self.replace(summary="roots")


class Timm(BackboneSettings):
    """A timm model without its classifier, each picture classified independently: see `fewshot_sdk.nets.timm`."""

    kind: Literal["timm"] = Field("timm", description="Kind of network: a model of the timm library.")
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,100}$")] = Field(
        description="timm's name of the architecture, such as resnet10t, without the tag of the weights."
    )
    sharpness: ClassVar[float] = 25.0  # its features are normalized in length, as a residual network's
    comes_trained: ClassVar[bool] = True

    def described(self) -> str:
        """The backbone in words."""
        return f"timm's {self.name}, batch norm folded to scales and shifts"
