"""The command in environments of all sorts: the same answers to the same bits, or one sentence, and nothing left.

Compiled libraries that were planted or cut off are in tests/engine/test_compiler.py, a container's share of the
processors is in tests/engine/test_processors.py, and Pythons of other versions are in tests/pythons.py.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
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
ASK = 'set -e; "$@" doctor drawings; "$@" predict model.onnx drawings/été/0.png --json'
WORK = """set -e
"$@" adapt --support drawings --init init --method reptile --reject-rate 0 --output out/model
"$@" export out/model --output out/model.onnx
"$@" meta-train --preset glyphs --meta-steps 2 --evaluate-every 0 --workers 2 --output out/init"""
SUMMARY = b"12 pictures of 3 classes read: no errors, no warnings\n"
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
    return Environment(f'exec unshare --mount sh -c \'{script}; exec "$@"\' sh "$@"', root=True)


ENVIRONMENTS = {
    "no HOME": Environment(without=("HOME",)),
    "an unknown user": Environment(
        'export FEWSHOT_CACHE="$PWD/cache"; '
        f"exec setpriv --reuid {STRANGER} --regid {STRANGER} --clear-groups "
        '--inh-caps=+dac_read_search --ambient-caps=+dac_read_search "$@"',
        without=("HOME", "HF_HOME"),
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
ALIKE = {  # asked by `make test-all` alone: others are like them, or have tests of their own
    "LC_ALL=POSIX", "OMP_NUM_THREADS=0", "OMP_NUM_THREADS=1", "TERM=dumb", "python -O", "umask 000", "umask 077",
}  # fmt: skip


@dataclass(frozen=True)
class Place:
    """A folder that every user may enter, with an initialization, pictures and a model; a row works in `out`."""

    folder: Path

    def run(self, script: str, unusual: Environment) -> subprocess.CompletedProcess[bytes]:
        """Runs a script with the command as "$@" in an environment; its leftovers outside `out` fail the test."""
        for name in ("out", "tmp", "cache"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
            (self.folder / name).mkdir()
            (self.folder / name).chmod(0o1777)
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
        found = (path.relative_to(self.folder) for path in self.folder.rglob("*"))
        return sorted(str(path) for path in found if path.parts[0] not in ("out", "cache"))


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


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in ALIKE else ()) for name in ENVIRONMENTS]
)
def test_the_answers_are_those_of_the_usual_environment(name: str, place: Place, answers: tuple[str, object]) -> None:
    done = place.run(ASK, possible(name))
    assert said(done) == answers
    assert done.stderr in (b"", SUMMARY)
    assert place.weights() == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_what_is_made_has_the_bits_of_the_usual_environment(name: str, place: Place, made: dict[str, str]) -> None:
    done = place.run(WORK, possible(name))
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    assert b"Warning" not in done.stderr
    assert place.weights() == made


@pytest.mark.parametrize("mask", [0o000, 0o077])
def test_what_is_made_may_be_used_as_the_umask_says(mask: int, place: Place) -> None:
    make = """set -e
