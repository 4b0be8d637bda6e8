"""Fast weights: the difference between adapted weights and the initialization, small enough to keep a thousand.

float32  the difference of the bit patterns, as int32: adding it restores every bit
float16  the difference, rounded to 11 significant bits
int8     the difference in 255 equal steps, scaled to the largest of each row of a matrix or kernel; vectors in float32

A tensor that did not change is omitted. The norms' statistics depend only on the support set and are stored as they
are. A head that the initialization has no rows for starts from zeros, as in `heads.open_any_head`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewshot_sdk.config.records import Origin, Precision
from fewshot_sdk.errors import BundleError, ConfigError, ParamsMismatch

Arrays = dict[str, NDArray[Any]]
Base = Mapping[str, NDArray[np.float32]]
STEP = "delta.safetensors"  # the file with the differences
CENTRE = "centre.safetensors"  # the file with the centre of the classes, see `nets.score`
HEAD, SCALE = "head.", ".scale"
STEPS = 127


def difference(adapted: Mapping[str, NDArray[np.float32]], base: Base, precision: Precision) -> Arrays:
    """The difference from which `restored` makes `adapted` with the same `base`: exactly in float32, else nearly.

    Raises ConfigError for a difference beyond float16's range.
    """
    delta: Arrays = {}
    for name, now in adapted.items():
        before = _before(base, name, now.shape)
        if before is None:
            delta[name] = now
        elif name.startswith(HEAD) or now.tobytes() != before.tobytes():
            delta |= _encoded(name, now, before, precision)
    return delta


def restored(delta: Arrays, base: Base, precision: Precision, what: str) -> dict[str, NDArray[np.float32]]:
    """The adapted weights: `base` plus the differences.

    what: names the delta in messages. Raises ParamsMismatch for a tensor whose dtype or shape does not fit, or
    with which weights are not finite.
    """
    adapted: dict[str, NDArray[np.float32]] = {name: tensor for name, tensor in base.items() if name not in delta}
    for name, step in delta.items():
        if name.endswith(SCALE):
            continue
        before = _before(base, name, step.shape)
        kind = _kind(precision, step.ndim) if before is not None else np.float32
        if step.dtype != kind:
            raise ParamsMismatch(f"{what}: tensor {name!r}: expected {np.dtype(kind)}, found {step.dtype}; adapt again")
        if before is None:
            adapted[name] = step
        elif precision == "float32":
            adapted[name] = (before.view(np.int32) + step).view(np.float32)
        elif step.dtype == np.int8:
            scale = delta.get(name + SCALE, np.empty(0))
            if scale.dtype != np.float32 or scale.shape != (len(step),):
                raise ParamsMismatch(f"{what}: tensor {name + SCALE!r}: expected float32 ({len(step)},); adapt again")
            with np.errstate(over="ignore", invalid="ignore"):
                adapted[name] = before + step.astype(np.float32) * _across(scale, step.ndim)
        else:
            adapted[name] = before + step.astype(np.float32)
        if not np.isfinite(adapted[name]).all():
            raise ParamsMismatch(f"{what}: with {name!r}, weights are no longer finite; adapt again")
    return adapted


def of_classes(
    delta: Arrays, adapted: Mapping[str, NDArray[np.float32]], base: Base, kept: Sequence[int], precision: Precision
) -> Arrays:
    """The delta of the same weights with only these rows of the head.

    adapted: what `delta` restores. The same numbers are stored, but where the initialization has a head of this size,
    before or after: there the rows are encoded anew, as by `difference`.
    """
    fewer: Arrays = {name: step for name, step in delta.items() if not name.startswith(HEAD)}
    for name, whole in adapted.items():
        if not name.startswith(HEAD):
            continue
        now = whole[list(kept)]
        if name in base and base[name].shape in (whole.shape, now.shape):
            before = _before(base, name, now.shape)
            assert before is not None
            fewer |= _encoded(name, now, before, precision)
        else:
            fewer |= {part: delta[part][list(kept)] for part in (name, name + SCALE) if part in delta}
    return fewer


def check_base(what: str, origin: Origin, name: str, sha256: str) -> None:
    """Raises BundleError, with both hashes, unless the initialization called `name` is the one of `origin`."""
    if sha256 != origin.sha256:
        raise BundleError(
            f"{what} was adapted from {origin.name} with sha256 {origin.sha256[:16]}..., not from the given {name} "
            f"with sha256 {sha256[:16]}...; name that initialization (--base)"
        )


def _encoded(name: str, now: NDArray[np.float32], before: NDArray[np.float32], precision: Precision) -> Arrays:
    if precision == "float32":
        return {name: now.view(np.int32) - before.view(np.int32)}
    step = now - before
    if precision == "float16":
        if not np.abs(step).max() <= np.finfo(np.float16).max:
            raise ConfigError(f"{name}: a difference of {np.abs(step).max():.3g} is too large for float16; use int8")
        return {name: step.astype(np.float16)}
    if step.ndim == 1:
        return {name: step}
    scale = np.abs(step).reshape(len(step), -1).max(1) / np.float32(STEPS)
    steps = np.round(step / _across(np.where(scale > 0, scale, 1), step.ndim))
    return {name: steps.astype(np.int8), name + SCALE: scale}


def _before(base: Base, name: str, shape: tuple[int, ...]) -> NDArray[np.float32] | None:
    """The tensor before adaptation; None for the norms' statistics, which the base does not have."""
    before = base.get(name)
    if name.startswith(HEAD) and (before is None or before.shape != shape):
        return np.zeros(shape, np.float32)
    if before is not None and before.shape != shape:
        raise ParamsMismatch(f"tensor {name!r}: the initialization's is {before.shape}, the delta's {shape}")
    return before


def _kind(precision: Precision, dimensions: int) -> type[np.generic]:
    if precision == "int8":
        return np.int8 if dimensions > 1 else np.float32
    return np.int32 if precision == "float32" else np.float16


def _across(scale: NDArray[np.float32], dimensions: int) -> NDArray[np.float32]:
    return scale.reshape(-1, *[1] * (dimensions - 1))
