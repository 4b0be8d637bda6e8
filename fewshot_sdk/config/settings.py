"""The base of all settings: frozen, keyword-only, checked when made; an unknown setting is an error."""

from __future__ import annotations

from reprlib import Repr
from typing import TYPE_CHECKING, Annotated, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)

from fewshot_sdk.errors import SHOWN, ConfigError
from fewshot_sdk.tables import did_you_mean

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Count = Annotated[int, Field(ge=1, le=100_000_000)]
Positive = Annotated[float, Field(gt=0)]
T = TypeVar("T")
Listed = Annotated[tuple[T, ...], Field(strict=False, fail_fast=True)]  # strict mode takes no JSON list for a tuple
_shortened = Repr()  # a wrong value may hold millions of numbers
_shortened.maxlist = _shortened.maxtuple = _shortened.maxdict = 20
_shortened.maxstring = _shortened.maxother = _shortened.maxlong = 300
Fraction = Annotated[float, Field(ge=0, le=1)]


class Config(BaseModel):
    """A group of settings. Raises ConfigError, naming the setting, for a wrong, missing or unknown one."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=True)

    @model_validator(mode="wrap")
    @classmethod
    def _explain(cls, data: object, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(data)
        except ValidationError as error:
            details = error.errors()
            found = "; ".join(cls._complaint(detail) for detail in details[:SHOWN])
            more = f"; and {len(details) - SHOWN} more" if len(details) > SHOWN else ""
            raise ConfigError(f"{cls.__name__}: {found[:600]}{more}") from None

    @classmethod
    def _complaint(cls, detail: ErrorDetails) -> str:
        """One of pydantic's errors as a sentence: the setting, what was expected, what was found."""
        setting = ".".join(map(str, detail["loc"]))[:100] or "value"
        if detail["type"] == "extra_forbidden":
            return f"{setting}: no such setting{did_you_mean(setting, cls.model_fields)}"
        told = detail["type"] == "missing" or isinstance(detail["input"], BaseModel)  # a group of settings is long
        found = "" if told else f", found {_shortened.repr(detail['input'])}"
        return f"{setting}: {_first_lower(detail['msg'].removeprefix('Value error, '))}{found}"

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """The settings in a JSON object. Raises ConfigError."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:  # not JSON at all
            raise ConfigError(f"{cls.__name__}: {_first_lower(error.errors()[0]['msg'])}") from None

    def replace(self, **changes: object) -> Self:
        """A copy with some settings changed, checked again. Raises ConfigError."""
        known = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self)(**{**known, **changes})


def _first_lower(text: str) -> str:
    return text[:1].lower() + text[1:]