"$@" adapt --support drawings --init init --method prototypes --reject-rate 0 --output out/new/model
"$@" edit model.onnx --rename ant=wasp --output out/new/model.onnx
"$@" predict model.onnx drawings/ant/0.png --csv out/new/table.csv"""
    done = place.run(make, Environment(f'umask {mask:03o}; exec "$@"'))
    assert done.returncode == 0, done.stderr
    made = sorted((place.folder / "out").rglob("*"))
    wrong = {path.name: oct(mode) for path in made if (mode := permissions(path)) != (usual(path) & ~mask)}
    assert len(made) >= 8
    assert wrong == {}


def permissions(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def usual(path: Path) -> int:
    return 0o777 if path.is_dir() else 0o666


@pytest.mark.parametrize(
    ("script", "code", "sentence"),
    [
        ('"$@" predict model.onnx drawings/ant --csv - >/dev/full', 1, "cannot write to standard output: no space"),
        ('"$@" predict model.onnx drawings/ant --json >&-', 1, "cannot write to standard output: it is closed"),
        ('"$@" predict model.onnx drawings/ant --csv out/t.csv <&- >&- 2>&-', 0, ""),
        ('"$@" predict model.onnx drawings/ant --json-lines | head -1', 0, ""),
    ],
    ids=["full", "closed", "all closed", "head"],
)
def test_an_output_without_a_reader_is_one_sentence_or_nothing(
    script: str, code: int, sentence: str, place: Place
) -> None:
    done = place.run(script, Environment())
    text = done.stderr.decode().splitlines()
    assert (done.returncode, [line for line in text if "Error" in line or "Traceback" in line]) == (code, [])
    assert sentence in done.stderr.decode()
    assert (place.folder / "out" / "t.csv").exists() == ("t.csv" in script)


def test_without_a_home_a_folder_for_the_cache_must_be_named(place: Place) -> None:
    stranger = ENVIRONMENTS["an unknown user"]
    wrapper = possible("an unknown user").wrapper.replace("export FEWSHOT_CACHE", "unused")
    nowhere = Environment(wrapper, without=("HOME", "HF_HOME", "FEWSHOT_CACHE"), root=stranger.root)
    for words, name in (
        ("meta-train --preset glyphs --meta-steps 2 --output out/init", "FEWSHOT_CACHE"),
        ("pull user/repo", "HF_HOME"),
    ):
        done = place.run(f'"$@" {words}', nowhere)
        said = f"error: this user has no home folder for a cache; set {name} to a folder for it\n"
        assert (done.returncode, done.stderr.decode().removeprefix("reading glyphs\n")) == (1, said)
        assert place.weights() == {}


def test_a_locale_without_a_names_letters_is_one_sentence(place: Place) -> None:
    done = place.run('"$@" predict model.onnx drawings/été --copy-to out/sorted', possible("LC_ALL=C"))
    *_, last = done.stderr.splitlines()
    assert (done.returncode, last) == (1, b"error: this locale has no letters for a name (ascii); set PYTHONUTF8=1")
    assert b"Traceback" not in done.stderr


def test_a_table_has_names_in_utf8_whatever_the_locale(place: Place) -> None:
    done = place.run('"$@" predict model.onnx drawings/été/0.png --csv out/t.csv', possible("LC_ALL=C"))
    assert done.returncode == 0, done.stderr
    assert (place.folder / "out" / "t.csv").read_text(encoding="utf-8").splitlines()[1].startswith("drawings/été/0")


def test_a_dumb_terminal_gets_no_escape_sequences(place: Place) -> None:
    adapt = '"$@" adapt --support drawings --init init --method prototypes --output out/model'
    ours, theirs = os.openpty()
    try:
        done = place.run(f"{adapt} 2>/proc/{os.getpid()}/fd/{theirs}", Environment(variables={"TERM": "dumb"}))
        shown = os.read(ours, 10**6)
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == 0
    assert b"wrote out/model" in shown
    assert b"\x1b" not in shown


@pytest.mark.slow
def test_two_first_uses_at_once_make_the_same(place: Place, made: dict[str, str]) -> None:
    train = '"$@" meta-train --preset glyphs --meta-steps 2 --evaluate-every 0 --output out/'
    both = f"{train}a & one=$!; {train}b || exit 1; wait $one"
    done = place.run(both, Environment('export FEWSHOT_CACHE="$PWD/cache"; exec "$@"'))
    assert done.returncode == 0, done.stderr
    found = place.weights()
    for name in ("model.safetensors", "inner_state.safetensors"):
        assert found[f"a/{name}"] == found[f"b/{name}"] == made[f"init/{name}"]
    (native,) = (place.folder / "cache").glob("native-*")
    assert len(list(native.iterdir())) == 1
