"""Damaged copies of good files, by a seed: bits, lengths, numbers and structure, with the checksums right again.

A file is taken apart as far as it is known (zips, PNG, safetensors, NumPy's files, JSON, protocol buffers), one of its
parts is changed, and the whole is put together again, so that a mutant gets past the checks of its outer layers.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from fewshot_sdk.storage.files import MANIFEST, manifest_of

MOST = 2**19  # bytes of a mutant
NUMBERS = (0, 1, -1, 2, 127, 128, 255, 256, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63, 2**64 - 1)
_TEXTS = (
    b"0", b"-1", b"1", b"2147483648", b"9223372036854775808", b"1e999", b"-1e-999", b"NaN", b"Infinity", b"1" * 5000,
    b"null", b"true", b"[]", b"{}", b'""', b"\0", b"\n", b"\r", b'"', b"\\", b",", b";", b"\xef\xbb\xbf", b"\xff\xfe",
    b"\xed\xa0\x80", b"\\ud800", "\u202e".encode(), "\uff11".encode(), b"[" * 3000, b'{"a":' * 3000, b"a" * 9000, b"../", b"/",
    b"%s", b"'", b"=", b".a" * 200, b"\t",
)  # fmt: skip
_VALUES: tuple[object, ...] = (
    None, True, False, 0, -1, 1, 2, 2**31, 2**63, 2**70, 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf"), "", "a",
    "a" * 9000, "\0", "\n", "\u202e", "\ud800", "../../a", "/", [], {}, [[]], [0] * 3000, {"a": None}, [1, "a"],
    [2**31, 2**31], [-1], [0],
)  # fmt: skip
_DEEP, _PLACE = "deep", re.compile(rb"-?\d[\d.eE+-]*")


@dataclass(frozen=True)
class Parts:
    """A file taken apart. named: the parts by name; join: puts such parts together again."""

    named: tuple[tuple[str, bytes], ...]
    join: Callable[[Sequence[tuple[str, bytes]]], bytes]


def mutated(seeds: Sequence[bytes], random: Random, only: str = "") -> bytes:
    """A damaged copy of one of the seeds. only: change no members of the outermost zip but those this pattern finds."""
    data = random.choice(seeds)
    for _ in range(random.choice((1, 1, 1, 2, 3, 6))):
        data = _changed(data, seeds, random, only)
    return data[:MOST]


def _changed(data: bytes, seeds: Sequence[bytes], random: Random, only: str, depth: int = 0) -> bytes:
    """The data with one change; the deeper inside, the likelier it is a change of plain bytes."""
    if only or random.random() < 0.7:
        parts = _apart(data)
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
            size, order = random.choice((1, 2, 4, 8)), random.choice(("little", "big"))
            number = random.choice(NUMBERS) % 2 ** (8 * size)
            return data[:at] + number.to_bytes(size, "little" if order == "little" else "big") + data[at + size :]
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
        inside[key] = value  # type: ignore[index,call-overload]


def _apart(data: bytes) -> Parts | None:
    """The parts of a file of a known kind; None of any other, and of one too damaged to be taken apart."""
    try:
        if data[:4] == b"PK\3\4":
            return _zip(data)
        if data[:8] == b"\x89PNG\r\n\x1a\n":
            return _png(data)
        if data[:6] == b"\x93NUMPY":
            return _headed(data, 10, lambda size: data[:8] + size.to_bytes(2, "little"), int.from_bytes(data[8:10], "little"))
        if data[8:9] == b"{":
            return _headed(data, 8, lambda size: size.to_bytes(8, "little"), int.from_bytes(data[:8], "little"))
        return _message(data)
    except Exception:  # parsers of damaged files raise anything
        return None


def _zip(data: bytes) -> Parts:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        kinds = {member.filename: member.compress_type for member in archive.infolist()}
        named = tuple((member.filename, archive.read(member)) for member in archive.infolist())

    def join(parts: Sequence[tuple[str, bytes]]) -> bytes:
        made = io.BytesIO()
        parts = list(parts)
        names = [name for name, _ in named]
        # a folder's hashes are right again, unless its manifest itself was what changed
        if MANIFEST in names and dict(parts).get(MANIFEST) == dict(named)[MANIFEST]:
            manifest = manifest_of({name: content for name, content in parts if name != MANIFEST})
            parts = [(name, manifest if name == MANIFEST else content) for name, content in parts]
        with zipfile.ZipFile(made, "w") as archive:
            for name, content in parts:
                member = zipfile.ZipInfo(name)
                member.compress_type = kinds.get(name, zipfile.ZIP_STORED)
                archive.writestr(member, content)
        return made.getvalue()

    return Parts(named, join)


def _png(data: bytes) -> Parts:
    at, named = 8, []
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4])
        named.append((data[at + 4 : at + 8].decode("latin-1"), data[at + 8 : at + 8 + size]))
        at += 12 + size

    def join(parts: Sequence[tuple[str, bytes]]) -> bytes:
        chunks = [(name.encode("latin-1", "replace")[:4].ljust(4), content) for name, content in parts]
        return data[:8] + b"".join(
            len(content).to_bytes(4) + name + content + zlib.crc32(name + content).to_bytes(4)
            for name, content in chunks
        )

    return Parts(tuple(named), join)


def _headed(data: bytes, start: int, head: Callable[[int], bytes], size: int) -> Parts:
    """A header of a stated length, then the rest."""
    if size > len(data):
        raise ValueError
    named = (("header", data[start : start + size]), ("rest", data[start + size :]))

    def join(parts: Sequence[tuple[str, bytes]]) -> bytes:
        contents = [content for _, content in parts]
        return head(min(len(contents[0]), 65535)) + b"".join(contents) if contents else b""

    return Parts(named, join)


def _message(data: bytes) -> Parts:
    """The fields of a protocol buffer: a whole number's as its bytes."""
    at, named = 0, []
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            begin = at
            _, at = _varint(data, at)
        elif kind == 2:
            size, begin = _varint(data, at)
            at = begin + size
        elif kind in (1, 5):
            begin, at = at, at + (8 if kind == 1 else 4)
        else:
            raise ValueError
        if at > len(data) or key < 8 or key >> 3 > 200:
            raise ValueError
        named.append((str(key), data[begin:at]))
    if len(named) < 2:
        raise ValueError

    def join(parts: Sequence[tuple[str, bytes]]) -> bytes:
        made = bytearray()
        for name, content in parts:
            key = int(name) if re.fullmatch("[0-9]{1,9}", name) else 10
            made += _as_varint(key)
            if key & 7 == 2:
                made += _as_varint(len(content))
            made += content
        return bytes(made)

    return Parts(tuple(named), join)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[at]
        number |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return number, at
        if shift > 63:
            raise ValueError


def _as_varint(number: int) -> bytes:
    made = bytearray()
    while number > 127:
        made.append(number & 127 | 128)
        number >>= 7
    return bytes((*made, number))
