"""The settings of a recipe: frozen, keyword-only, checked when made, written to config.json."""

from __future__ import annotations

import re
from collections import Counter
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from fewshot_sdk.algorithms import ALGORITHMS, Algorithm, Outer, Part, check_fits, known
from fewshot_sdk.config.backbone import Fit
from fewshot_sdk.config.backbones import Backbone as Backbone
from fewshot_sdk.config.backbones import Conv4 as Conv4
from fewshot_sdk.config.backbones import EfficientNet as EfficientNet
from fewshot_sdk.config.backbones import Mlp as Mlp
from fewshot_sdk.config.backbones import Residual as Residual
from fewshot_sdk.config.backbones import Timm as Timm
from fewshot_sdk.config.backbones import check_pretraining
from fewshot_sdk.config.datasets import DATASETS, PARTS, DatasetRow
from fewshot_sdk.config.settings import Config as Config
from fewshot_sdk.config.settings import Count as Count
from fewshot_sdk.config.settings import Fraction as Fraction
from fewshot_sdk.config.settings import Listed as Listed
from fewshot_sdk.config.settings import Positive as Positive
from fewshot_sdk.errors import ConfigError, listed
from fewshot_sdk.tables import row_of

_PLAIN, _PRINTABLE = re.compile(r"[\w.-]{1,100}"), re.compile(r"[\w./, -]{1,100}")  # both are shown on cards
Arithmetic = Literal["float32", "bfloat16"]


