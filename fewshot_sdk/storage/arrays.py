"""Named arrays <-> the bytes of a safetensors file, without PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from fewshot_sdk.errors import BundleError


def to_bytes(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """The bytes of a safetensors file; equal arrays give equal bytes."""
    data: bytes = safetensors.numpy.save({name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)})
    return data


def from_bytes(data: bytes, what: str) -> dict[str, NDArray[Any]]:
    """The arrays of a safetensors file. Raises BundleError, naming `what`, if it is not one."""
    try:
        arrays: dict[str, NDArray[Any]] = safetensors.numpy.load(data)
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{what} is not a safetensors file ({error}); fetch or make it again") from None
    return arrays
