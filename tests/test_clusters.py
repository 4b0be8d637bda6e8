"""The scripts of docs/clusters.md: their syntax, and that the commands in them are ones that `fewshot` takes."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from torch.distributed.run import get_args_parser
from typer.main import get_command

from fewshot_cli.main import app
from fewshot_sdk.config.presets import preset
from tests.conftest import REPOSITORY

DOCS = REPOSITORY / "docs"
SLURM = (DOCS / "slurm.sh").read_text(encoding="utf-8")
JOB: dict[str, Any] = yaml.safe_load((DOCS / "pytorchjob.yaml").read_text(encoding="utf-8"))


def container() -> dict[str, Any]:
    (found,) = JOB["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]["spec"]["containers"]
    return dict(found)


def torchruns() -> Iterator[list[str]]:
    """The words after `torchrun`."""
    for text in (SLURM, (DOCS / "clusters.md").read_text(encoding="utf-8")):
        for command in re.findall(r"^ *(?:srun )?torchrun (--(?:.*\\\n)*.*)$", text, re.MULTILINE):
            yield shlex.split(command.replace("\\\n", " "))
    yield container()["command"][1:]


@pytest.mark.parametrize("words", list(torchruns()), ids=["slurm", "page", "kubernetes"])
def test_torchrun_and_fewshot_take_the_command(words: list[str]) -> None:
    run = get_args_parser().parse_args(words)
    assert run.no_python
    assert run.training_script == "fewshot"
    name, *options = run.training_script_args
    command = get_command(app).commands[name]  # type: ignore[attr-defined]
    given = command.make_context(name, list(options)).params
    assert preset(given["preset"]).meta.tasks_per_step >= 2
    assert given["workers"] is None


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_the_script_for_slurm_is_bash() -> None:
    done = subprocess.run(["bash", "-n", str(DOCS / "slurm.sh")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_slurm_starts_one_torchrun_on_each_machine_under_the_jobs_number() -> None:
    assert "#SBATCH --ntasks-per-node=1\n" in SLURM
    assert '--rdzv-id "$SLURM_JOB_ID"' in SLURM
    assert SLURM.index("#SBATCH") < SLURM.index("set -euo")  # SLURM stops reading at the first command


def test_the_pytorchjob_has_the_operators_fields() -> None:
    assert (JOB["apiVersion"], JOB["kind"]) == ("kubeflow.org/v1", "PyTorchJob")
    spec, policy = JOB["spec"], JOB["spec"]["elasticPolicy"]
    assert isinstance(spec["nProcPerNode"], str)
    assert policy.keys() == {"rdzvBackend", "rdzvId", "minReplicas", "maxReplicas", "maxRestarts"}
    worker = spec["pytorchReplicaSpecs"]["Worker"]
    assert policy["minReplicas"] <= worker["replicas"] <= policy["maxReplicas"]
    assert container()["name"] == "pytorch"  # the operator looks for this one
    assert {mount["name"] for mount in container()["volumeMounts"]} == {
        volume["name"] for volume in worker["template"]["spec"]["volumes"]
    }
    assert all(isinstance(variable["value"], str) for variable in container()["env"])
