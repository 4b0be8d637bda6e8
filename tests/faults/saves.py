"""Everything that is saved, while the disk refuses one change after another: what stays behind, and what is said.

A program, to be started with the library made of refuse.c in LD_PRELOAD; it prints a line of JSON for each kind of
output: how many changes its save makes, how many were refused in turn, and what went wrong.
Usage: saves.py FOLDER EVERY [KIND...]   EVERY: refuse only every so manieth change
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from fewshot_cli.main import app
from fewshot_sdk import adapt, export_onnx, save
from fewshot_sdk.artifacts.classifier import Delta
from fewshot_sdk.artifacts.initialization import fresh, save_checkpoint
from fewshot_sdk.config.records import Provenance
from fewshot_sdk.data.class_images import cached
from fewshot_sdk.errors import FewshotError
from fewshot_sdk.storage.files import read_folder, write_folder
from fewshot_sdk.storage.hub_client import Session  # noqa: F401  (imported before any refusal)
from fewshot_sdk.storage.replacement import replace_folder
from fewshot_sdk.storage.repositories import address, fetch
from fewshot_sdk.testing.hub import LocalHub
from fewshot_sdk.web.pages import deployment
from tests.conftest import draw_folder, tiny_recipe

LIBRARY = ctypes.CDLL(None)
ERRORS = (errno.ENOSPC, errno.EIO)
OLD = {"config.json": b"old", "model.safetensors": b"old" * 100}


@dataclass(frozen=True)
class Save:
    """One kind of output: how it is saved into a folder, and what is in that folder before.

    good: whether the folder is as it should be after a refusal, where that is not simply as before or as without one.
    """

    act: Callable[[Path], object]
    before: Callable[[Path], object] = lambda folder: None  # noqa: ARG005
    good: Callable[[Path], bool] | None = None


@dataclass
class Result:
    """What the refusals of one kind of output led to."""

    kind: str
    changes: int = 0
    refused: int = 0
    wrong: list[str] = field(default_factory=list)


def contents(folder: Path) -> dict[str, bytes | None]:
    """All that is in a folder: each file's bytes, None for a folder."""
    return {
        str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if not path.name.endswith(".lock") and path.name != ".locks"
    }


def refuse(folder: Path, nth: int, error: int, always: bool) -> None:
    """Let the nth change under the folder fail from now on; always: and all later ones."""
    LIBRARY.refuse_from(os.fsencode(folder), ctypes.c_long(nth), ctypes.c_long(error), ctypes.c_long(always))


def tried(kind: str, wanted: Save, home: Path, every: int) -> Result:
    """Save again and again, each time with another change refused, until none is."""
    result = Result(kind)
    where = home / kind
    _begin(where, wanted)
    before = contents(where)
    wanted.act(where)
    after = contents(where)
    for error in ERRORS:
        for always in (False, True):
            nth = 1
            while True:
                _begin(where, wanted)
                refuse(where, nth, error, always)
                try:
                    said: str | None = None
                    wanted.act(where)
                except FewshotError as failure:
                    said = str(failure)
                except BaseException as failure:
                    said = f"{type(failure).__name__}: {failure}"
                    result.wrong.append(f"change {nth}, {os.strerror(error)}: {said}")
                changes = LIBRARY.changes()
                refuse(where, 0, 0, False)
                if changes < nth:
                    result.changes = max(result.changes, changes)
                    break
                result.refused += 1
                if wanted.good is not None:
                    if not wanted.good(where):
                        result.wrong.append(f"change {nth}, {os.strerror(error)}: wrong afterwards; said {said}")
                    nth += every
                    continue
                found = contents(where)
                whole = _same(found, after)
                if not whole and not _same(found, before):
                    names = sorted({*found} ^ {*before})[:4] or "other bytes"
                    result.wrong.append(f"change {nth}, {os.strerror(error)}: left {names}; said {said}")
                elif said is None and not whole:
                    result.wrong.append(f"change {nth}, {os.strerror(error)}: nothing was said, and nothing saved")
                nth += every
    return result


