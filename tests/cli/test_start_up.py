"""What commands import, each run in its own process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewshot_sdk import adapt, export_onnx
from fewshot_sdk.artifacts.initialization import Initialization
from tests.conftest import REPOSITORY


def shell(*words: str, **settings: object) -> subprocess.CompletedProcess[str]:
    """Run the command in its own process, as a user does."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "cli")])}
    command = [sys.executable, *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, **settings)  # type: ignore[call-overload, no-any-return]


def test_help_names_every_command_and_imports_no_heavy_library() -> None:
    done = shell("-X", "importtime", "-m", "fewshot_cli.main", "--help")
    assert done.returncode == 0
    commands = (
        "meta-train evaluate compare doctor adapt export export-learner predict test serve push pull models info verify"
    )
    for command in commands.split():
        assert command in done.stdout
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "typer" in imported
    assert not imported & {"torch", "onnx", "onnxruntime", "onnxscript", "huggingface_hub", "numpy", "PIL", "pydantic"}


@pytest.mark.parametrize("command", ["predict", "predict folder", "test"])
def test_with_an_onnx_file_no_torch_is_imported(
    command: str, init: Initialization, drawings: Path, tmp_path: Path
) -> None:
    export_onnx(adapt(init, drawings, steps=2, reject_rate=None), tmp_path / "m.onnx")
    words = {
        "predict": ["predict", "m.onnx", str(drawings / "ant" / "0.png")],
        "predict folder": ["predict", "m.onnx", str(drawings), "--recursive", "--csv", "t.csv", "--move-to", "sorted"],
        "test": ["test", "m.onnx", str(drawings), "--html", "t.html"],
    }[command]
    done = shell("-X", "importtime", "-m", "fewshot_cli.main", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "onnxruntime" in imported
    assert not imported & {"torch", "onnx", "onnxscript", "huggingface_hub", "safetensors"}


def test_predicting_a_large_picture_takes_under_150_mb(init: Initialization, drawings: Path, tmp_path: Path) -> None:
    export_onnx(adapt(init, drawings, steps=2, reject_rate=None), tmp_path / "m.onnx")
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8).repeat(50, 0).repeat(50, 1)
    Image.fromarray(noise).save(tmp_path / "large.png")
    program = (
        "import atexit, pathlib, sys; from fewshot_cli.main import app\n"
        "atexit.register(lambda: print(pathlib.Path('/proc/self/status').read_text()))\n"
        "app(sys.argv[1:])"
    )
    done = shell("-c", program, "predict", str(tmp_path / "m.onnx"), str(tmp_path / "large.png"))
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.partition("VmHWM:")[2].split()[0]) < 150_000


def test_the_doctor_imports_no_torch(drawings: Path) -> None:
    done = shell("-X", "importtime", "-m", "fewshot_cli.main", "doctor", str(drawings), "--json")
    assert (done.returncode, done.stdout) == (0, "[]\n")
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "PIL" in imported
    assert not imported & {"torch", "onnx", "onnxruntime", "onnxscript", "huggingface_hub", "safetensors"}


def test_a_broken_support_folder_is_reported_before_torch_is_loaded(tmp_path: Path) -> None:
    words = ["adapt", "--support", str(tmp_path), "--output", str(tmp_path / "o")]
    done = shell("-X", "importtime", "-m", "fewshot_cli.main", *words)
    assert done.returncode == 1
    assert "it is empty" in done.stderr
    assert not any(line.rpartition("|")[2].strip() == "torch" for line in done.stderr.splitlines())


def test_adapting_imports_neither_pytorchs_compiler_nor_onnx(saved: Path, drawings: Path, tmp_path: Path) -> None:
    """Summing tensors on the meta device, or an optimizer, imports torch._dynamo, which imports sympy and onnx."""
    words = ["adapt", "--support", str(drawings), "--init", str(saved), "--output", str(tmp_path / "o"), "--verbose"]
    done = shell("-X", "importtime", "-m", "fewshot_cli.main", *words)
    assert done.returncode == 0, done.stderr
    assert "probe " in done.stderr
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "torch" in imported
    assert not imported & {"torch._dynamo", "sympy", "onnx", "onnxruntime", "huggingface_hub", "timm"}


def test_ctrl_c_while_the_command_is_loading_is_one_line() -> None:
    script = (
        "import sys\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'fewshot_cli.commands.edit':\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "from fewshot_cli.start import run\n"
        "run()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")
