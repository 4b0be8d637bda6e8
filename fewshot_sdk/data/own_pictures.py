"""All pictures of one's own classes, decoded once into the cache, with what the doctor says of them."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TypeAlias

from fewshot_sdk.config.recipe import Preprocessing
from fewshot_sdk.data.class_images import CLASSES, DAMAGED, IMAGES, ClassImages, read_cached
from fewshot_sdk.data.own_findings import Complaints, Examiner
from fewshot_sdk.engine.processors import cores
from fewshot_sdk.errors import DataError, ImageError, SaveError, SupportError, first_few, listed
from fewshot_sdk.images.decoding import decode
from fewshot_sdk.images.preprocessing import Pixels, resize
from fewshot_sdk.images.sources import SourceFile, open_source
from fewshot_sdk.images.support import Watch
from fewshot_sdk.images.thumbnails import is_blank, thumbnail
from fewshot_sdk.storage.caches import cache_folder
from fewshot_sdk.storage.drafts import sync_folder, write_durably
from fewshot_sdk.storage.files import MANIFEST, beside, sha256

Guard: TypeAlias = AbstractContextManager[object]  # a lock for a zip, whose members are read by one thread at a time

MAX_PICTURES = 2_000_000
FINDINGS = "findings.txt"
_CONTENTS = "contents.json"
_LAYOUT = 2  # increase when what is cached for the same files and settings changes
_AHEAD = 16  # files read ahead for each core


@dataclass(frozen=True, kw_only=True, eq=False)
class OwnPictures:
    """The pictures of a source by class, as read by `read_own`.

    classes: all classes, sorted by name. parts: the part of each class, or "" where the source has none. hashes: the
    SHA-256 of each class's readable files, in order. listing: the file in the cache that names every complaint.
    """

    classes: ClassImages
    parts: Mapping[str, str]
    hashes: Mapping[str, str]
    complaints: Complaints
    listing: Path

    def counts(self) -> dict[str, int]:
        """How many pictures of each class could be read."""
        return {name: len(rows) for name, rows in zip(self.classes.names, self.classes.rows, strict=True)}

    def sha256(self, names: Iterable[str]) -> str:
        """The hash of these classes: of their names and of the contents of their pictures."""
        return sha256("\n".join(f"{self.hashes[name]} {name}" for name in sorted(names)).encode())


@dataclass(frozen=True, kw_only=True, eq=False)
class _Read:
    """A file that was read: the hash of its bytes, its pixels, and whether they are blank; or what is wrong with it."""

    sha256: bytes = b""
    pixels: Pixels | None = None
    blank: bool = False
    wrong: str = ""


def read_own(
    path: str | Path, settings: Preprocessing,
    watch: Watch = lambda files, total: files,  # noqa: ARG005
) -> OwnPictures:  # fmt: skip
    """Every picture of a folder, zip or CSV of classes; each file is decoded once, whichever process asks.

    Files that are not readable pictures are left out and listed. The cached copy is made again if any file of the
    source has another size or time (in a zip: another checksum), or if a byte of the copy has changed.
    watch: wraps the iterator over the files; also given their number, to show progress.
    Raises SupportError as `open_source` does, for a class in several parts, and if no file can be read; SaveError if
    the cache cannot be written.
    """
    with open_source(path, limit=MAX_PICTURES, parted=True) as files:
        parts = _parts(Path(path), files)
        source = _described(Path(path), files, settings)
        folder = cache_folder() / f"own-{sha256(source.encode())[:32]}"
        with suppress(*DAMAGED):
            return _read(folder, source, parts)
        refusal = None
        try:
            is_zip = Path(path).is_file() and Path(path).suffix.lower() != ".csv"
            _write(folder, files, settings, watch, Lock() if is_zip else nullcontext())
        except SaveError as error:  # which does not matter if another process has written them meanwhile
            refusal = error
    try:
        return _read(folder, source, parts)
    except DAMAGED as error:
        if refusal:
            raise SaveError(f"{refusal}; FEWSHOT_CACHE names another cache folder") from None
        raise DataError(f"{folder} was just written, but reads back damaged ({error}); check the disk") from None


def _parts(path: Path, files: Sequence[SourceFile]) -> dict[str, str]:
    """The part of each class, or "". Raises SupportError, naming them, for classes in several parts."""
    found: dict[str, list[str]] = {}
    for name, part in sorted({(file.label, file.part) for file in files}):
        found.setdefault(name, []).append(part)
    if several := [name for name, parts in found.items() if len(parts) > 1]:
        raise SupportError(
            f"{path}: {listed(several)} {'are' if len(several) > 1 else 'is'} in more than one part "
            f"({' and '.join(found[several[0]])}); a class belongs to one part, since tasks for testing are of classes "
            "not trained on: put all pictures of a class together"
        )
    return {name: parts[0] for name, parts in found.items()}


def _described(path: Path, files: Sequence[SourceFile], settings: Preprocessing) -> str:
    """What the pixels are made from; it changes when a file does, and does not when the source is moved."""
    listing, above = hashlib.sha256(), str(path.parent if path.suffix.lower() == ".csv" else path)
    for file in files:
        line = json.dumps((file.label, file.part, file.name.removeprefix(above), file.mark()))
        listing.update(f"{line}\n".encode())
    return f"own layout {_LAYOUT}, {listing.hexdigest()}, {settings.model_dump_json()}"


def _read(folder: Path, source: str, parts: dict[str, str]) -> OwnPictures:
    classes, texts = read_cached(folder, source)
    contents = json.loads(texts[_CONTENTS])
    return OwnPictures(
        classes=classes,
        parts=parts,
        hashes=contents["hashes"],
        complaints=Complaints.of(contents["complaints"]),
        listing=folder / FINDINGS,
    )


def _write(folder: Path, files: Sequence[SourceFile], settings: Preprocessing, watch: Watch, reading: Guard) -> None:
    """Decode the files into a new cache folder, picture by picture, so that memory does not grow with their number."""
    counts = dict.fromkeys((file.label for file in files), 0)
    hashes = {label: hashlib.sha256() for label in counts}
    examiner = Examiner()
    with beside(folder) as draft:
        made = draft / "made"
        made.mkdir(mode=0o700)
        with (made / IMAGES).open("xb") as array:
            array.write(_header(len(files), settings))
            for file, read in _decoded(watch(iter(files), len(files)), settings, reading):
                examiner.hear(file, read.sha256, read.blank, read.wrong)
                if read.pixels is not None:
                    array.write(read.pixels.tobytes())
                    counts[file.label] += 1
                    hashes[file.label].update(read.sha256)
            if not any(counts.values()):
                raise SupportError(first_few(list(examiner.complaints.unreadable.values()), "files"))
            array.seek(0)
            array.write(_header(sum(counts.values()), settings))
            array.flush()
            os.fsync(array.fileno())
        complaints = examiner.complaints
        contents = {
            "hashes": {label: found.hexdigest() for label, found in hashes.items()},
            "complaints": complaints.as_json(),
        }
        texts = {
            CLASSES: json.dumps(counts).encode(),
            _CONTENTS: json.dumps(contents).encode(),
            FINDINGS: "\n".join(complaints.lines()).encode("utf-8", "backslashreplace"),
        }
        entries = {name: {"sha256": sha256(text), "size": len(text)} for name, text in texts.items()}
        with (made / IMAGES).open("rb") as array:
            digest = hashlib.file_digest(array, "sha256").hexdigest()
        entries[IMAGES] = {"sha256": digest, "size": (made / IMAGES).stat().st_size}
        for name, text in {**texts, MANIFEST: json.dumps({"files": entries}).encode()}.items():
            write_durably(made / name, text)
        sync_folder(made)
        if folder.exists():  # damaged
            folder.rename(draft / "damaged")
        made.rename(folder)


def _header(n: int, settings: Preprocessing) -> bytes:
    """The head of a .npy file of n pictures, of 128 bytes whatever n is, so that it can be written again."""
    shape = (n, settings.height, settings.width, settings.channels)
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def _decoded(
    files: Iterable[SourceFile], settings: Preprocessing, reading: Guard
) -> Iterator[tuple[SourceFile, _Read]]:
    """The files, read by one thread per core, in their order. reading: held while a file's bytes are read."""
    pool = ThreadPoolExecutor(cores())
    ahead: deque[tuple[SourceFile, Future[_Read]]] = deque()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # `decode` does the same, which is no use to threads that do it in turns
            for file in files:
                ahead.append((file, pool.submit(_decode, file, settings, reading)))
                if len(ahead) > _AHEAD * cores():
                    done, read = ahead.popleft()
                    yield done, read.result()
            while ahead:
                done, read = ahead.popleft()
                yield done, read.result()
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C nothing new begins


def _decode(file: SourceFile, settings: Preprocessing, reading: Guard) -> _Read:
    try:
        with reading:
            data = file.read()
        image = decode(data, file.name)
    except ImageError as error:
        return _Read(wrong=str(error))
    return _Read(sha256=hashlib.sha256(data).digest(), pixels=resize(image, settings), blank=is_blank(thumbnail(image)))
