"""Named arrays or tensors <-> the bytes of a safetensors file; only tensors need PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from fewshot_sdk.errors import BundleError

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


def to_safetensors(tensors: Mapping[str, Tensor]) -> bytes:
    """The bytes of a safetensors file; equal tensors give equal bytes."""
    from safetensors.torch import save

    return save({name: tensors[name].contiguous() for name in sorted(tensors)})


def from_safetensors(data: bytes, what: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file. Raises BundleError, naming `what`, if it is not one, or one is not finite."""
    from safetensors.torch import load

    return _read(load, data, what, lambda tensor: bool(tensor.isfinite().all()))


def to_bytes(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """The bytes of a safetensors file; equal arrays give equal bytes."""
    data: bytes = safetensors.numpy.save({name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)})
    return data


def from_bytes(data: bytes, what: str) -> dict[str, NDArray[Any]]:
    """The arrays of a safetensors file. Raises BundleError, naming `what`, if it is not one, or one is not finite."""
    return _read(safetensors.numpy.load, data, what, lambda array: bool(np.isfinite(array).all()))


def _read(load: Callable[[bytes], dict[str, T]], data: bytes, what: str, finite: Callable[[T], bool]) -> dict[str, T]:
    try:
        found = load(data)
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{what} is not a safetensors file ({error}); fetch or make it again") from None
    for name, tensor in found.items():
        if not finite(tensor):
            raise BundleError(f"{what}: {name} holds numbers that are not finite; fetch or make it again")
    return found