def _begin(where: Path, wanted: Save) -> None:
    shutil.rmtree(where, ignore_errors=True)
    where.mkdir()
    wanted.before(where)


def _same(found: dict[str, bytes | None], expected: dict[str, bytes | None]) -> bool:
    """Whether the same files are there; times and dates in them may differ, so only the old ones are compared."""
    return found.keys() == expected.keys() and all(
        found[name] == b for name, b in expected.items() if b in OLD.values()
    )


def kinds(home: Path, hub: LocalHub) -> dict[str, Save]:
    """The kinds of output by name."""
    made = Provenance(command="none", seed=0, meta_steps_done=0, data_sha256="0" * 64, seconds=0, versions={})
    init = fresh(tiny_recipe(), 0, made)
    drawings = draw_folder(home / "drawings")
    classifier = adapt(init, drawings)
    delta = Delta(classifier=classifier, base=init, precision="float16")
    model = home / "model.onnx"
    export_onnx(classifier, model)
    save(init, home / "init")
    hub.commit("user/repo", {path.name: path.read_bytes() for path in (home / "init").iterdir()})
    pixels = {"a": classifier.support.images[:2], "b": classifier.support.images[2:4]}

    def command(*words: object) -> None:
        try:
            app([str(word) for word in words], standalone_mode=False)
        except SystemExit as stop:
            if stop.code:
                raise FewshotError(f"exit code {stop.code}") from None

    def pull(folder: Path) -> None:
        os.environ["HF_HUB_CACHE"] = str(folder / "hub")
        fetch(address("user/repo"))

    def right(folder: Path) -> bool:
        kept = [path for path in folder.glob("hub/models--*/snapshots/*/*") if path.exists()]
        if any(path.read_bytes() != (home / "init" / path.name).read_bytes() for path in kept):
            return False
        pull(folder)
        return read_folder(next(folder.glob("hub/models--*/snapshots/*"))) == read_folder(home / "init")

    def cache(folder: Path) -> None:
        os.environ["FEWSHOT_CACHE"] = str(folder)
        cached("glyphs of a test", lambda: pixels)

    return {
        "an initialization": Save(lambda at: save(init, at / "out")),
        "a classifier": Save(lambda at: save(classifier, at / "out")),
        "a delta": Save(lambda at: save(delta, at / "out")),
        "a folder that replaces another": Save(
            lambda at: replace_folder(at / "out", {**OLD, "README.md": b"new"}),
            lambda at: write_folder(at / "out", OLD),
        ),
        "an ONNX file": Save(lambda at: export_onnx(classifier, at / "model.onnx")),
        "a bundle": Save(lambda at: write_folder(at / "site", deployment(model.read_bytes(), "t"))),
        "a checkpoint that replaces another": Save(
            lambda at: save_checkpoint(init, at / "out.checkpoint"),
            lambda at: (at / "out.checkpoint").write_bytes(OLD["config.json"]),
        ),
        "the cache of a data set": Save(cache),
        "what is pulled from the Hub": Save(pull, good=right),
        "the page of `fewshot test`": Save(lambda at: command("test", model, drawings, "--html", at / "page.html")),
        "the table of `fewshot predict`": Save(
            lambda at: command("predict", model, drawings / "ant", "--csv", at / "t.csv")
        ),
        "an edited ONNX file": Save(
            lambda at: command("edit", model, "--rename", "ant=wasp", "--output", at / "edited.onnx")
        ),
    }


def main(home: Path, every: int, wanted: list[str]) -> None:
    """Try all kinds, or those that are named."""
    sys.stderr = sys.stdout
    with LocalHub() as hub:
        os.environ.update(hub.environment, FEWSHOT_HUB_SECONDS="1")
        for kind, each in kinds(home, hub).items():
            if not wanted or kind in wanted:
                print(json.dumps(vars(tried(kind, each, home, every))), file=sys.__stdout__, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
