from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from fewshot_sdk.errors import BundleError, SaveError
from fewshot_sdk.storage import drafts, sorting, undoing
from fewshot_sdk.storage.sorting import Misplaced, folder_names, sorter
from fewshot_sdk.storage.undoing import undo

HOSTILE = [
    "..", ".", "", "a/b", "a:b", "a\\b", "../../etc", ".hidden", "trailing.", "CON", "con.txt", "nul", "Lpt1", "?*",
    " space ", "x" * 300, "é" * 300, "🐈", "Cat", "cat", "CAT", "unknown", "Unknown", "a\nb", "a\u202eb", "\udcff",
]  # fmt: skip


def test_any_label_gets_a_folder_of_its_own_that_every_system_can_hold(tmp_path: Path) -> None:
    names = folder_names(HOSTILE)
    assert len({name.casefold() for name in names.values()}) == len(names) == len(HOSTILE)
    for name in names.values():
        (tmp_path / name).mkdir()
        assert (tmp_path / name).parent == tmp_path
        assert not set('/\\:*?"<>|\n\u202e') & set(name)
        assert not name.startswith((".", " "))
        assert not name.endswith((".", " "))
        assert len(name.encode()) <= 130
        assert name.partition(".")[0].casefold() not in {"con", "nul", "lpt1"}
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names.values())


def test_plain_labels_are_the_folders_names() -> None:
    assert folder_names(["cat", "🐈", "été"]) == {"unknown": "unknown", "cat": "cat", "🐈": "🐈", "été": "été"}


