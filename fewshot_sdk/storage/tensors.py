"""Named tensors <-> the bytes of a safetensors file."""

from __future__ import annotations

from collections.abc import Mapping

import safetensors
import safetensors.torch
from torch import Tensor

from fewshot_sdk.errors import BundleError


def to_safetensors(tensors: Mapping[str, Tensor]) -> bytes:
    """The bytes of a safetensors file; equal tensors give equal bytes."""
    return safetensors.torch.save({name: tensors[name].contiguous() for name in sorted(tensors)})


def from_safetensors(data: bytes, what: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file. Raises BundleError, naming `what`, if it is not one."""
    try:
        return safetensors.torch.load(data)
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{what} is not a safetensors file ({error}); fetch or make it again") from None
