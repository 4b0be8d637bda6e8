"""The settings of plain layers, each with a norm: Conv4, the paper's network, and fully connected ones."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, TypeVar

from pydantic import Field, model_validator

from fewshot_sdk.config.backbone import BackboneSettings, FrozenNorm
from fewshot_sdk.config.settings import Count, Listed, Positive
from fewshot_sdk.errors import ConfigError

Norm = Literal["batch", "group", "none"]
GROUP = 8  # channels that group norm normalizes together
Layered = TypeVar("Layered", "Conv4", "Mlp")
_NORMS: dict[Norm, str] = {"batch": "", "group": ", group norm", "none": ", no norm"}
_NORM = (
    "What normalizes each layer: the statistics of the current batch, as in the paper; each picture's own, over groups "
    "of eight channels; or nothing."
)
_EPSILON = "What the norms add to a variance."


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

    Source for group norm: Wu and He 2018.
    """

    kind: Literal["conv4"] = Field("conv4", description="Kind of network: four convolutions, the paper's.")
    filters: Annotated[int, Field(ge=1, le=4096)] = Field(64, description="Filters of each convolution.")
    downsample: Literal["stride", "pool"] = Field(
        "stride",
        description="What halves the picture: strided convolutions (the paper's for Omniglot), or 2x2 max-pooling "
        "(for mini-ImageNet).",
    )
    norm_epsilon: Positive = Field(1e-3, description=_EPSILON)
    has_positions: ClassVar[bool] = True
    # absent from files written before this field existed
    norm: Annotated[Norm, Field(exclude_if=lambda norm: norm == "batch")] = Field("batch", description=_NORM)

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
        if self.judges_alone:
            raise ConfigError(f"pretraining: expected a conv4 network with batch norm, found norm {self.norm}")

    _groups_fit = model_validator(mode="after")(_check_groups)


class Mlp(BackboneSettings):
    """Fully connected layers on the pixels, each with a norm (see `Conv4`) and ReLU, then a linear layer.

    The default widths are Finn et al.'s for Omniglot. Source: Finn et al. 2017, A.1.
    """

    kind: Literal["mlp"] = Field("mlp", description="Kind of network: fully connected layers on the pixels.")
    widths: Annotated[Listed[Count], Field(min_length=1, max_length=16)] = Field(
        (256, 128, 64, 64), description="Units of each layer."
    )
    norm_epsilon: Positive = Field(1e-3, description=_EPSILON)
    norm: Norm = Field("batch", description=_NORM)

    def described(self) -> str:
        """The backbone in words."""
        return f"fully connected, layers of {', '.join(map(str, self.widths))} units{_NORMS[self.norm]}"

    def frozen_norms(self) -> tuple[FrozenNorm, ...]:
        """The batch norm after each layer."""
        return _batch_norms(self, "hidden")

    _groups_fit = model_validator(mode="after")(_check_groups)