def test_a_class_called_unknown_shares_the_folder_of_what_is_unknown() -> None:
    assert folder_names(["unknown"])["unknown"] == "unknown"
    assert folder_names(["Unknown"])["Unknown"] == "Unknown (2)"


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Three files of one name, in three folders."""
    files = [tmp_path / "from" / which / "a.tar.jpg" for which in "xyz"]
    for file in files:
        file.parent.mkdir(parents=True)
        file.write_text(file.parent.name)
    return files


def contents(folder: Path) -> dict[str, str]:
    return {
        file.relative_to(folder).as_posix(): file.read_text()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.suffix != ".jsonl"
    }


SORTED = {"cat/a.tar (2).jpg": "y", "cat/a.tar (3).jpg": "z", "cat/a.tar.jpg": "x"}


def sort(files: list[Path], into: Path, *, move: bool, label: str = "cat") -> None:
    with sorter(into, ["cat"], move=move) as sort:
        for file in files:
            sort.place(file, label)


@pytest.mark.parametrize("move", [True, False])
def test_files_of_one_name_get_numbers(move: bool, photos: list[Path], tmp_path: Path) -> None:
    sort(photos, tmp_path / "to", move=move)
    assert contents(tmp_path / "to") == SORTED
    assert [file.exists() for file in photos] == [not move] * 3


@pytest.mark.parametrize("move", [True, False])
def test_what_is_there_is_not_overwritten(move: bool, photos: list[Path], tmp_path: Path) -> None:
    (tmp_path / "to" / "cat").mkdir(parents=True)
    (tmp_path / "to" / "cat" / "a.tar.jpg").write_text("mine")
    sort(photos[:1], tmp_path / "to", move=move)
    assert contents(tmp_path / "to") == {"cat/a.tar (2).jpg": "x", "cat/a.tar.jpg": "mine"}


def test_a_name_taken_at_the_last_moment_is_not_overwritten(
    photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "to" / "cat").mkdir(parents=True)
    (tmp_path / "to" / "cat" / "a.tar.jpg").write_text("mine")
    with monkeypatch.context() as patch:
        patch.setattr(os.path, "lexists", lambda _: False)
        sort(photos[:1], tmp_path / "to", move=True)
    assert contents(tmp_path / "to") == {"cat/a.tar (2).jpg": "x", "cat/a.tar.jpg": "mine"}
    (file,) = (tmp_path / "to").glob("*.jsonl")
    assert undo(file).back == 1
    assert contents(tmp_path) == {"from/x/a.tar.jpg": "x", "from/y/a.tar.jpg": "y", "from/z/a.tar.jpg": "z",
                                  "to/cat/a.tar.jpg": "mine"}  # fmt: skip


@pytest.mark.parametrize("call", ["none", "no links"])
def test_systems_without_the_call_do_not_overwrite_either(
    call: str, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EPERM, "not permitted")

    monkeypatch.setattr(drafts, "_renameat2", lambda *_: errno.ENOSYS)
    if call == "no links":
        monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(os.path, "lexists", lambda _: False)
    sort(photos, tmp_path / "to", move=True)
    assert contents(tmp_path / "to") == SORTED


def test_undo_puts_everything_back_and_leaves_nothing(photos: list[Path], tmp_path: Path) -> None:
    before = contents(tmp_path)
    sort(photos, tmp_path / "to", move=True)
    (file,) = (tmp_path / "to").glob("undo-*.jsonl")
    assert undo(file) == undoing.Undone(back=3, left=())
    assert contents(tmp_path) == before
    assert not (tmp_path / "to").exists()


def test_a_folder_that_was_moved_as_a_whole_is_undone_from_where_it_is(photos: list[Path], tmp_path: Path) -> None:
    sort(photos, tmp_path / "to", move=True)
    (tmp_path / "to").rename(tmp_path / "elsewhere")
    (file,) = (tmp_path / "elsewhere").glob("undo-*.jsonl")
    assert undo(file).back == 3


def test_undo_tells_what_is_gone_changed_or_in_the_way_and_overwrites_nothing(
    photos: list[Path], tmp_path: Path
) -> None:
    sort(photos, tmp_path / "to", move=True)
    (tmp_path / "to" / "cat" / "a.tar.jpg").unlink()
    (tmp_path / "to" / "cat" / "a.tar (2).jpg").write_text("changed")
    photos[2].write_text("new")
    (file,) = (tmp_path / "to").glob("undo-*.jsonl")
    done = undo(file)
    assert done.back == 0
    text = "\n".join(done.left)
    assert "it is gone" in text
    assert "was changed since it was moved" in text
    assert "something is there already" in text
    assert photos[2].read_text() == "new"
    assert contents(tmp_path / "to") == {"cat/a.tar (2).jpg": "changed", "cat/a.tar (3).jpg": "z"}
    photos[2].unlink()
    assert undo(file).back == 1  # the file is kept for another try


def test_a_line_is_on_the_disk_before_its_move(
    photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def rename(source: Path, target: Path) -> None:
        (file,) = (tmp_path / "to").glob("undo-*.jsonl")
        seen.append(
            json.loads(file.read_text().splitlines()[-1])["to"] == target.relative_to(tmp_path / "to").as_posix()
        )
        drafts.rename_new(source, target)

    monkeypatch.setattr(sorting, "rename_new", rename)
    sort(photos, tmp_path / "to", move=True)
    assert seen == [True] * 3


@pytest.mark.parametrize("cut", ["before the move", "in the line"])
def test_a_crash_leaves_a_file_that_undoes_exactly_what_was_moved(
    cut: str, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(tmp_path)

    def rename(source: Path, target: Path) -> None:
        if source == photos[2]:
            raise KeyboardInterrupt
        drafts.rename_new(source, target)

    monkeypatch.setattr(sorting, "rename_new", rename)
    with pytest.raises(KeyboardInterrupt):
        sort(photos, tmp_path / "to", move=True)
    (file,) = (tmp_path / "to").glob("undo-*.jsonl")
    if cut == "in the line":
        file.write_bytes(file.read_bytes()[:-9])
    assert undo(file) == undoing.Undone(back=2, left=())
    assert contents(tmp_path) == before


def other_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Everything below `to` seems to be on another disk."""
    real = Path.stat

    def stat(path: Path, **settings: Any) -> os.stat_result:
        found = real(path, **settings)
        fields = list(found)
        fields[2] += str(path).startswith(str(tmp_path / "to"))
        return os.stat_result(fields, {"st_mtime_ns": found.st_mtime_ns})

    monkeypatch.setattr(Path, "stat", stat)


