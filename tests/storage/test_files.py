from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fewshot_sdk.errors import BundleError, OutputExists, SaveError
from fewshot_sdk.storage import files

CONTENTS = {"config.json": b"{}\n", "model.safetensors": b"\x00" * 100}


def listing(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_folder_reads_back_as_it_was_written(tmp_path: Path) -> None:
    folder = files.write_folder(tmp_path / "deep" / "new", CONTENTS)
    assert files.read_folder(folder) == CONTENTS
    assert listing(folder) == ["config.json", "manifest.json", "model.safetensors"]
    assert listing(folder.parent) == ["new"]
    assert folder.stat().st_mode & 0o777 == 0o755


def test_an_empty_folder_may_be_filled(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert files.read_folder(files.write_folder(tmp_path / "out", CONTENTS)) == CONTENTS


def test_the_folder_one_is_in_may_be_filled_and_stays_the_same_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / ".fewshot-draft-windows-left").mkdir()  # by a dead process of another machine
    before = here.stat().st_ino
    monkeypatch.chdir(here)
    files.write_folder(Path(), CONTENTS)
    assert here.stat().st_ino == before
    assert files.read_folder(here) == CONTENTS


def test_a_link_to_an_empty_folder_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    files.write_folder(tmp_path / "link", CONTENTS)
    assert (tmp_path / "link").is_symlink()
    assert files.read_folder(tmp_path / "real") == CONTENTS


def test_a_mount_point_may_be_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = tmp_path / "volume"
    (volume / "lost+found").mkdir(parents=True)
    monkeypatch.setattr(Path, "is_mount", lambda self: self == volume)
    files.write_folder(volume, CONTENTS)
    assert files.read_folder(volume) == CONTENTS


def test_what_moved_into_a_mount_point_before_the_disk_refused_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if target.name == "manifest.json":
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(SaveError, match="no space left"):
        files.write_folder(Path(), CONTENTS)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"mine")
    with pytest.raises(OutputExists, match="already holds something"):
        files.write_folder(tmp_path, CONTENTS)
    assert listing(tmp_path) == ["photo.jpg"]


def test_a_file_in_the_way_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.write_bytes(b"mine")
    with pytest.raises(OutputExists, match="exists already"):
        files.write_folder(target, CONTENTS)
    with pytest.raises(OutputExists, match="exists already"):
        files.write_file(target, b"new")
    assert target.read_bytes() == b"mine"


@pytest.mark.parametrize("call", ["fsync", "mkdir", "rename"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS])
def test_whatever_the_disk_refuses_nothing_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    def refuse(*_args: object, **_settings: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(SaveError, match=f"could not write .*out: {os.strerror(code).lower()}; nothing was left"):
        files.write_folder(tmp_path / "out", CONTENTS)
    monkeypatch.undo()
    assert listing(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are POSIX")
def test_a_real_write_that_the_kernel_refuses_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    """The kernel itself stops the write after 50,000 bytes, as a full disk would."""
    program = f"""
import resource, signal
from pathlib import Path
from fewshot_sdk.errors import SaveError
from fewshot_sdk.storage.files import write_folder
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    write_folder(Path({str(tmp_path / "out")!r}), {{"a": b"1", "model.safetensors": bytes(200_000)}})
except SaveError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "file too large; nothing was left behind" in done.stdout
    assert listing(tmp_path) == []


def test_any_changed_byte_is_refused_by_name(tmp_path: Path) -> None:
    folder = files.write_folder(tmp_path / "out", CONTENTS)
    for name in CONTENTS:
        good = (folder / name).read_bytes()
        for position in range(len(good)):
            bad = bytearray(good)
            bad[position] ^= 1
            (folder / name).write_bytes(bad)
            with pytest.raises(BundleError, match=f"{name} was changed or damaged"):
                files.read_folder(folder)
        (folder / name).write_bytes(good)


def test_files_may_lie_in_folders(tmp_path: Path) -> None:
    contents = {**CONTENTS, "samples/a.txt": b"a", "samples/deeper/b.txt": b"b"}
    assert files.read_folder(files.write_folder(tmp_path / "out", contents)) == contents


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    folder = files.write_folder(tmp_path / "out", CONTENTS)
    (folder / "config.json").unlink()
    with pytest.raises(BundleError, match=r"config\.json: no such file"):
        files.read_folder(folder)


@pytest.mark.parametrize(
    "name",
    [
        "../secret", "/etc/passwd", "a/../../b", "a//b", "a/", "..", "", "C:evil", "a\\b", "a\0", "a\nb", "\ud800",
        "a" * 300, "a/" * 600 + "b",
    ],
)  # fmt: skip
def test_a_manifest_cannot_reach_outside_its_folder(tmp_path: Path, name: str) -> None:
    folder = files.write_folder(tmp_path / "out", CONTENTS)
    manifest = {"files": {name: {"sha256": "0" * 64, "size": 1}}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="not a plain file name"):
        files.read_folder(folder)


NO_HASH = json.dumps({"files": {"config.json": {"sha256": "\n" * 64, "size": 1}}})


@pytest.mark.parametrize("text", ["", "[]", "{", '{"files": 1}', '{"files": {"a": 1}}', "[" * 100_000, "\xff", NO_HASH])
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    folder = files.write_folder(tmp_path / "out", CONTENTS)
    (folder / "manifest.json").write_text(text, encoding="latin-1")
    with pytest.raises(BundleError, match=r"manifest\.json is not a manifest"):
        files.read_folder(folder)


def test_a_file_past_the_limit_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"123456")
    assert files.read_bounded(tmp_path / "big", 6) == b"123456"
    with pytest.raises(BundleError, match=r"larger than .* MiB"):
        files.read_bounded(tmp_path / "big", 5)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such pipes")
def test_a_pipe_in_a_folder_is_refused_by_name_and_not_waited_for(tmp_path: Path) -> None:
    folder = files.write_folder(tmp_path / "folder", {"a": b"1", "b": b"2"})
    (folder / "b").unlink()
    os.mkfifo(folder / "b")
    with pytest.raises(BundleError, match="b is a pipe or a device, not a file"):
        files.read_folder(folder)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_a_folder_has_the_permissions_that_the_umask_leaves(mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        files.write_folder(tmp_path / "one", {"a": b"", "b/c": b""})
        files.write_files(tmp_path / "two", {"a": b""}.items())
    finally:
        os.umask(before)
    for folder in (tmp_path / "one", tmp_path / "one" / "b", tmp_path / "two"):
        assert folder.stat().st_mode & 0o777 == 0o777 & ~mask
        assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []
