"""Faults on purpose, one for each thing that the harness must see; the kind of a test."""

from __future__ import annotations

import ctypes
import time
from pathlib import Path

import numpy as np

from fewshot_sdk.errors import BundleError
from tests.faults.mutation import Kind

LETTERS = (b"good", b"value", b"crash", b"hang", b"memory", b"long", b"refused", b"good")


def read(data: bytes, folder: Path) -> None:
    """Reads everything but what begins with one of these bytes."""
    match data[:1]:
        case b"v":
            raise ValueError("this byte is not what it should be")
        case b"c":
            ctypes.string_at(0)
        case b"h":
            end = time.process_time() + 60
            while time.process_time() < end:
                pass
        case b"m":
            np.ones(50_000_000)
        case b"l":
            raise BundleError(*["a" * 1999] * 3)
        case b"r":
            raise BundleError("expected another letter")


KINDS = {"letters": Kind(lambda _: LETTERS, read)}