def test_across_disks_a_file_is_copied_and_removed_and_can_be_put_back(
    photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, time = contents(tmp_path), photos[0].stat().st_mtime_ns
    with monkeypatch.context() as patch:
        other_disk(patch, tmp_path)
        sort(photos, tmp_path / "to", move=True)
    assert contents(tmp_path / "to") == SORTED
    assert (tmp_path / "to" / "cat" / "a.tar.jpg").stat().st_mtime_ns == time
    assert not any(file.exists() for file in photos)
    (file,) = (tmp_path / "to").glob("undo-*.jsonl")
    assert undo(file).back == 3
    assert contents(tmp_path) == before


def test_a_file_that_changes_while_it_is_copied_to_another_disk_stays(
    photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rename(source: Path, target: Path) -> None:
        photos[0].write_text("newer")
        drafts.rename_new(source, target)

    other_disk(monkeypatch, tmp_path)
    monkeypatch.setattr(sorting, "rename_new", rename)
    with pytest.raises(Misplaced, match="was changed while it was moved"):
        sort(photos[:1], tmp_path / "to", move=True)
    assert photos[0].read_text() == "newer"


def test_what_cannot_be_removed_from_another_disk_is_not_there_twice(
    photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.unlink

    def unlink(path: Path, missing_ok: bool = False) -> None:
        if path == photos[0]:
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        real(path, missing_ok)

    before = contents(tmp_path)
    other_disk(monkeypatch, tmp_path)
    monkeypatch.setattr(Path, "unlink", unlink)
    with pytest.raises(SaveError, match=r"a\.tar\.jpg: read-only file system, so it cannot be moved; copy it"):
        sort(photos, tmp_path / "to", move=True)
    assert contents(tmp_path) == before


def test_undo_finishes_a_move_to_another_disk_that_was_killed_before_the_removal(
    photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def unlink(path: Path, missing_ok: bool = False) -> None:
        raise Killed

    before = contents(tmp_path)
    with monkeypatch.context() as patch:
        other_disk(patch, tmp_path)
        patch.setattr(sorting.Sorter, "_copied", lambda _, source: Path(shutil.copy2(source, tmp_path / "to" / "copy")))
        patch.setattr(Path, "unlink", unlink)
        with pytest.raises(Killed):
            sort(photos, tmp_path / "to", move=True)
    assert contents(tmp_path) == {**before, "to/cat/a.tar.jpg": "x"}
    (file,) = (tmp_path / "to").glob("undo-*.jsonl")
    assert undo(file) == undoing.Undone(back=1, left=())
    assert contents(tmp_path) == before


def test_undo_never_removes_a_picture_that_is_there_once(photos: list[Path], tmp_path: Path) -> None:
    sort(photos[:1], tmp_path / "to", move=True)
    photos[0].parent.rmdir()
    photos[0].parent.symlink_to(tmp_path / "to" / "cat")
    (file,) = (tmp_path / "to").glob("undo-*.jsonl")
    undo(file)
    assert photos[0].read_text() == "x"


def test_undo_removes_what_a_killed_process_left(photos: list[Path], tmp_path: Path) -> None:
    sort(photos, tmp_path / "to", move=True)
    (tmp_path / "to" / f".fewshot-draft-{drafts._machine()}-dead").mkdir()
    (file,) = (tmp_path / "to").glob("undo-*.jsonl")
    undo(file)
    assert not (tmp_path / "to").exists()


def test_a_link_is_not_moved_but_copied_as_what_it_leads_to(photos: list[Path], tmp_path: Path) -> None:
    link = tmp_path / "from" / "link.jpg"
    link.symlink_to("x/a.tar.jpg")
    with pytest.raises(Misplaced, match="is a link; it was left where it is"):
        sort([link], tmp_path / "to", move=True)
    assert not list((tmp_path / "to").rglob("*"))  # no undo file either: nothing was moved
    sort([link], tmp_path / "to", move=False)
    assert contents(tmp_path / "to") == {"cat/link.jpg": "x"}


def test_what_is_in_its_place_stays_there(tmp_path: Path, photos: list[Path]) -> None:
    sort(photos[:1], tmp_path / "to", move=True)
    with sorter(tmp_path / "to", ["cat"], move=True) as again:
        assert again.place(tmp_path / "to" / "cat" / "a.tar.jpg", "cat") is None
    assert contents(tmp_path / "to") == {"cat/a.tar.jpg": "x"}


def test_a_vanished_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(Misplaced, match=r"gone\.jpg: it has vanished meanwhile"):
        sort([tmp_path / "gone.jpg"], tmp_path / "to", move=True)


def test_a_long_name_is_cut_so_that_the_number_fits(tmp_path: Path) -> None:
    files = [tmp_path / which / ("é" * 125 + ".jpg") for which in "xy"]
    for file in files:
        file.parent.mkdir()
        file.touch()
    sort(files, tmp_path / "to", move=True)
    names = sorted(file.name for file in (tmp_path / "to" / "cat").iterdir())
    assert names == ["é" * 123 + " (2).jpg", "é" * 125 + ".jpg"]


def test_a_full_disk_ends_the_work(photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sorting, "rename_new", refuse)
    with pytest.raises(SaveError, match="to: no space left on device; make room or name another folder"):
        sort(photos, tmp_path / "to", move=True)
    assert all(file.exists() for file in photos)


def test_a_file_in_the_place_of_the_folder_is_told(photos: list[Path], tmp_path: Path) -> None:
    (tmp_path / "to").write_text("mine")
    with pytest.raises(SaveError, match="cannot write into"):
        sort(photos, tmp_path / "to", move=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "cat").write_text("mine")
    with pytest.raises(Misplaced, match=r"file exists \(.*cat\); it was left where it is"):
        sort(photos, tmp_path / "other", move=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not an undo file"),
        ('{"format": "other"}\n', "is not an undo file"),
        ("[]\n", "is not an undo file"),
        ("{}\n", "line 2: it was changed or damaged"),
        ('{"from": "/a", "to": "/etc/b", "inode": 1, "size": 1, "mtime_ns": 1}\n', "line 2: it leads out"),
        ('{"from": "/a", "to": "../b", "inode": 1, "size": 1, "mtime_ns": 1}\n', "line 2: it leads out"),
        ('{"from": "a", "to": "b", "inode": 1, "size": 1, "mtime_ns": 1}\n', "line 2: it leads out"),
        ('{"from": "/a", "to": "b", "inode": 1, "size": 1, "mtime_ns": 1}\n', "line 2: it leads out"),
        ('{"from": "/a", "to": "b/c", "inode": Infinity, "size": 1, "mtime_ns": 1}\n', "line 2: it was changed"),
        ('{"from": "/\\ud800", "to": "b/c", "inode": 1, "size": 1, "mtime_ns": 1}\n', "line 2: it was changed"),
        (
            '{"from": "/a", "to": "b/c", "inode": 1, "size": 1, "mtime_ns": 1}\n'
            '{"from": "/a", "to": "b/d", "inode": 2, "size": 1, "mtime_ns": 1}\n',
            "line 3: it leads out",
        ),
    ],
)
def test_what_is_no_undo_file_moves_nothing(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "undo.jsonl"
    head = "" if "not an undo" in message else json.dumps({"format": undoing.FORMAT}) + "\n"
    file.write_text(head + text)
    with pytest.raises(BundleError, match=message):
        undo(file)
