"""The settings of a recipe: frozen, keyword-only, checked where they are made, written to config.json."""

from __future__ import annotations

from typing import Annotated, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    Strict,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from fewshot_sdk.algorithms import Algorithm, Part, check_fits
from fewshot_sdk.errors import ConfigError

Count = Annotated[int, Field(ge=1, le=100_000_000)]
Positive = Annotated[float, Field(gt=0)]
T = TypeVar("T")
Listed = Annotated[tuple[T, ...], Strict(False)]  # a JSON list is no tuple to a strict reader
Fraction = Annotated[float, Field(ge=0, le=1)]


class Config(BaseModel):
    """A group of settings; a wrong, missing or unknown one raises ConfigError and names it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=True)

    @model_validator(mode="wrap")
    @classmethod
    def _explain(cls, data: object, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(data)
        except ValidationError as error:
            found = "; ".join(
                f"{'.'.join(str(part) for part in e['loc']) or 'value'}: {e['msg'].lower()}"
                + (f", found {e['input']!r}" if e["type"] != "missing" else "")
                for e in error.errors()
            )
            raise ConfigError(f"{cls.__name__}: {found[:600]}") from None

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """The settings held by a JSON object. Raises ConfigError."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:  # not JSON at all
            raise ConfigError(f"{cls.__name__}: {error.errors()[0]['msg'].lower()}") from None

    def replace(self, **changes: object) -> Self:
        """A copy with some settings changed, checked again. Raises ConfigError."""
        known = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self)(**{**known, **changes})


