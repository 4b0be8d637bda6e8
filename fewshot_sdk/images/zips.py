"""Untrusted zips, read member by member; nothing is extracted."""

from __future__ import annotations

import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fewshot_sdk.errors import ImageError, SupportError

MAX_MEMBERS = 100_000
MAX_GROWTH = 100  # drawings in BMP compress by 50; a bomb by 1,000 and, with overlapping members, far more
_SLACK = 64 * 2**20
_MEMBER = 46 + 512  # bytes: a member's fixed part in the directory, and room for its name, extra fields and comment
_LONGEST_END = 2**16 + 22  # bytes: the record at the end, with a comment
_UTF8, _UNICODE_PATH = 0x800, 0x7075  # a flag, and the id of an extra field


@contextmanager
def open_zip(path: Path, otherwise: str, limit: int = MAX_MEMBERS) -> Iterator[zipfile.ZipFile]:
    """An open zip whose members are safe to read one by one.

    Raises SupportError for a file that is not a zip (the message ends in `otherwise`), an encrypted
    member, a path that leads out of the zip, more than `limit` members, or members that together exceed both
    64 MiB and 100 times the zip's size.
    """
    with ExitStack() as stack:
        try:
            archive = stack.enter_context(zip_of(io.FileIO(str(path)), path, limit))
        except (zipfile.BadZipFile, ValueError, NotImplementedError):
            raise SupportError(f"{path}: {otherwise}") from None
        except OSError as error:
            reason = (error.strerror or "unreadable").lower()
            raise SupportError(f"{path}: {reason}; name a zip that can be read") from None
        _check(archive, path, limit)
        yield archive


@contextmanager
def zip_of(raw: io.FileIO | io.BytesIO, path: Path, limit: int) -> Iterator[zipfile.ZipFile]:
    """The zip in a file, which is closed at the end. path: as messages name it.

    Raises SupportError, before its members are listed, if they are far more than `limit`, zipfile's errors if it is no
    zip.
    """
    with _Bounded(raw) as file:
        file.most = max(limit * _MEMBER, _LONGEST_END)
        try:
            archive = zipfile.ZipFile(file)
        except _TooMuch:
            raise SupportError(f"{path}: expected at most {limit:,} members, found far more; split the zip") from None
        file.most = None
        with archive:
            yield archive


class _TooMuch(Exception):
    """More was to be read at once than is allowed."""


class _Bounded(io.BufferedReader):
    """A file whose directory, which zipfile reads at once, may be too large; most: bytes, None for any number.

    The end of a zip states the size in up to three places, and which of them counts depends on the Python.
    """

    most: int | None = None

    def read(self, size: int | None = -1, /) -> bytes:
        """As of any file. Raises _TooMuch for more than `most` bytes."""
        if self.most is not None and size is not None and size > self.most:
            raise _TooMuch
        return super().read(size)


def name_of(member: zipfile.ZipInfo) -> str:
    """A member's name as its maker meant it, as far as the zip tells."""
    return _name(member)[0]


def is_guessed(member: zipfile.ZipInfo) -> bool:
    """Whether the zip does not tell how a member's name is written, so that other letters may have been meant."""
    return _name(member)[1]


def _name(member: zipfile.ZipInfo) -> tuple[str, bool]:
    """A member's name, and whether it is a guess.

    Names in UTF-8 often lack the flag that says so (Linux's zip, macOS), or stand in Info-ZIP's extra field; the rest
    are in code page 437, as the format has it, or in whatever the maker's Windows uses, such as Shift-JIS or GBK.
    Source: APPNOTE.TXT 6.3.10, sections 4.4.4, 4.6.9 and appendix D.
    """
    if member.flag_bits & _UTF8:
        return member.filename, False
    raw = member.orig_filename.encode("cp437", "replace")
    extra = member.extra
    while len(extra) >= 4:
        kind, size = struct.unpack("<HH", extra[:4])
        field, extra = extra[4 : 4 + size], extra[4 + size :]
        if kind == _UNICODE_PATH and field[:1] == b"\1" and field[1:5] == struct.pack("<I", zlib.crc32(raw)):
            raw = field[5:]
    try:
        return raw.decode("utf-8").partition("\0")[0], False  # as zipfile cuts it
    except UnicodeDecodeError:
        return member.filename, True


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, limit: int) -> bytes:
    """A member's bytes. Raises ImageError if it is damaged or larger than `limit` bytes, whatever its header says."""
    name = f"{archive.filename}/{name_of(member)}"
    try:
        with archive.open(member) as file:
            data = file.read(limit + 1)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, RuntimeError) as error:
        reason = str(error) or type(error).__name__  # an unknown compression: NotImplementedError, a RuntimeError
        raise ImageError(f"{name} cannot be read from the zip ({reason}); make the zip again") from None
    if len(data) > limit:
        raise ImageError(f"{name} is larger than {limit / 2**20:.3g} MiB; save a smaller copy")
    return data


def _check(archive: zipfile.ZipFile, path: Path, limit: int) -> None:
    members = archive.infolist()
    if len(members) > limit:
        raise SupportError(f"{path}: expected at most {limit:,} members, found {len(members):,}; split the zip")
    for member in members:
        for name in (member.orig_filename, name_of(member)):
            if name.startswith(("/", "\\")) or name[1:2] == ":" or ".." in name.replace("\\", "/").split("/"):
                raise SupportError(f"{path}: the member {name[:80]!r} leads out of the zip; do not trust this file")
        if member.flag_bits & 1:
            raise SupportError(f"{path}: {name[:80]!r} is encrypted; make a zip without a password, or unpack it")
    total, size = sum(member.file_size for member in members), path.stat().st_size
    if total > max(_SLACK, MAX_GROWTH * size):
        raise SupportError(
            f"{path}: its {size:,} bytes would unpack to {total:,}, which looks like a zip bomb; do not trust this file"
        )
