"""How one's own classes are divided into parts: by shares and a seed, each class into one part."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from fewshot_sdk.config.datasets import Part
from fewshot_sdk.errors import ConfigError
from fewshot_sdk.storage.files import sha256

SPLIT = "0.7/0.15/0.15"
_SHARE = re.compile(r"[01]|[01]?\.[0-9]{1,9}")
_ORDER: tuple[Part, ...] = ("train", "test", "val")  # who gets the class that no share is owed more than another


def shares_of(split: str) -> dict[Part, Fraction]:
    """The shares in a text such as 0.7/0.15/0.15, for training, validation and testing; 0.8/0.2 has no validation.

    Raises ConfigError unless these are two or three numbers from 0 to 1 that sum to 1, the first above 0.
    """
    words = [word.strip() for word in split.split("/")]
    numbers = [Fraction(word) for word in words if _SHARE.fullmatch(word)]
    if len(numbers) != len(words) or len(words) not in (2, 3) or numbers[0] == 0 or sum(numbers) != 1:
        raise ConfigError(
            f"--split: expected shares of the classes for training, validation and testing that sum to 1, such as "
            f"{SPLIT} or 0.8/0.2 (no validation), found {split[:60]!r}"
        )
    train, *val, test = numbers
    return {"train": train, "val": val[0] if val else Fraction(0), "test": test}


def described(split: str, seed: int) -> str:
    """The division as it is recorded: `0.7/0.15/0.15, seed 0`."""
    return "/".join(f"{float(share):.6g}" for share in shares_of(split).values()) + f", seed {seed}"


def divided(names: Sequence[str], split: str, seed: int) -> dict[Part, tuple[str, ...]]:
    """The classes of each part, sorted; a pure function of the names, the shares and the seed.

    Parts have their share of the classes rounded down, and those with the largest remainders one more; training has at
    least one class. The order in which classes are given out is that of a hash of seed and name, the same everywhere.
    """
    shares = shares_of(split)
    sizes = {part: int(share * len(names)) for part, share in shares.items()}
    owed = sorted(_ORDER, key=lambda part: sizes[part] - shares[part] * len(names))  # a stable sort
    for part in owed[: len(names) - sum(sizes.values())]:
        sizes[part] += 1
    if not sizes["train"] and names:
        largest = max(sizes, key=sizes.__getitem__)
        sizes[largest], sizes["train"] = sizes[largest] - 1, 1
    shuffled, first = sorted(names, key=lambda name: sha256(f"{seed} {name}".encode())), 0
    parts: dict[Part, tuple[str, ...]] = {}
    for part, size in sizes.items():
        parts[part] = tuple(sorted(shuffled[first : first + size]))
        first += size
    return parts
