"""Zips: names as different programs write them, and what is refused."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from fewshot_sdk.config.recipe import Recipe
from fewshot_sdk.errors import SupportError
from fewshot_sdk.images import features
from fewshot_sdk.images.doctor import LOOK, examine
from fewshot_sdk.images.support import read_pictures, read_support
from fewshot_sdk.images.zips import is_guessed, name_of, open_zip
from tests.images.test_sources import listed, zipped

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
    found = member(tmp_path / "z.zip", b"caf\x82.png")
    assert name_of(found) == "café.png"
    assert is_guessed(found)


@pytest.mark.parametrize("raw", [b"cafe.png", NAME.encode()])
def test_a_name_in_ascii_or_utf8_is_no_guess(tmp_path: Path, raw: bytes) -> None:
    assert not is_guessed(member(tmp_path / "z.zip", raw))


def test_a_class_name_whose_code_a_zip_does_not_tell_is_told_once(photos: Path, tmp_path: Path) -> None:
    chinese = tmp_path / "gbk.zip"
    with zipfile.ZipFile(chinese, "w") as archive:
        for file in sorted(photos.rglob("*.jpg")):
            info = WithoutFlag(str(file))
            info.raw = str(file.relative_to(photos)).replace("cup", "杯").encode("gbk")
            archive.writestr(info, file.read_bytes())
    (finding,) = examine(read_pictures(chinese, LOOK))
    assert (finding.severity, finding.code) == ("warning", "odd-name")
    assert finding.message == (
        "the zip does not say how the class name '▒¡' is written; if that is not its name, unpack the zip with the "
        "program that made it, and name the folder"
    )


def test_info_zips_extra_field_holds_the_name(tmp_path: Path) -> None:
    other = struct.pack("<HH", 0x5455, 1) + b"\x00"
    assert name_of(member(tmp_path / "z.zip", b"?n?.png", other + unicode_path(b"?n?.png", NAME))) == NAME


def test_an_extra_field_of_another_name_is_passed_over(tmp_path: Path) -> None:
    assert name_of(member(tmp_path / "z.zip", b"new.png", unicode_path(b"old.png", NAME))) == "new.png"


def test_an_extra_field_cannot_lead_out(tmp_path: Path) -> None:
    with pytest.raises(SupportError, match="leads out of the zip"):
        member(tmp_path / "z.zip", b"a.png", unicode_path(b"a.png", "../a.png"))


def one_member(path: Path, name: str, data: bytes = b"x", method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("ant/1.png", b"x")
        archive.writestr(zipfile.ZipInfo(name), data, method)
    return path


@pytest.mark.parametrize("name", ["../evil.png", "/evil.png", "ant/../../evil.png", "C:\\evil.png", "..\\evil.png"])
def test_a_zip_with_a_name_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SupportError, match="leads out of the zip; do not trust this file"):
        listed(one_member(tmp_path / "z.zip", name))


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    path = one_member(tmp_path / "z.zip", "bee/1.png")
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\x01\x02")
    data[at + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(SupportError, match=r"'bee/1\.png' is encrypted; make a zip without a password"):
        listed(path)


def test_a_zip_bomb_is_refused(tmp_path: Path) -> None:
    path = one_member(tmp_path / "z.zip", "bee/1.bmp", bytes(70_000_000), zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 100_000
    with pytest.raises(SupportError, match="would unpack to 70,000,001, which looks like a zip bomb"):
        listed(path)


def test_a_member_that_lies_about_its_size_is_cut_short(recipe: Recipe, tmp_path: Path) -> None:
    path = one_member(tmp_path / "z.zip", "bee/1.bmp", bytes(70_000_000), zipfile.ZIP_DEFLATED)
    data = bytearray(path.read_bytes())
    for at, offset in ((data.rindex(b"PK\x01\x02"), 24), (data.rindex(b"PK\x03\x04"), 22)):
        data[at + offset : at + offset + 4] = struct.pack("<I", 1000)
    path.write_bytes(data)
    with pytest.raises(SupportError, match=r"bee/1\.bmp"):
        read_support(path, recipe.preprocessing)


def test_a_large_or_damaged_member_of_a_zip_is_named(recipe: Recipe, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).bytes(1_000_000) * 68
    path = one_member(tmp_path / "z.zip", "bee/1.bmp", noise)
    with pytest.raises(SupportError, match=r"z\.zip/bee/1\.bmp is larger than 64 MiB"):
        read_support(path, recipe.preprocessing)
    data = bytearray(one_member(tmp_path / "d.zip", "bee/1.png", b"y" * 100).read_bytes())
    data[data.index(b"yyy") + 5] = 0
    (tmp_path / "d.zip").write_bytes(data)
    with pytest.raises(SupportError, match=r"d\.zip/bee/1\.png cannot be read from the zip \(Bad CRC"):
        read_support(tmp_path / "d.zip", recipe.preprocessing)


def test_members_without_a_name_are_passed_over(drawings: Path) -> None:
    source = zipped(drawings)
    expected = listed(source)
    source.write_bytes(source.read_bytes().replace(b"ant/0.png", b"\0nt/0.png"))
    assert listed(source) == [pair for pair in expected if pair != ("ant", "0.png")]


def test_a_file_that_is_no_zip_is_told(tmp_path: Path) -> None:
    (tmp_path / "z.zip").write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(SupportError, match=r"z\.zip: the file is neither a zip nor a \.csv; expected a folder"):
        listed(tmp_path / "z.zip")


def test_reading_a_zip_writes_nothing(recipe: Recipe, drawings: Path) -> None:
    source = zipped(drawings)
    before = sorted(drawings.parent.rglob("*"))
    read_support(source, recipe.preprocessing)
    assert sorted(drawings.parent.rglob("*")) == before


def many(path: Path, members: int) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(members):
            archive.writestr(f"cat/{i:060}.png", b"")
        archive.comment = b"c" * 60_000


def many_behind_a_small_number(path: Path, members: int) -> None:
    """The end record says that the directory is small, and one in 64 bits, which zipfile prefers, what it is."""
    many(path, members)
    data = path.read_bytes()
    end = data.rindex(b"PK\5\6")
    size, offset = struct.unpack("<LL", data[end + 12 : end + 20])
    wide = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, members, members, size, offset)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, end, 1)
    path.write_bytes(data[:end] + wide + locator + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 2, 2, 100, offset, 0))


@pytest.mark.parametrize("make", [many, many_behind_a_small_number])
@pytest.mark.parametrize("ending", [".zip", ".npz"])
def test_a_zip_of_far_too_many_members_is_refused_before_they_are_listed(
    make: Callable[[Path, int], None], ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"many{ending}"
    make(path, 2400)
    monkeypatch.setattr(features, "_MAX_ARRAYS", 50)
    monkeypatch.setattr(zipfile, "ZipInfo", lambda *_: pytest.fail("a member was listed"))
    reading = open_zip(path, "", 50).__enter__ if ending == ".zip" else partial(features.read_features, path)
    with pytest.raises(SupportError, match="expected at most 50 members, found far more"):
        reading()
