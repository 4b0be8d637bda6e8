"""Files of known kinds, taken apart and put together again with their lengths, checksums and hashes right."""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fewshot_sdk.storage.files import MANIFEST, manifest_of


@dataclass(frozen=True)
class Parts:
    """A file taken apart. named: the parts by name; join: puts such parts together again."""

    named: tuple[tuple[str, bytes], ...]
    join: Callable[[Sequence[tuple[str, bytes]]], bytes]


def apart(data: bytes) -> Parts | None:
    """The parts of a file of a known kind; None of any other, and of one too damaged to be taken apart."""
    try:
        if data[:4] == b"PK\3\4":
            return _zip(data)
        if data[:8] == b"\x89PNG\r\n\x1a\n":
            return _png(data)
        if data[:6] == b"\x93NUMPY":
            return _headed(
                data, 10, lambda size: data[:8] + size.to_bytes(2, "little"), int.from_bytes(data[8:10], "little")
            )
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
