"""What all settings have in common: frozen, keyword-only, checked where they are made, an unknown one is an error."""

from __future__ import annotations

from reprlib import Repr
from typing import Annotated, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)

from fewshot_sdk.errors import ConfigError

Count = Annotated[int, Field(ge=1, le=100_000_000)]
Positive = Annotated[float, Field(gt=0)]
T = TypeVar("T")
Listed = Annotated[tuple[T, ...], Field(strict=False, fail_fast=True)]  # a JSON list is no tuple to a strict reader
_shortened = Repr()  # a wrong value may be millions of numbers
_shortened.maxlist = _shortened.maxtuple = _shortened.maxdict = 20
_shortened.maxstring = _shortened.maxother = _shortened.maxlong = 300
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
                + (f", found {_shortened.repr(e['input'])}" if e["type"] != "missing" else "")
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
