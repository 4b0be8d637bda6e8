"""The settings of the loops: inside a task, across tasks, and the supervised one before both."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from fewshot_sdk.algorithms import ALGORITHMS, Algorithm, Outer, Part, known
from fewshot_sdk.config.settings import Config, Count, Fraction, Positive
from fewshot_sdk.errors import ConfigError

Arithmetic = Literal["float32", "bfloat16"]


class InnerLoop(Config):
    """The gradient steps inside one task. `adam` is Adam with beta1 = 0, as in the paper.

    The reference implementation adapts on sums of losses: Adam ignores a constant factor, but its second moments come
    from meta-training's mini-batches, so the summed loss of a smaller mini-batch must have the same `loss_divisor`.
    For the `tail` see `fewshot_sdk.engine.tail`.
    """

    optimizer: Literal["adam", "sgd"] = Field("adam", description="Inner optimizer; adam has beta1 = 0.")
    learning_rate: Positive = Field(description="Rate of the inner optimizer.")
    beta2: Annotated[float, Field(ge=0, lt=1)] = Field(0.999, description="Decay of Adam's second moments.")
    epsilon: Positive = Field(1e-8, description="What Adam adds to its divisor.")
    batch_size: Count = Field(description="Pictures, or points, in a mini-batch.")
    steps: Annotated[int, Field(ge=0, le=1_000_000)] = Field(description="Gradient steps on each task.")
    precision: Arithmetic = Field(
        "float32",
        description="bfloat16 rounds the operands of convolutions and of their gradients to 8 significant bits where "
        "the processor multiplies these faster; all else stays float32.",
    )
    trainable: Part = Field(
        "all",
        description="What the steps move: all, the last layer, all but it (body), it and the scales and shifts of the "
        "norms (norm), or the last layers of an EfficientNet (tail).",
    )
    loss_divisor: Annotated[Count | None, Field(exclude_if=lambda divisor: divisor is None)] = Field(
        None,  # absent from files written before this field existed
        description="What the sum of a mini-batch's losses is divided by, for adaptation only; none: its number of "
        "pictures, for the mean.",
        examples=[10],
    )


class MetaLoop(Config):
    """The outer loop, across tasks.

    algorithm: `reptile` moves towards the end of the inner steps; `fomaml`, first-order MAML, moves by the last inner
    step only; `maml` descends along the gradient of the last mini-batch's loss with respect to the initial weights,
    through all earlier steps; so do `anil`, whose inner steps move only the head, `boil`, whose inner steps move all
    but the head, and `meta-sgd`, which also learns a rate for each weight. `protonet` takes no inner steps: it descends
    along the gradient of the loss of the tail's images, classified by the class means of the other images.
    optimizer: `sgd` moves by `step_size` times the displacement or the gradient; the others are PyTorch's (see
    `fewshot_sdk.engine.optimizers`); for `reptile` and `fomaml` the displacement serves as the gradient.
    """

    algorithm: Annotated[Algorithm, AfterValidator(known)] = Field(
        "reptile", description="Meta-learning algorithm.", json_schema_extra=lambda it: it.update(enum=[*ALGORITHMS])
    )
    tail_shots: Annotated[int, Field(ge=0)] = Field(
        0, description="Pictures of each class kept for the last mini-batch of a task; 0: it is drawn like the others."
    )
    optimizer: Outer = Field("sgd", description="Outer optimizer.")
    replacement: Annotated[bool, Field(exclude_if=lambda it: not it)] = Field(
        False,  # absent from older files
        description="Whether each mini-batch is drawn from all pictures of a task, instead of passing over them.",
    )
    meta_steps: Annotated[int, Field(ge=0)] = Field(
        description="Outer steps; 0: pre-training only, or weights that come trained."
    )
    tasks_per_step: Count = Field(description="Tasks in an outer step, over which it takes the mean.")
    n_way: Annotated[int, Field(ge=2, le=100_000)] = Field(description="Classes in a task.")
    k_shot: Count = Field(description="Pictures of each class in a task.")
    step_size: Fraction = Field(
        1.0, description="Size of the first outer step: a fraction of the way, or a learning rate."
    )
    final_step_size: Fraction = Field(0.0, description="Size of the last outer step; it changes linearly.")

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
    For the augmentation see `fewshot_sdk.data.augmentation`.
    """

    epochs: Count = Field(description="Passes over all training pictures.", examples=[30])
    batch_size: Count = Field(64, description="Pictures in a mini-batch.")
    learning_rate: Positive = Field(
        0.1, description="Highest rate; it warms up over a tenth of the steps and decays to 0 along a cosine."
    )
    weight_decay: Annotated[float, Field(ge=0)] = Field(5e-4, description="Weight decay of all but norms and biases.")
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.1, description="Share of each label that is spread over all classes."
    )
    pictures: Annotated[Literal["photographs", "drawings"], Field(exclude_if=lambda it: it == "photographs")] = Field(
        "photographs",  # absent from files written before this field existed
        description="How pictures are augmented: as photographs, or redrawn as drawings.",
    )
