"""Zips for the tests of the studio, good and hostile, and what the library says of each: `studio_zips.py FOLDER`.

Prints, for each file's name, the classes with their numbers of pictures, or the message that refuses it.
"""

from __future__ import annotations

import io
import json
import struct
import sys
import zipfile
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from fewshot_sdk.errors import SupportError
from fewshot_sdk.images.sources import open_source


def picture(seed: int) -> bytes:
    """A small PNG of noise."""
    data = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 40, 3), np.uint8)).save(data, "PNG")
    return data.getvalue()


PICTURES = [picture(seed) for seed in range(4)]
GOOD = ("a/1.png", "a/2.png", "b/1.png", "b/2.png")


def zipped(*names: str, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip of pictures with these names."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", method) as archive:
        for i, name in enumerate(names):
            archive.writestr(name, PICTURES[i % len(PICTURES)])
    return data.getvalue()


def bomb() -> bytes:
    """Zeros that unpack to 200 MiB."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("a/1.png", "b/1.png"):
            archive.writestr(name, bytes(100 * 2**20))
    return data.getvalue()


def patched(data: bytes, offset: int, value: int, kind: str = "<H") -> bytes:
    """The zip with a number in each of the directory's entries replaced."""
    found, at = bytearray(data), data.find(b"PK\1\2")
    while at >= 0:
        struct.pack_into(kind, found, at + offset, value)
        at = data.find(b"PK\1\2", at + 4)
    return bytes(found)


def unflagged(name: str) -> bytes:
    """A name in UTF-8 without the flag that says so, as Linux's zip writes it."""
    plain = zipped(*(each.replace("a/", "@@/") for each in GOOD))
    return plain.replace(b"@@/", name.encode() + b"/")


ZIPS: dict[str, bytes] = {
    "deflated.zip": zipped(*GOOD),
    "stored.zip": zipped(*GOOD, method=zipfile.ZIP_STORED),
    "around.zip": zipped(*(f"all/{name}" for name in GOOD), "__MACOSX/all/a/._1.png", "all/.DS_Store", "all/Thumbs.db"),
    "deep.zip": zipped("a/x/1.png", "a/y/1.png", "b/1.png", "b\\2.png"),
    "utf8.zip": zipped(*(f"ü{name}" for name in GOOD)),
    "unflagged.zip": unflagged("ü"),
    "leads-out.zip": zipped(*GOOD, "../evil.png"),
    "leads-out-2.zip": zipped(*GOOD, "a\\..\\..\\evil.png"),
    "absolute.zip": zipped(*GOOD, "/etc/x.png"),
    "drive.zip": zipped(*GOOD, "C:/x.png"),
    "loose.zip": zipped(*GOOD, "3.png"),
    "empty.zip": zipped(),
    "bomb.zip": bomb(),
    "encrypted.zip": patched(zipped(*GOOD), 8, 1),
}
DAMAGED: dict[str, bytes] = {
    "no.zip": b"this is no zip" * 100,
    "cut.zip": zipped(*GOOD)[:-40],
    "checksum.zip": patched(zipped(*GOOD), 16, zlib.crc32(b"other"), "<I"),
}


def main(folder: Path) -> None:
    """Write the zips, and print what the library makes of them."""
    told: dict[str, object] = {}
    for name, data in {**ZIPS, **DAMAGED}.items():
        (folder / name).write_bytes(data)
        try:
            with open_source(folder / name) as files:
                told[name] = sorted(Counter(file.label for file in files).items())
        except SupportError as error:
            told[name] = str(error).replace(f"{folder}/", "")
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
