"""The settings of a backbone: which network, and how wide."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import Field, model_validator

from fewshot_sdk.config.settings import Config, Count, Listed, Positive
from fewshot_sdk.errors import ConfigError

Norm = Literal["batch", "group", "none"]
GROUP = 8  # channels that group norm takes together
Layered = TypeVar("Layered", "Conv4", "Mlp")
_NORMS: dict[Norm, str] = {"batch": "", "group": ", group norm", "none": ", no norm"}


def _check_groups(backbone: Layered) -> Layered:
    odd = [width for width in backbone.widths if width % GROUP]
    if backbone.norm == "group" and odd:
        raise ConfigError(f"norm: group norm takes {GROUP} channels at once: expected a multiple of it, found {odd[0]}")
    return backbone


class Conv4(Config):
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

    _groups_fit = model_validator(mode="after")(_check_groups)


class Mlp(Config):
    """Fully connected layers on the pixels, each with a norm (see `Conv4`) and ReLU, then a linear layer.

    widths: units of the layers; those of the default are Finn et al.'s for Omniglot. Source: Finn et al. 2017, A.1.
    """

    kind: Literal["mlp"] = "mlp"
    widths: Annotated[Listed[Count], Field(min_length=1, max_length=16)] = (256, 128, 64, 64)
    norm_epsilon: Positive = 1e-3
    norm: Norm = "batch"

    _groups_fit = model_validator(mode="after")(_check_groups)


class Residual(Config):
    """A small residual network for photographs, each judged alone: see `fewshot_sdk.nets.residual`.

    widths: filters of the stages; the stem and every stage but the first halve the picture. summary: what the head
    sees: the last stage's `mean` over positions, or `statistics` of the last two, as class means and probes do.
    """

    kind: Literal["residual"] = "residual"
    widths: Annotated[Listed[Count], Field(min_length=1, max_length=6)] = (32, 64, 128, 256)
    summary: Annotated[Literal["mean", "statistics"], Field(exclude_if=lambda summary: summary == "mean")] = "mean"


class Timm(Config):
    """A model of the timm library before its classifier, each picture judged alone: see `fewshot_sdk.nets.timm`.

    name: timm's name of the architecture, without the tag that says which weights, such as `resnet10t`.
    """

    kind: Literal["timm"] = "timm"
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,100}$")]


Backbone = Annotated[Conv4 | Mlp | Residual | Timm, Field(discriminator="kind")]


def judges_alone(backbone: Backbone) -> bool:
    """Whether the features of a picture depend on nothing else in its batch."""
    return not isinstance(backbone, Conv4 | Mlp) or backbone.norm != "batch"


def norm_buffers(backbone: Backbone) -> tuple[str, ...]:
    """The names of the statistics that batch norms are frozen to."""
    if not isinstance(backbone, Conv4 | Mlp) or backbone.norm != "batch":
        return ()
    return tuple(f"norm{i}.{part}" for i in range(1, len(backbone.widths) + 1) for part in ("mean", "var"))


def described(backbone: Backbone) -> str:
    """A backbone in words."""
    if isinstance(backbone, Conv4):
        return f"Conv4, {backbone.filters} filters, {backbone.downsample}{_NORMS[backbone.norm]}"
    if isinstance(backbone, Mlp):
        return f"fully connected, layers of {', '.join(map(str, backbone.widths))} units{_NORMS[backbone.norm]}"
    if isinstance(backbone, Timm):
        return f"timm's {backbone.name}, batch norm folded to scales and shifts"
    return f"residual, stages of {', '.join(map(str, backbone.widths))} filters, batch norm folded in"