class Preprocessing(Config):
    """How any picture becomes the network's uint8 array (height, width, channels).

    polarity: `dark_on_light` inverts a picture whose mean is under one half, so that chalk on a
    blackboard reads like ink on paper; `keep` leaves it. A picture that is not of the network's
    proportions is padded with white (`pad`), cut to the middle (`crop`) or squeezed (`stretch`).
    The network then sees (pixel / 255 - mean) / std for each channel.
    """

    height: Annotated[int, Field(ge=4, le=1024)]
    width: Annotated[int, Field(ge=4, le=1024)]
    channels: Literal[1, 3]
    resize: Literal["nearest", "box", "bilinear", "bicubic"]
    fit: Literal["pad", "crop", "stretch"] = "pad"
    polarity: Literal["keep", "dark_on_light"] = "keep"
    mean: Listed[float] = (0.0,)
    std: Listed[Positive] = (1.0,)

    @field_validator("mean", "std")
    @classmethod
    def _one_value_per_channel(cls, values: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
        channels = info.data.get("channels", 1)
        if len(values) not in (1, channels):
            raise ValueError(f"expected 1 or {channels} values")
        return values


class Conv4(Config):
    """The paper's network: four 3x3 convolutions with batch norm, then a linear layer.

    `stride` halves by strided convolutions (Omniglot), `pool` by 2x2 max-pooling (mini-ImageNet).
    """

    kind: Literal["conv4"] = "conv4"
    filters: Annotated[int, Field(ge=1, le=4096)] = 64
    downsample: Literal["stride", "pool"] = "stride"
    norm_epsilon: Positive = 1e-3


class Residual(Config):
    """A small residual network for photographs, each judged alone: see `fewshot_sdk.residual`.

    widths: filters of the stages; the stem and every stage but the first halve the picture.
    """

    kind: Literal["residual"] = "residual"
    widths: Annotated[Listed[Count], Field(min_length=1, max_length=6)] = (32, 64, 128, 256)


Backbone = Annotated[Conv4 | Residual, Field(discriminator="kind")]


class InnerLoop(Config):
    """What happens inside one task. `adam` is Adam with beta1 = 0, as in the paper.

    trainable: what the steps move: the whole network, its last layer alone (`head`), or all but that (`body`).
    precision: `bfloat16` lets the products of the convolutions and their gradients take operands
    rounded to 8 significant bits, where the processor is faster with them; sums and all else stay float32.
    """

    optimizer: Literal["adam", "sgd"] = "adam"
    learning_rate: Positive
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    epsilon: Positive = 1e-8
    batch_size: Count
    steps: Annotated[int, Field(ge=0, le=1_000_000)]
    precision: Literal["float32", "bfloat16"] = "float32"
    trainable: Part = "all"


class MetaLoop(Config):
    """What happens across tasks. The outer step size goes linearly from `step_size` to `final`.

    algorithm: `reptile` moves to where the inner steps end; `fomaml`, first-order MAML, follows only the last of
    them; `maml` goes down the slope of the last mini-batch's loss through all steps before it, in the initial
    weights; so do `anil` and `boil`, whose inner steps move the head alone, and all but the head; and `meta-sgd`, which
    learns a rate for each weight as well. `protonet` takes no inner steps: it goes down the slope of the loss of
    the tail's images, told apart by the class means of the others.
    tail_shots: how many images of each class are kept for the last mini-batch alone; 0: it draws like the others.
    optimizer: of the outer loop. `sgd` goes `step_size` of the way, or down the slope at that rate; `adam` takes the
    way for a slope, and `step_size` for Adam's rate (beta1 0.9, beta2 0.999).
    """

    algorithm: Algorithm = "reptile"
    tail_shots: Annotated[int, Field(ge=0)] = 0
    optimizer: Literal["sgd", "adam"] = "sgd"

    meta_steps: Count
    tasks_per_step: Count
    n_way: Annotated[int, Field(ge=2, le=100_000)]
    k_shot: Count
    step_size: Fraction = 1.0
    final_step_size: Fraction = 0.0

    @model_validator(mode="after")
    def _tail_fits(self) -> Self:
        if self.algorithm == "protonet" and not 0 < self.tail_shots < self.k_shot:
            raise ConfigError(
                f"MetaLoop: tail_shots: protonet tells the tail's images apart by the others, expected 1 to "
                f"{self.k_shot - 1}, fewer than k_shot, found {self.tail_shots}"
            )
        if self.tail_shots and (self.algorithm == "reptile" or self.tail_shots >= self.k_shot):
            raise ConfigError(
                f"MetaLoop: tail_shots: expected fewer than k_shot {self.k_shot}, and 0 with reptile, "
                f"found {self.tail_shots} with {self.algorithm}"
            )
        return self


class Pretraining(Config):
    """Supervised training of the whole network to tell all training classes apart, before meta-training.

    SGD with Nesterov momentum 0.9; the rate rises over a tenth of the steps and falls to 0 along a cosine.
    pictures: `photographs` or `drawings`, how they are seen differently each time (see `fewshot_sdk.augment`).
    """

    epochs: Count
    batch_size: Count = 64
    learning_rate: Positive = 0.1
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    pictures: Literal["photographs", "drawings"] = "photographs"


class DataSource(Config):
    """Which classes are trained on; the others of the same split are for testing.

    split: `paper` or `official` for Omniglot; mini-ImageNet has only `ravi`, the glyphs only `seeded`.
    rotations: each training class turned by 0, 90, 180 and 270 degrees is four classes.
    """

    name: Literal["omniglot", "mini-imagenet", "glyphs"]
    split: Literal["paper", "official", "ravi", "seeded"]
    rotations: bool = False

    def __str__(self) -> str:
        return f"{self.name}, split {self.split}"

    @field_validator("split")
    @classmethod
    def _split_exists(cls, split: str, info: ValidationInfo) -> str:
        splits = {"omniglot": ("paper", "official"), "mini-imagenet": ("ravi",), "glyphs": ("seeded",)}
        known = splits.get(info.data.get("name", ""), (split,))
        if split not in known:
            raise ValueError(f"{info.data['name']} has the split {' or '.join(known)}")
        return split


class Recipe(Config):
    """Everything a preset names: enough to train an initialization again, and to use it.

    head: `dense` is a stored layer of `meta.n_way` rows; `zero` starts every task from rows of
    zeros, so that one initialization serves any number of classes; `prototype` from the class means of the features.
    pretraining: what comes before meta-training.
    inner: the loop while meta-training; adaptation: the one for a new task.
    """

    preset: str
    data: DataSource
    preprocessing: Preprocessing
    backbone: Backbone
    head: Literal["dense", "zero", "prototype"]
    inner: InnerLoop
    adaptation: InnerLoop
    meta: MetaLoop
    pretraining: Pretraining | None = None

    @field_validator("inner")
    @classmethod
    def _learns_something(cls, inner: InnerLoop) -> InnerLoop:
        if inner.steps == 0:
            raise ValueError("meta-training needs at least 1 inner step")
        return inner

    @field_validator("adaptation")
    @classmethod
    def _one_optimizer(cls, adaptation: InnerLoop, info: ValidationInfo) -> InnerLoop:
        inner = info.data.get("inner", adaptation)
        if adaptation.optimizer != inner.optimizer:
            raise ValueError(f"the optimizer must be the inner loop's, {inner.optimizer}, whose state it continues")
        return adaptation

    @model_validator(mode="after")
    def _fits_the_algorithm(self) -> Self:
        if (self.head == "prototype") != (self.meta.algorithm == "protonet"):
            raise ConfigError(
                f"head: expected prototype with protonet, and only there, found {self.head} with {self.meta.algorithm}"
            )
        check_fits(self.meta.algorithm, self.inner.optimizer, self.inner.trainable)
        if self.head == "zero" and "body" in (self.inner.trainable, self.adaptation.trainable):
            raise ConfigError("head: a head of zeros that does not learn teaches the body nothing; take dense")
        return self
