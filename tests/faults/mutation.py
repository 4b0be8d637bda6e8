"""Damaged copies of good files, by a seed: bits, lengths, numbers and structure, with the checksums right again.

A file is taken apart as far as it is known (zips, PNG, safetensors, NumPy's files, JSON, protocol buffers), one of its
parts is changed, and the whole is put together again, so that a mutant gets past the checks of its outer layers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Literal

from tests.faults.parts import Parts, apart

MOST = 2**19  # bytes of a mutant
NUMBERS = (0, 1, -1, 2, 127, 128, 255, 256, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63, 2**64 - 1)
_TEXTS = (
    b"0", b"-1", b"1", b"2147483648", b"9223372036854775808", b"1e999", b"-1e-999", b"NaN", b"Infinity", b"1" * 5000,
    b"null", b"true", b"[]", b"{}", b'""', b"\0", b"\n", b"\r", b'"', b"\\", b",", b";", b"\xef\xbb\xbf", b"\xff\xfe",
    b"\xed\xa0\x80", b"\\ud800", "\u202e".encode(), "\uff11".encode(), b"[" * 3000, b'{"a":' * 3000, b"a" * 9000,
    b"../", b"/", b"%s", b"'", b"=", b".a" * 200, b"\t",
)  # fmt: skip
_VALUES: tuple[object, ...] = (
    None, True, False, 0, -1, 1, 2, 2**31, 2**63, 2**70, 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf"), "", "a",
    "a" * 9000, "\0", "\n", "\u202e", "\ud800", "../../a", "/", [], {}, [[]], [0] * 3000, {"a": None}, [1, "a"],
    [2**31, 2**31], [-1], [0],
)  # fmt: skip
_DEEP, _PLACE = "deep", re.compile(rb"-?\d[\d.eE+-]*")


@dataclass(frozen=True)
class Kind:
    """A kind of input.

    seeds: good ones, made in an empty folder; enter: reads one in an empty folder as a command would, and raises a
    FewshotError or none. only: see `mutated`.
    """

    seeds: Callable[[Path], Sequence[bytes]]
    enter: Callable[[bytes, Path], object]
    only: str = ""


def mutated(seeds: Sequence[bytes], random: Random, only: str = "") -> bytes:
    """A damaged copy of one of the seeds. only: change no members of the outermost zip but those this pattern finds."""
    data = random.choice(seeds)
    for _ in range(random.choice((1, 1, 1, 2, 3, 6))):
        data = _changed(data, seeds, random, only)
    return data[:MOST]


def _changed(data: bytes, seeds: Sequence[bytes], random: Random, only: str, depth: int = 0) -> bytes:
    """The data with one change; the deeper inside, the likelier it is a change of plain bytes."""
    if only or random.random() < 0.7:
        parts = apart(data)
        if parts is not None:
            return _with_a_changed_part(parts, seeds, random, only, depth)
        if data[:1] in (b"{", b"["):
            return _changed_json(data, random)
    return _changed_bytes(data, random.choice(seeds), random)


def _with_a_changed_part(parts: Parts, seeds: Sequence[bytes], random: Random, only: str, depth: int) -> bytes:
    named = list(parts.named)
    allowed = [i for i, (name, _) in enumerate(named) if re.search(only, name)]
    if not allowed:
        return parts.join(named)
    at = random.choice(allowed)
    name, inside = named[at]
    what = random.random()
    if what < 0.04:
        del named[at]
    elif what < 0.08:
        named[at:at] = [named[at]] * random.choice((1, 1, 2, 50))
    elif what < 0.12:
        other = random.choice(allowed)
        named[at], named[other] = (name, named[other][1]), (named[other][0], inside)
    elif what < 0.16 and not only:
        named[at] = _changed_bytes(name.encode("latin-1", "replace"), b"", random).decode("latin-1"), inside
    else:
        named[at] = name, _changed(inside, seeds, random, "", depth + 1)
    return parts.join(named)


def _changed_bytes(data: bytes, other: bytes, random: Random) -> bytes:
    """The bytes with one change that knows nothing of what they mean."""
    at, n = random.randrange(len(data) + 1), random.choice((1, 2, 4, 8, 64, 1000))
    match random.randrange(9):
        case 0:  # bits
            found = bytearray(data)
            for _ in range(min(n, 64) if found else 0):
                found[random.randrange(len(found))] ^= 1 << random.randrange(8)
            return bytes(found)
        case 1:
            return data[:at]
        case 2:
            return data[:at] + data[at + n :]
        case 3:
            return data[:at] + data[at : at + n] * random.choice((2, 3, 100)) + data[at + n :]
        case 4:  # a splice of two
            return data[:at] + other[random.randrange(len(other) + 1) :]
        case 5:
            return data[:at] + random.randbytes(n) + data[at + n * random.randrange(2) :]
        case 6:  # a length or a size
            size = random.choice((1, 2, 4, 8))
            order: Literal["little", "big"] = "little" if random.choice((True, False)) else "big"
            number: int = random.choice(NUMBERS) % 2 ** (8 * size)
            return data[:at] + number.to_bytes(size, order) + data[at + size :]
        case 7:  # a number written in digits
            places = list(_PLACE.finditer(data[:100_000]))
            if places:
                place = random.choice(places)
                return data[: place.start()] + random.choice(_TEXTS) + data[place.end() :]
            return data[:at] + random.choice(_TEXTS) + data[at + 1 :]
        case _:
            return data[:at] + random.choice(_TEXTS) + data[at:]


def _changed_json(data: bytes, random: Random) -> bytes:
    try:
        root = json.loads(data)
    except (ValueError, RecursionError):
        return _changed_bytes(data, data, random)
    places: list[tuple[object, object]] = []
    _places(root, places)
    if not places:
        return _changed_bytes(data, data, random)
    inside, key = random.choice(places)
    value = random.choice((*_VALUES, _DEEP))
    match random.randrange(8):
        case 0:
            _delete(inside, key)
        case 1:  # what another place holds
            held, there = random.choice(places)
            _assign(inside, key, held[there])  # type: ignore[index]
        case 2 if isinstance(inside, dict):
            inside[random.choice(("a", "", "\ud800", "__class__", "x" * 300))] = value
        case 3 if isinstance(inside, list):
            inside[:] = inside * random.choice((0, 2, 100))
        case _:
            _assign(inside, key, value)
    try:
        text = json.dumps(root)
    except (ValueError, RecursionError):  # it holds itself
        return _changed_bytes(data, data, random)
    text = text.replace(f'"{_DEEP}"', "[" * 900 + "]" * 900)
    return text.encode()


def _places(node: object, found: list[tuple[object, object]]) -> None:
    if len(found) > 2000:
        return
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in list(pairs):
        found.append((node, key))
        _places(value, found)


def _delete(inside: object, key: object) -> None:
    if isinstance(inside, dict | list):
        del inside[key]  # type: ignore[arg-type]


def _assign(inside: object, key: object, value: object) -> None:
    if isinstance(inside, dict | list):
        inside[key] = value  # type: ignore[call-overload]
