"""What a new backbone adds to config/backbones.py: its settings and its row."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fewshot_sdk.config.backbones import BackboneRow, BackboneSettings, FrozenNorm


class Stamp(BackboneSettings):
    """One convolution of squares side by side, batch norm, ReLU, and the mean over the picture."""

    kind: Literal["stamp"] = Field("stamp", description="Kind of network: one convolution.")
    filters: Annotated[int, Field(ge=1)] = Field(6, description="Filters of the convolution.")
    side: Annotated[int, Field(ge=1)] = Field(4, description="Side of a square, in pixels.")

    def described(self) -> str:
        return f"stamps of {self.side} x {self.side} pixels, {self.filters} filters"

    def frozen_norms(self) -> tuple[FrozenNorm, ...]:
        return (FrozenNorm("stamp", "norm", 1e-3),)


ROW = BackboneRow(settings=Stamp, layers="tests.toys.stamp_layers:layers", graph="tests.toys.stamp_graph:features")
