"""What the settings of every kind of backbone have, and the facts that other modules need about it."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Literal, NamedTuple, Self

from pydantic import Field

from fewshot_sdk.config.settings import Config

View = Literal[
    "whole", "mirrored", "top left", "top right", "bottom left", "bottom right"
]  # see `engine.features.seen_as`
Fit = Literal["pad", "crop", "stretch"]
HEAD = ("head.weight", "head.bias")  # the last layer's tensors, in any network


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
    summarized: how many of the last layers the features can summarize. tail: the last layers, which steps move with
    `trainable="tail"`; empty: it has none. tail_rates: the learning rates that cross-validation compares for them, the
    default first.
    views: what prototypes and probes learn from each picture of a support set; more than one only for networks that
    judge each picture alone. fits: ways to make pictures of other proportions fit that `auto` compares; empty: only the
    recipe's.
    """

    kind: str = Field(description="Kind of network.")
    sharpness: ClassVar[float] = 1.0
    many_threads: ClassVar[bool] = False
    comes_trained: ClassVar[bool] = False
    has_positions: ClassVar[bool] = False
    summarized: ClassVar[int] = 1
    tail: ClassVar[tuple[str, ...]] = ()
    tail_rates: ClassVar[tuple[float, ...]] = ()
    views: ClassVar[tuple[View, ...]] = ("whole",)
    fits: ClassVar[tuple[Fit, ...]] = ()

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

    def for_features(self) -> tuple[Self, ...]:
        """The backbones whose features prototypes and probes use: the same weights, perhaps other summaries.

        The first is the default; `auto` compares all.
        """
        return (self,)

    def check_in_recipe(self) -> None:
        """Raises ConfigError if a recipe cannot train a network of these settings."""

    def check_pretraining(self) -> None:
        """Raises ConfigError if a network of a kind that can be pre-trained cannot be with these settings."""
