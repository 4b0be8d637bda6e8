"""The command in environments of all sorts: the same answers to the same bits, or one sentence, and nothing left.

Compiled libraries that were planted or damaged are in tests/engine/test_compiler.py, other streams in
tests/cli/test_streams.py, processors' quotas in tests/engine/test_processors.py.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fewshot_sdk import adapt, export_onnx, save
from fewshot_sdk.artifacts.initialization import Initialization
from tests.conftest import REPOSITORY, draw_folder

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the environments are Linux's")
ASK = 'set -e; "$@" doctor drawings; "$@" info init; "$@" predict model.onnx drawings/été/0.png --json'
WORK = """set -e
"$@" adapt --support drawings --init init --method reptile --reject-rate 0 --output out/model
"$@" export out/model --output out/model.onnx
"$@" meta-train --preset glyphs --meta-steps 2 --evaluate-every 0 --workers 2 --output out/init"""
STRANGER = 54321  # a user id that no machine knows


@dataclass(frozen=True)
class Environment:
    """What is unusual. wrapper: a shell script that ends by starting "$@". python: options of the interpreter.

    root: whether only root can make it.
    """

    wrapper: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    python: tuple[str, ...] = ()
    root: bool = False


def _mounts(script: str) -> Environment:
    return Environment(f"exec unshare --mount sh -c '{script}; exec \"$@\"' sh \"$@\"", root=True)


ENVIRONMENTS = {
    "no HOME": Environment(without=("HOME",)),
    "an unknown user": Environment(
        f'chown {STRANGER} out; exec setpriv --reuid {STRANGER} --regid {STRANGER} --clear-groups '
        '--inh-caps=+dac_read_search --ambient-caps=+dac_read_search "$@"',
        without=("HOME", "FEWSHOT_CACHE", "HF_HOME"),
        root=True,
    ),
    "a read-only root": _mounts("mount --bind out out && mount --bind / / && mount -o remount,ro,bind /"),
    "no /dev/shm": _mounts("mount -t tmpfs -o ro tmpfs /dev/shm"),
    "no loopback": Environment('exec unshare --net "$@"', root=True),
    "LC_ALL=C": Environment(variables={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
    "LC_ALL=POSIX": Environment(variables={"LC_ALL": "POSIX", "PYTHONUTF8": "0"}),
    "an ASCII stdout": Environment(variables={"PYTHONIOENCODING": "ascii"}),
    "a cp1252 stdout": Environment(variables={"PYTHONIOENCODING": "cp1252"}),
    "a closed stdin": Environment('exec "$@" <&-'),
    "a closed stderr": Environment('exec "$@" 2>&-'),
    "a full stderr": Environment('exec "$@" 2>/dev/full'),
    "TERM=dumb": Environment(variables={"TERM": "dumb"}),
    "umask 000": Environment('umask 000; exec "$@"'),
    "umask 077": Environment('umask 077; exec "$@"'),
    "no TMPDIR": Environment(variables={"TMPDIR": "/no/such/folder"}),
    **{f"OMP_NUM_THREADS={n}": Environment(variables={"OMP_NUM_THREADS": n}) for n in ("0", "1", "64", "many")},
    "one core": Environment('exec taskset -c $(taskset -cp $$ | sed "s/.*: //; s/[-,].*//") "$@"'),
    "python -O": Environment(python=("-O",)),
    "python -OO": Environment(python=("-OO",)),
    "python -W error": Environment(python=("-W", "error")),
}


@dataclass(frozen=True)
class Place:
    """A folder that every user may enter, with an initialization, pictures and a model; a row works in `out`."""

    folder: Path

    def run(self, script: str, unusual: Environment) -> subprocess.CompletedProcess[bytes]:
        """Runs a script with the command as "$@" in an environment; its leftovers outside `out` fail the test."""
        shutil.rmtree(self.folder / "out", ignore_errors=True)
        shutil.rmtree(self.folder / "tmp", ignore_errors=True)
        for name in ("out", "tmp"):
            (self.folder / name).mkdir()
        (self.folder / "tmp").chmod(0o1777)
        before = self._inside()
        variables = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTEST"))},
            "TMPDIR": str(self.folder / "tmp"),
            "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "cli")]),
            "PYTHONDONTWRITEBYTECODE": "1",
            **unusual.variables,
        }
        for name in unusual.without:
            del variables[name]
        command = [sys.executable, *unusual.python, "-P", "-m", "fewshot_cli.main"]
        inner = ["sh", "-c", script, "sh", *command]
        done = subprocess.run(
            ["sh", "-c", unusual.wrapper or 'exec "$@"', "sh", *inner],
            cwd=self.folder,
            env=variables,
            capture_output=True,
            timeout=280,
            check=False,
        )
        assert self._inside() == before
        return done

    def weights(self) -> dict[str, str]:
        """The SHA-256 of each file of weights in `out`, and the names of all else there."""
        out = self.folder / "out"
        return {
            str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
            if path.suffix == ".safetensors"
            else ""
            for path in sorted(out.rglob("*"))
            if path.is_file()
        }

    def _inside(self) -> list[str]:
        out = self.folder / "out"
        return sorted(str(path) for path in self.folder.rglob("*") if not path.is_relative_to(out))


@pytest.fixture(scope="module")
def place(init: Initialization) -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="fewshot-environments-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        drawings = draw_folder(folder / "drawings", ("ant", "bee", "été"))
        save(init, folder / "init")
        export_onnx(adapt(init, drawings, method="prototypes"), folder / "model.onnx")
        yield Place(folder)


@pytest.fixture(scope="module")
def answers(place: Place) -> tuple[str, object]:
    """What the command says in the usual environment."""
    return said(place.run(ASK, Environment()))


@pytest.fixture(scope="module")
def made(place: Place) -> dict[str, str]:
    """What the command makes in the usual environment."""
    done = place.run(WORK, Environment())
    assert done.returncode == 0, done.stderr
    return place.weights()


def said(done: subprocess.CompletedProcess[bytes]) -> tuple[str, object]:
    """The text, and the prediction."""
    assert done.returncode == 0, done.stderr
    text, _, predicted = done.stdout.decode("utf-8").partition("[\n")
    return text, json.loads(f"[{predicted}")


def possible(name: str) -> Environment:
    wanted = ENVIRONMENTS[name]
    tool = next((word for word in wanted.wrapper.split() if word in ("unshare", "setpriv", "taskset")), "sh")
    if shutil.which(tool) is None:
        pytest.skip(f"needs {tool}")
    if wanted.root and os.geteuid() != 0:
        pytest.skip("only root can make it")
    if "unshare" in wanted.wrapper and subprocess.run(["unshare", "--mount", "--net", "true"], check=False).returncode:
        pytest.skip("namespaces are forbidden here")
    return wanted


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_answers_are_those_of_the_usual_environment(name: str, place: Place, answers: tuple[str, object]) -> None:
    done = place.run(ASK, possible(name))
    assert said(done) == answers
    assert done.stderr == b""
    assert place.weights() == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_what_is_made_has_the_bits_of_the_usual_environment(name: str, place: Place, made: dict[str, str]) -> None:
    done = place.run(WORK, possible(name))
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    assert b"Warning" not in done.stderr
    assert place.weights() == made
