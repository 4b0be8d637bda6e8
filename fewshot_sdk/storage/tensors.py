"""Named tensors <-> the bytes of a safetensors file."""

from __future__ import annotations

import safetensors
import safetensors.torch

from fewshot_sdk.errors import BundleError
from fewshot_sdk.nets.params import Params


def to_safetensors(params: Params) -> bytes:
    """The bytes of a safetensors file; equal tensors give equal bytes."""
    return safetensors.torch.save({name: params[name].contiguous() for name in sorted(params)})


def from_safetensors(data: bytes, what: str) -> Params:
    """The tensors of a safetensors file. Raises BundleError, naming `what`, if it is not one."""
    try:
        return safetensors.torch.load(data)
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{what} is not a safetensors file ({error}); fetch or make it again") from None
