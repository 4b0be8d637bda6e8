"""Optional packages, the extras of fewshot-sdk that install them, and the sentence that says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fewshot_sdk.errors import MissingExtra

_EXTRAS = {"torch": ("torch", "PyTorch")} | {
    package: ("serve", package) for package in ("starlette", "uvicorn", "prometheus_client", "h11")
}


def missing(who: str, error: ModuleNotFoundError, instead: str = "") -> MissingExtra | None:
    """The error that says which extra `who` needs; None if what is missing belongs to none.

    instead: what can be done without it.
    """
    package = (error.name or "").partition(".")[0]
    if package not in _EXTRAS:
        return None
    extra, called = _EXTRAS[package]
    advice = f"; {instead}" if instead else ""
    return MissingExtra(f"{who} needs {called}, which is not installed: pip install 'fewshot-sdk[{extra}]'{advice}")


@contextmanager
def needing(who: str) -> Iterator[None]:
    """Imports for `who`. Raises MissingExtra if one of them lacks an optional package."""
    try:
        yield
    except ModuleNotFoundError as error:
        if known := missing(who, error):
            raise known from error
        raise