class Preprocessing(Config):
    """How any picture becomes the network's uint8 array (height, width, channels).

    polarity: `dark_on_light` inverts a picture whose mean is below one half, so that chalk on a
    blackboard looks like ink on paper; `keep` leaves it as it is.
    fit: a picture of other proportions than the network's is padded with white (`pad`), cropped to the centre
    (`crop`) or squeezed (`stretch`). kept: the share of each side that remains after another central crop, for `crop`
    and `stretch`. resize: the filter.
    mean, std: for each channel the network's input is (pixel / 255 - mean) / std.
    """

    height: Annotated[int, Field(ge=4, le=1024)]
    width: Annotated[int, Field(ge=4, le=1024)]
    channels: Literal[1, 3]
    resize: Literal["nearest", "box", "bilinear", "bicubic"]
    fit: Fit = "pad"
    kept: Annotated[float, Field(ge=0.1, le=1, exclude_if=lambda kept: kept == 1)] = 1.0  # absent from older files
    polarity: Literal["keep", "dark_on_light"] = "keep"
    mean: Listed[float] = (0.0,)
    std: Listed[Positive] = (1.0,)

    @field_validator("kept")
    @classmethod
    def _paper_is_no_picture(cls, kept: float, info: ValidationInfo) -> float:
        if kept < 1 and info.data.get("fit") == "pad":
            raise ValueError("expected 1 with fit pad, which keeps the whole picture")
        return kept

    @field_validator("mean", "std")
    @classmethod
    def _one_value_per_channel(cls, values: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
        channels = info.data.get("channels", 1)
        if len(values) not in (1, channels):
            raise ValueError(f"expected 1 or {channels} values")
        return values


class InnerLoop(Config):
    """The gradient steps inside one task. `adam` is Adam with beta1 = 0, as in the paper.

    loss_divisor: the number that the sum of a mini-batch's losses is divided by; None: its number of pictures, for the
    mean. The reference implementation adapts on sums: Adam ignores a constant factor, but its second moments come
    from meta-training's mini-batches; the summed loss of a smaller mini-batch must be divided by the same number.
    trainable: the part that the steps move: `all`, the last layer (`head`), all but the last layer (`body`), the
    last layer and the scales and shifts of the normalization layers (`norm`), or the last layers of an EfficientNet
    (`tail`), see `fewshot_sdk.engine.tail`.
    precision: `bfloat16` rounds the operands of the convolutions and of their gradients to 8 significant bits if the
    processor multiplies these faster; sums and everything else stay float32.
    """

    optimizer: Literal["adam", "sgd"] = "adam"
    learning_rate: Positive
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    epsilon: Positive = 1e-8
    batch_size: Count
    steps: Annotated[int, Field(ge=0, le=1_000_000)]
    precision: Arithmetic = "float32"
    trainable: Part = "all"
    loss_divisor: Annotated[Count | None, Field(exclude_if=lambda divisor: divisor is None)] = (
        None  # absent from files written before this field existed
    )


class MetaLoop(Config):
    """The outer loop, across tasks. The outer step size changes linearly from `step_size` to `final_step_size`.

    algorithm: `reptile` moves towards the end of the inner steps; `fomaml`, first-order MAML, moves by the last inner
    step only; `maml` descends along the gradient of the last mini-batch's loss with respect to the initial weights,
    through all earlier steps; so do `anil`, whose inner steps move only the head, `boil`, whose inner steps move all
    but the head, and `meta-sgd`, which also learns a rate for each weight. `protonet` takes no inner steps: it descends
    along the gradient of the loss of the tail's images, classified by the class means of the other images.
    tail_shots: how many images of each class are kept for the last mini-batch; 0: it is drawn like the others.
    replacement: draw each inner mini-batch anew from all images, instead of passing over them in turn.
    meta_steps: 0 means pre-training only, and needs a recipe with `pretraining` or weights that come trained.
    optimizer: the outer optimizer. `sgd` moves by `step_size` times the displacement or the gradient; the others are
    PyTorch's (see `fewshot_sdk.engine.optimizers`) with `step_size` as their rate; for `reptile` and `fomaml` the
    displacement serves as the gradient.
    """

    algorithm: Annotated[Algorithm, AfterValidator(known)] = "reptile"
    tail_shots: Annotated[int, Field(ge=0)] = 0
    optimizer: Outer = "sgd"
    replacement: Annotated[bool, Field(exclude_if=lambda it: not it)] = False  # absent from older files
    meta_steps: Annotated[int, Field(ge=0)]
    tasks_per_step: Count
    n_way: Annotated[int, Field(ge=2, le=100_000)]
    k_shot: Count
    step_size: Fraction = 1.0
    final_step_size: Fraction = 0.0

    @model_validator(mode="after")
    def _tail_fits(self) -> Self:
        row = ALGORITHMS[self.algorithm]
        if row.tail == "always" and not 0 < self.tail_shots < self.k_shot:
            raise ConfigError(
                f"MetaLoop: tail_shots: {self.algorithm} classifies the tail's images by the others, expected 1 to "
                f"{self.k_shot - 1}, fewer than k_shot, found {self.tail_shots}"
            )
        if self.replacement and not row.takes_steps:
            raise ConfigError(f"MetaLoop: replacement: {self.algorithm} draws no mini-batches, expected false")
        if self.tail_shots and (row.tail == "never" or self.tail_shots >= self.k_shot):
            without = " or ".join(name for name, other in ALGORITHMS.items() if other.tail == "never")
            raise ConfigError(
                f"MetaLoop: tail_shots: expected fewer than k_shot {self.k_shot}, and 0 with {without}, "
                f"found {self.tail_shots} with {self.algorithm}"
            )
        return self


class Pretraining(Config):
    """Supervised training of the whole network to classify all training classes, before meta-training.

    SGD with Nesterov momentum 0.9; the rate warms up over a tenth of the steps and decays to 0 along a cosine.
    pictures: `photographs` or `drawings`: how they are augmented (see `fewshot_sdk.data.augmentation`).
    """

    epochs: Count
    batch_size: Count = 64
    learning_rate: Positive = 0.1
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    pictures: Annotated[Literal["photographs", "drawings"], Field(exclude_if=lambda it: it == "photographs")] = (
        "photographs"  # absent from files written before this field existed
    )


class OwnClasses(Config):
    """The classes of one's own data set by part, each in one part only, so that no evaluation meets a training class.

    sha256: of the names of all classes and the contents of their pictures; empty if they are not in files.
    """

    train: Annotated[Listed[str], Field(min_length=1)]
    val: Listed[str] = ()
    test: Listed[str] = ()
    sha256: str = ""

    @model_validator(mode="after")
    def _parts_are_apart(self) -> Self:
        several = [name for name, n in Counter((*self.train, *self.val, *self.test)).items() if n > 1]
        if several:
            raise ConfigError(f"OwnClasses: each class belongs to one part, once; found twice: {listed(several)}")
        return self


class DataSource(Config):
    """The classes to train on; the other classes of the same split are for testing.

    split: `paper` or `official` for Omniglot; mini-ImageNet has only `ravi`, the glyphs only `seeded`; how one's own
    classes were divided.
    name: `timm` stands for the data that a timm model was trained on, `imagenet` for that of published weights; these
    cannot be opened.
    rotations: each training class, turned by 0, 90, 180 and 270 degrees, becomes four classes.
    own: for one's own data set, of any name: its classes; None for a data set of the table.
    """

    name: str
    split: str
    rotations: bool = False
    own: Annotated[OwnClasses | None, Field(exclude_if=lambda own: own is None)] = None  # absent from older files

    def __str__(self) -> str:
        return f"{self.name}, split {self.split}"

    @property
    def row(self) -> DatasetRow:
        """What is known of the data set: its row in the table, or, for one's own, what its classes tell."""
        if self.own is None:
            return DATASETS[self.name]
        parts = {"train": self.own.train, "val": self.own.val, "test": self.own.test}
        return DatasetRow(
            splits=(self.split,),
            parts=tuple(part for part in PARTS if parts[part]),
            about=f"one's own pictures of {len(self.own.train)} classes",
            suits="expect it to tell apart pictures like these",
        )

    @model_validator(mode="after")
    def _split_exists(self) -> Self:
        if self.own is not None:
            if not _PLAIN.fullmatch(self.name) or not _PRINTABLE.fullmatch(self.split):
                raise ConfigError(
                    f"DataSource: name, split: expected up to 100 letters, digits, dots, dashes or underscores for "
                    f"one's own data, and up to 100 printable characters, found {self.name[:60]!r}, {self.split[:60]!r}"
                )
            return self
        known = row_of(DATASETS, self.name, "data set").splits
        if self.split not in known:
            raise ConfigError(
                f"DataSource: split: {self.name} has the split {' or '.join(known)}, found {self.split!r}"
            )
        return self


class Recipe(Config):
    """All settings of a preset: enough to train an initialization again, and to use it.

    head: `dense` is a stored layer of `meta.n_way` rows; `zero` starts every task from rows of zeros, so that one
    initialization serves any number of classes; `prototype` starts it from the class means of the features.
    pretraining: supervised training before meta-training; None: none.
    inner: the inner loop of meta-training; adaptation: the loop for a new task.
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
        if inner.loss_divisor is not None:
            raise ValueError("loss_divisor is for adaptation: all mini-batches of meta-training have the same size")
        return inner

    @field_validator("adaptation")
    @classmethod
    def _one_optimizer(cls, adaptation: InnerLoop, info: ValidationInfo) -> InnerLoop:
        inner = info.data.get("inner", adaptation)
        if adaptation.optimizer != inner.optimizer:
            raise ValueError(f"the optimizer must be the inner loop's, {inner.optimizer}, whose state it continues")
        return adaptation

    @field_validator("backbone")
    @classmethod
    def _can_be_trained(cls, backbone: Backbone) -> Backbone:
        backbone.check_in_recipe()
        return backbone

    @model_validator(mode="after")
    def _fits_the_algorithm(self) -> Self:
        if (self.head == "prototype") == ALGORITHMS[self.meta.algorithm].takes_steps:
            those = " or ".join(name for name, row in ALGORITHMS.items() if not row.takes_steps)
            raise ConfigError(
                f"head: expected prototype with {those} and only then, found {self.head} with {self.meta.algorithm}"
            )
        if self.pretraining:
            check_pretraining(self.backbone)
        if not (self.meta.meta_steps or self.pretraining or self.backbone.comes_trained):
            raise ConfigError("meta.meta_steps: expected 1 or more without pretraining, found 0")
        check_fits(self.meta.algorithm, self.inner.optimizer, self.inner.trainable)
        if not self.backbone.tail and "tail" in (self.inner.trainable, self.adaptation.trainable):
            raise ConfigError(
                f"trainable: a {self.backbone.kind} network has no tail, expected all, head, body or norm; an "
                "efficientnet network, such as that of `photo`, has one"
            )
        if self.head == "zero" and "body" in (self.inner.trainable, self.adaptation.trainable):
            raise ConfigError("head: a head of zeros that does not learn gives the body no gradient; take dense")
        return self
