"""Training, adapting, exporting and predicting onto a disk that is full, and again once there is space.

A program, to be started as root in a mount namespace of its own; it mounts a small disk in memory, prints a line of
JSON for each command, what it said and what was wrong, and ends.
Usage: full_disk.py FOLDER
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest.mock import patch

from fewshot_cli.main import app
from fewshot_sdk import adapt, export_onnx, save
from fewshot_sdk.artifacts.initialization import fresh
from fewshot_sdk.config import presets
from fewshot_sdk.config.records import Provenance
from fewshot_sdk.data import glyphs
from fewshot_sdk.meta import curve
from tests.conftest import draw_folder, stopped_after, tiny_recipe


def contents(disk: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(disk)): path.read_bytes()
        for path in sorted(disk.rglob("*"))
        if path.is_file() and path.name != "filler"
    }


def fill(disk: Path) -> Path:
    """A file that takes all that is left."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (2**16, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * size)
    try:
        (disk / "probe").write_bytes(b"x" * 4096)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        (disk / "probe").unlink(missing_ok=True)
        return filler
    raise AssertionError("the disk is not full")


def command(*words: object) -> tuple[int, str]:
    """The exit code, and what was said."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            app([str(word) for word in words])
        except SystemExit as stop:
            return int(stop.code or 0), said.getvalue()
        except BaseException as error:
            return 99, f"{type(error).__name__}: {error}"
    return 0, said.getvalue()


def tried(name: str, disk: Path, words: list[object]) -> None:
    """Run a command on the full disk, free the disk, and run it again."""
    before, folders = contents(disk), {path for path in disk.rglob("*") if path.is_dir()}
    filler = fill(disk)
    code, said = command(*words)
    last = said.strip().splitlines()[-1] if said.strip() else ""
    wrong = []
    if code != 1 or "Traceback" in said or not last.startswith("error: ") or "no space left" not in last:
        wrong.append(f"code {code}: {said}")
    if contents(disk) != before or {path for path in disk.rglob("*") if path.is_dir()} != folders:
        wrong.append(f"left {sorted(contents(disk).keys() ^ before.keys())}, {list(disk.iterdir())}")
    filler.unlink()
    code, again = command(*words)
    if code != 0:
        wrong.append(f"not even with space: {again}")
    print(json.dumps({"command": name, "said": last, "wrong": wrong}), file=sys.__stdout__, flush=True)


def main(home: Path) -> None:
    made = Provenance(command="none", seed=0, meta_steps_done=0, data_sha256="0" * 64, seconds=0, versions={})
    init = fresh(tiny_recipe(), 0, made)
    save(init, home / "init")
    drawings = draw_folder(home / "drawings")
    save(adapt(init, drawings, method="prototypes", reject_rate=None), home / "model")
    export_onnx(adapt(init, drawings, method="prototypes", reject_rate=None), home / "model.onnx")
    glyphs.GLYPH_CLASSES, curve.TASKS = 30, 5
    presets.PRESETS["glyphs"] = tiny_recipe(meta=tiny_recipe().meta.replace(meta_steps=6, tasks_per_step=1))
    disk = home / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], check=True)
    (disk / "tmp").mkdir()
    os.environ["TMPDIR"] = tempfile.tempdir = str(disk / "tmp")

    train: list[object] = ["meta-train", "--preset", "glyphs", "--checkpoint-every", 1, "--evaluate-every", 2]
    train += ["--keep-best", "--workers", 1, "--output"]
    assert command(*train, home / "whole")[0] == 0
    with patch("fewshot_sdk.meta.run.steps_left", stopped_after(3)):
        assert command(*train, disk / "init")[0] == 130
    tried("meta-train --resume", disk, [*train, disk / "init", "--resume"])
    for name in ("model.safetensors", "inner_state.safetensors"):
        for end in ("", "-best"):
            whole, resumed = home / f"whole{end}" / name, disk / f"init{end}" / name
            assert whole.read_bytes() == resumed.read_bytes(), f"{end}: {name} has other bits"
    tried("meta-train", disk, [*train, disk / "new"])
    support = ["--support", drawings, "--init", home / "init", "--method", "prototypes", "--reject-rate", 0]
    tried("adapt", disk, ["adapt", *support, "--output", disk / "model"])
    tried("export", disk, ["export", home / "model", "--output", disk / "model.onnx"])
    tried("export --bundle", disk, ["export", home / "model", "--bundle", disk / "site"])
    tried("export --precision int8", disk, ["export", home / "model", "--precision", "int8", "--max-drop", 1,
                                            "--output", disk / "int8.onnx"])  # fmt: skip
    tried("predict --csv", disk, ["predict", home / "model.onnx", drawings / "ant", "--csv", disk / "t.csv"])
    tried("predict --copy-to", disk, ["predict", home / "model.onnx", drawings / "ant", "--copy-to", disk / "sorted"])
    tried("edit", disk, ["edit", home / "model.onnx", "--rename", "ant=wasp", "--output", disk / "edited.onnx"])
    tried("test --html", disk, ["test", home / "model.onnx", drawings, "--html", disk / "page.html"])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
