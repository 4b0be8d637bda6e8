from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fewshot_cli.locks import alone_at
from fewshot_sdk.errors import OutputExists
from tests.conftest import REPOSITORY, Run

HOLDER = """
import signal, sys
from pathlib import Path
from fewshot_cli.locks import alone_at
with alone_at(Path(sys.argv[1]), Path(sys.argv[2])):
    print("held", flush=True)
    signal.pause()
"""


@pytest.mark.parametrize(
    "words",
    [
        ["meta-train", "--preset", "glyphs"],
        ["meta-train", "--preset", "glyphs", "--resume"],
        ["meta-train", "--preset", "sine"],
        ["meta-train", "--preset", "omniglot-5way", "--pretrain", 2, "--meta-steps", 0],
        ["reproduce", "taylor"],
        ["reproduce", "taylor", "--resume"],
    ],
)
def test_a_second_one_at_the_same_output_is_refused_at_once(
    run: Run, words: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("training", "commands.reproduce"):
        monkeypatch.setattr(f"fewshot_cli.{module}.check_free", lambda _: pytest.fail("it went on"))
    with alone_at(tmp_path / "run", tmp_path / "run.checkpoint"):
        code, _, err = run(*words, "--output", tmp_path / "run")
    assert code == 1
    assert err == (
        f"error: another process is making {tmp_path / 'run'} at this moment; wait until it ends, or name another "
        "--output\n"
    )
    assert not list(tmp_path.iterdir())


def test_a_killed_one_holds_nothing(tmp_path: Path) -> None:
    output, checkpoint = tmp_path / "run", tmp_path / "run.checkpoint"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "cli")])}
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, output, checkpoint], env=environment, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(OutputExists), alone_at(output, checkpoint):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert (tmp_path / "run.checkpoint.lock").exists()
    with alone_at(output, checkpoint):
        pass
    assert not list(tmp_path.iterdir())


def test_an_output_elsewhere_is_nobodys_business(tmp_path: Path) -> None:
    with alone_at(tmp_path / "a", tmp_path / "a.checkpoint"), alone_at(tmp_path / "b", tmp_path / "b.checkpoint"):
        pass


def test_folders_on_the_way_stay_if_something_is_saved_there(tmp_path: Path) -> None:
    deep = tmp_path / "x" / "y"
    with alone_at(deep / "run", deep / "run.checkpoint"):
        pass
    assert not list(tmp_path.iterdir())
    with alone_at(deep / "run", deep / "run.checkpoint"):
        (deep / "run").mkdir()
    assert [path.name for path in deep.iterdir()] == ["run"]


def test_where_no_lock_can_be_made_the_work_goes_on(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    reached = False
    with alone_at(tmp_path / "file" / "run", tmp_path / "file" / "run.checkpoint"):
        reached = True
    assert reached
