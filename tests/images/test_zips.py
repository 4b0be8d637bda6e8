"""Names of zip members, as different programs write them."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path

import pytest

from fewshot_sdk.errors import SupportError
from fewshot_sdk.images.zips import name_of, open_zip

NAME = "Ünï/猫.png"


class WithoutFlag(zipfile.ZipInfo):
    """A member whose name is written as these bytes, with no flag that says which code they are in."""

    raw: bytes

    def _encodeFilenameFlags(self) -> tuple[bytes, int]:
        return self.raw, 0


def member(path: Path, raw: bytes, extra: bytes = b"") -> zipfile.ZipInfo:
    info = WithoutFlag("x")
    info.raw, info.extra = raw, extra
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(info, b"data")
    with open_zip(path, "") as archive:
        (found,) = archive.infolist()
        assert archive.read(found) == b"data"
        return found


def unicode_path(raw: bytes, name: str) -> bytes:
    field = b"\x01" + struct.pack("<I", zlib.crc32(raw)) + name.encode()
    return struct.pack("<HH", 0x7075, len(field)) + field


def test_a_name_in_utf8_needs_no_flag(tmp_path: Path) -> None:
    assert name_of(member(tmp_path / "z.zip", NAME.encode())) == NAME


def test_a_flag_is_believed(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr(NAME, b"data")
    with open_zip(tmp_path / "z.zip", "") as archive:
        assert [name_of(each) for each in archive.infolist()] == [NAME]


def test_other_names_are_in_the_code_page_of_the_format(tmp_path: Path) -> None:
    assert name_of(member(tmp_path / "z.zip", b"caf\x82.png")) == "café.png"


def test_info_zips_extra_field_holds_the_name(tmp_path: Path) -> None:
    other = struct.pack("<HH", 0x5455, 1) + b"\x00"
    assert name_of(member(tmp_path / "z.zip", b"?n?.png", other + unicode_path(b"?n?.png", NAME))) == NAME


def test_an_extra_field_of_another_name_is_passed_over(tmp_path: Path) -> None:
    assert name_of(member(tmp_path / "z.zip", b"new.png", unicode_path(b"old.png", NAME))) == "new.png"


def test_an_extra_field_cannot_lead_out(tmp_path: Path) -> None:
    with pytest.raises(SupportError, match="leads out of the zip"):
        member(tmp_path / "z.zip", b"a.png", unicode_path(b"a.png", "../a.png"))
