"""Libraries in C that find a file damaged print nothing themselves: stderr has our sentences, stdout has data."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from fewshot_sdk import adapt, export_onnx
from fewshot_sdk.artifacts.initialization import Initialization
from tests.conftest import REPOSITORY, Run, draw_folder, photograph

ALONE = (
    "import sys; from PIL import Image\nfor name in sys.argv[1:]:\n try: Image.open(name).load()\n except OSError: pass"
)
COMMAND = [sys.executable, "-m", "fewshot_cli.main"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "cli")])}
SCANS = ("tiff_adobe_deflate", "tiff_lzw", "jpeg", "packbits")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, init: Initialization) -> Path:
    """Class folders with damaged TIFFs among the drawings, and two exported classifiers, one of them damaged."""
    folder = tmp_path_factory.mktemp("damaged")
    pictures = draw_folder(folder / "pictures")
    good = export_onnx(adapt(init, pictures, method="prototypes", reject_rate=None), folder / "good.onnx").path
    damaged = bytearray(good.read_bytes())
    damaged[len(damaged) // 2 :] = bytes(len(damaged) - len(damaged) // 2)
    (folder / "bad.onnx").write_bytes(damaged)
    for number, compression in enumerate(SCANS):
        whole = io.BytesIO()
        photograph(number).save(whole, "TIFF", compression=compression)
        data, random = bytearray(whole.getvalue()), Random(number)
        for at in random.sample(range(8, len(data) // 2), 40):
            data[at] = random.randrange(256)
        (pictures / "ant" / f"{compression}.tif").write_bytes(data)
    return folder


def finished(*words: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a process, with what its libraries print."""
    done = subprocess.run([*map(str, words)], capture_output=True, env=ENVIRONMENT, text=True, timeout=300, check=False)
    return done.returncode, done.stdout, done.stderr


def test_the_library_of_tiffs_prints_what_it_finds_unless_it_is_told_not_to(files: Path) -> None:
    scans = sorted((files / "pictures" / "ant").glob("*.tif"))
    assert "Decode: " in finished(sys.executable, "-c", ALONE, *scans)[2]


@pytest.mark.parametrize(
    "words",
    [
        ("doctor", "pictures"),
        ("predict", "good.onnx", *(f"pictures/ant/{name}.tif" for name in SCANS)),
        ("predict", "bad.onnx", "pictures/ant/0.png"),
        ("info", "bad.onnx"),
        pytest.param(
            ("adapt", "--support", "pictures", "--skip-bad", "--method", "prototypes", "--output", "model"),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_command_prints_no_more_than_it_says_itself(
    words: tuple[str, ...], files: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files)
    code, stdout, stderr = run(*words)  # what Python prints, without that of libraries
    shutil.rmtree("model", ignore_errors=True)
    seconds = re.compile(r"[\d:.]+ (s|left)\b")
    found = finished(*COMMAND, *words)
    assert (found[0], found[1]) == (code, stdout)
    assert seconds.sub("", found[2]) == seconds.sub("", stderr)


def test_the_servers_log_says_nothing_of_a_damaged_picture(files: Path) -> None:
    with subprocess.Popen(
        [*COMMAND, "serve", str(files / "good.onnx"), "--port", "0"],
        env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as server:  # fmt: skip
        try:
            assert server.stderr is not None
            port = re.search(r":(\d+)/", server.stderr.readline())
            assert port is not None
            for name in SCANS:
                data = (files / "pictures" / "ant" / f"{name}.tif").read_bytes()
                with suppress(urllib.error.HTTPError):  # some can be read in spite of their damage
                    urllib.request.urlopen(f"http://127.0.0.1:{port[1]}/predict", data, timeout=60)
            server.terminate()
            stdout, stderr = server.communicate(timeout=60)
        finally:
            server.kill()
    assert (stdout, stderr) == ("", "")
