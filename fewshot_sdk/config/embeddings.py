"""The settings of a network that takes features computed elsewhere, such as sentence embeddings."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field

from fewshot_sdk.config.backbone import BackboneSettings


class Embeddings(BackboneSettings):
    """No network: rows of numbers are the features, each judged alone, after scaling.

    `auto` compares `whole` and `columns`. A standard deviation for each column costs up to 18 points of accuracy on
    embeddings, whose columns hardly vary among a few rows, and gains up to 26 on tables, whose columns have units of
    their own: see `benchmarks.feature_scaling`.
    """

    kind: Literal["embeddings"] = Field("embeddings", description="Kind of network: none, rows are the features.")
    scaling: Literal["none", "whole", "columns"] = Field(
        "whole",
        description="What the features are divided by, after their mean is taken away: nothing; one number for all "
        "columns; or the standard deviation of each column. Mean and deviation are those of the support set.",
    )
    comes_trained: ClassVar[bool] = True
    summarized: ClassVar[int] = 2

    @property
    def summary(self) -> str:
        """The scaling in words, where several are compared."""
        return {"none": "as they are", "whole": "scaled alike", "columns": "each column scaled"}[self.scaling]

    def described(self) -> str:
        """The backbone in words."""
        return f"features computed elsewhere, {self.summary}"

    def for_features(self) -> tuple[Self, ...]:
        """Scaled alike and column by column; features that are to stay as they are do."""
        if self.scaling == "none":
            return (self,)
        return self.replace(scaling="whole"), self.replace(scaling="columns")
