"""The score that `unknown` is decided by, for features that are independent of the batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
LEAST = 1e-12  # a length to divide by


@dataclass(frozen=True, kw_only=True, eq=False)
class Cosine:
    """How well a picture points to its class: max_k of the cosine between x - c and the head's row w_k.

    x: the picture's features; c: `centre`, the mean of the class means, (n_features,). With the logits z_k at hand,
    w_k (x - c) / |w_k| is (z_k - shift_k) scale_k; shift and scale are (n_way,). All are float32.
    Unlike a logit or a probability it neither saturates nor grows with the number of pictures that the head was
    made from, so that the limit found on held-out pictures suits the classifier made from all of them.
    """

    centre: Floats
    shift: Floats
    scale: Floats

    @classmethod
    def of(cls, weight: Floats, bias: Floats, centre: Floats, temperature: float = 1.0) -> Cosine:
        """The score of a head, weight (n_way, n_features) and bias (n_way,), for logits divided by the temperature."""
        rows, middle = weight.astype(np.float64), centre.astype(np.float64)
        shift = (bias + rows @ middle) / temperature
        scale = temperature / np.maximum(np.linalg.norm(rows, axis=1), LEAST)
        return cls(centre=centre.astype(np.float32), shift=shift.astype(np.float32), scale=scale.astype(np.float32))

    def scores(self, logits: Floats, features: Floats) -> NDArray[np.float32]:
        """The scores of pictures, (n,), from -1 to 1, given logits (n, n_way) and features (n, n_features)."""
        distance = np.maximum(np.linalg.norm(features - self.centre, axis=1), LEAST)
        found: NDArray[np.float32] = (((logits - self.shift) * self.scale).max(1) / distance).astype(np.float32)
        return found
