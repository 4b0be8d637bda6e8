"""The settings of a recipe: frozen, keyword-only, checked when made, written to config.json."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, PlainValidator, SerializeAsAny, ValidationInfo, field_validator, model_validator

from fewshot_sdk.algorithms import ALGORITHMS, check_fits
from fewshot_sdk.config.backbone import Fit
from fewshot_sdk.config.backbones import Backbone as Backbone
from fewshot_sdk.config.backbones import Conv4 as Conv4
from fewshot_sdk.config.backbones import EfficientNet as EfficientNet
from fewshot_sdk.config.backbones import Embeddings as Embeddings
from fewshot_sdk.config.backbones import Mlp as Mlp
from fewshot_sdk.config.backbones import Residual as Residual
from fewshot_sdk.config.backbones import Timm as Timm
from fewshot_sdk.config.backbones import check_pretraining
from fewshot_sdk.config.datasets import DATASETS, PARTS, DatasetRow
from fewshot_sdk.config.loops import Arithmetic as Arithmetic
from fewshot_sdk.config.loops import InnerLoop as InnerLoop
from fewshot_sdk.config.loops import MetaLoop as MetaLoop
from fewshot_sdk.config.loops import Pretraining as Pretraining
from fewshot_sdk.config.settings import Config as Config
from fewshot_sdk.config.settings import Count as Count
from fewshot_sdk.config.settings import Fraction as Fraction
from fewshot_sdk.config.settings import Listed as Listed
from fewshot_sdk.config.settings import Positive as Positive
from fewshot_sdk.errors import ConfigError, listed
from fewshot_sdk.tables import row_of

MAX_COLUMNS = 16_384  # of a row of numbers
_PLAIN, _PRINTABLE = re.compile(r"[\w.-]{1,100}"), re.compile(r"[\w./, -]{1,100}")  # both are shown on cards


class Preprocessing(Config):
    """How any picture becomes the network's uint8 array (height, width, channels).

    example: what one example is called in messages.
    """

    example: ClassVar[str] = "picture"
    height: Annotated[int, Field(ge=4, le=1024, description="Height of the network's input in pixels.")]
    width: Annotated[int, Field(ge=4, le=1024, description="Width of the network's input in pixels.")]
    channels: Literal[1, 3] = Field(description="1 for grey pictures, 3 for colour.")
    resize: Literal["nearest", "box", "bilinear", "bicubic"] = Field(description="Filter that resizes pictures.")
    fit: Fit = Field(
        "pad",
        description="What happens to pictures of other proportions than the network's: padded with white, cropped to "
        "the centre, or squeezed.",
    )
    kept: Annotated[float, Field(ge=0.1, le=1, exclude_if=lambda kept: kept == 1)] = Field(  # absent from older files
        1.0, description="Share of each side that remains after another central crop, for crop and stretch."
    )
    polarity: Literal["keep", "dark_on_light"] = Field(
        "keep",
        description="dark_on_light inverts a picture whose mean is below one half, so that chalk on a blackboard looks "
        "like ink on paper.",
    )
    mean: Listed[float] = Field(
        (0.0,), description="The network's input is (pixel / 255 - mean) / std: one mean, or one for each channel."
    )
    std: Listed[Positive] = Field((1.0,), description="The divisor of the same: one value, or one for each channel.")

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
            raise ValueError("expected 1 value" if channels == 1 else f"expected 1 or {channels} values")
        return values


class Rows(Preprocessing):
    """Rows of numbers in place of pictures: each an array (1, width, 1), float32, as it is.

    columns: the names of the columns of a CSV, in order; empty for arrays, whose columns have none.
    """

    example: ClassVar[str] = "row"
    width: Annotated[int, Field(ge=1, le=MAX_COLUMNS)]
    columns: Listed[str] = ()
    height: Annotated[Literal[1], Field(exclude=True)] = 1
    channels: Annotated[Literal[1], Field(exclude=True)] = 1
    resize: Annotated[Literal["nearest"], Field(exclude=True)] = "nearest"
    fit: Annotated[Literal["stretch"], Field(exclude=True)] = "stretch"
    kept: Annotated[float, Field(ge=1, le=1, exclude=True)] = 1.0
    polarity: Annotated[Literal["keep"], Field(exclude=True)] = "keep"
    mean: Annotated[Listed[float], Field(exclude=True)] = (0.0,)
    std: Annotated[Listed[Positive], Field(exclude=True)] = (1.0,)

    @model_validator(mode="after")
    def _one_name_a_column(self) -> Self:
        if self.columns and (len(self.columns) != self.width or len(set(self.columns)) < self.width):
            raise ConfigError(f"Rows: columns: expected {self.width} different names, found {len(self.columns)}")
        return self


def _of_its_kind(value: object) -> Preprocessing:
    if isinstance(value, Preprocessing):
        return value
    return (Rows if isinstance(value, Mapping) and "columns" in value else Preprocessing).model_validate(value)


AnyPreprocessing = Annotated[SerializeAsAny[Preprocessing], PlainValidator(_of_its_kind)]


class OwnClasses(Config):
    """The classes of one's own data set by part, each in one only, so that no evaluation meets a training class."""

    train: Annotated[Listed[str], Field(min_length=1)] = Field(
        description="Classes to train on.", examples=[["ant", "bee"]]
    )
    val: Listed[str] = Field((), description="Classes for choosing settings.")
    test: Listed[str] = Field((), description="Classes that only evaluation meets.")
    sha256: str = Field(
        "",
        description="SHA-256 of the names of all classes and the contents of their pictures; empty if they are not in "
        "files.",
    )

    @model_validator(mode="after")
    def _parts_are_apart(self) -> Self:
        several = [name for name, n in Counter((*self.train, *self.val, *self.test)).items() if n > 1]
        if several:
            raise ConfigError(f"OwnClasses: each class belongs to one part, once; found twice: {listed(several)}")
        return self


class DataSource(Config):
    """The classes to train on; the other classes of the same split are for testing."""

    name: str = Field(
        description="Data set: omniglot, mini-imagenet, glyphs, or any name for your own; photo-domains, imagenet and "
        "timm stand for what published weights were trained on, and cannot be opened."
    )
    split: str = Field(
        description="Division into training and test classes: paper or official for omniglot, ravi for mini-imagenet, "
        "seeded for glyphs; for your own, how it was divided."
    )
    rotations: bool = Field(
        False, description="Whether each training class, turned by 0, 90, 180 and 270 degrees, becomes four classes."
    )
    own: Annotated[OwnClasses | None, Field(exclude_if=lambda own: own is None)] = Field(  # absent from older files
        None, description="The classes of your own data set, by part; none for a data set that comes with the library."
    )

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
    """All settings of a preset: enough to train an initialization again, and to use it."""

    preset: str = Field(description="Name of the recipe, by which cards call what it makes.")
    data: DataSource = Field(description="The classes to train on.")
    preprocessing: Preprocessing = Field(description="How any picture becomes the network's input.")
    backbone: Backbone = Field(description="The network up to its features.")
    head: Literal["dense", "zero", "prototype"] = Field(
        description="The last layer: dense is stored, for meta.n_way classes; zero starts every task from zeros and "
        "prototype from the features' class means, for any number of classes."
    )
    inner: InnerLoop = Field(
        description="The gradient steps inside each task of meta-training; those of adapt are in adaptation."
    )
    adaptation: InnerLoop = Field(description="The gradient steps on a new task, of evaluate and adapt.")
    meta: MetaLoop = Field(description="The outer loop, across tasks.")
    pretraining: Pretraining | None = Field(
        None, description="Supervised training on all training classes before meta-training; none: there is none."
    )

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
