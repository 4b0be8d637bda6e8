"""Dockerfile, compose.yaml and docs/kubernetes.yaml: their options are ones that `fewshot serve` takes."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from fewshot_cli.main import app
from fewshot_sdk import adapt, export_onnx
from fewshot_sdk.artifacts.initialization import Initialization
from fewshot_sdk.web.limits import HEALTH
from tests.conftest import REPOSITORY, draw_folder
from tests.web.test_server import Server, free_port, up

PROJECT: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
COMPOSE: dict[str, Any] = yaml.safe_load((REPOSITORY / "compose.yaml").read_text(encoding="utf-8"))["services"][
    "fewshot"
]
DEPLOYMENT, SERVICE = yaml.safe_load_all((REPOSITORY / "docs" / "kubernetes.yaml").read_text(encoding="utf-8"))
MODEL = "/models/model.onnx"
MEBIBYTES = 230  # of /opt/fewshot; the base image has some 130


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions in order, each with its text in one line."""
    text = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")
    lines = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)).splitlines()
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines if line)]


def last(instruction: str) -> str:
    return [rest for word, rest in instructions() if word == instruction][-1]


def container() -> dict[str, Any]:
    (found,) = DEPLOYMENT["spec"]["template"]["spec"]["containers"]
    return dict(found)


WORDS = {
    "image": json.loads(last("CMD")),
    "compose": COMPOSE["command"],
    "kubernetes": container()["args"],
}


@pytest.mark.parametrize("place", WORDS)
def test_fewshot_serve_takes_the_options(place: str) -> None:
    program, name = json.loads(last("ENTRYPOINT"))
    assert program in PROJECT["project"]["scripts"]
    command = get_command(app).commands[name]  # type: ignore[attr-defined]
    given = command.make_context(name, list(WORDS[place])).params
    assert (str(given["model"]), given["host"], given["port"]) == (MODEL, "0.0.0.0", int(last("EXPOSE")))


def test_the_token_comes_by_the_variable_that_serve_reads() -> None:
    (option,) = (o for o in get_command(app).commands["serve"].params if o.name == "token")  # type: ignore[attr-defined]
    assert option.envvar == "FEWSHOT_TOKEN"
    assert COMPOSE["environment"][option.envvar].startswith("${FEWSHOT_TOKEN:?")  # Compose stops without it
    (variable,) = container()["env"]
    assert variable["name"] == option.envvar
    assert variable["valueFrom"]["secretKeyRef"].keys() == {"name", "key"}


def probed() -> Iterator[str]:
    yield from (container()[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness"))
    yield re.findall(r"http://127\.0\.0\.1:8000([^']+)'", last("HEALTHCHECK"))[0]


@pytest.mark.parametrize("path", list(probed()))
def test_the_probes_are_paths_that_answer_any_host_without_a_token(path: str) -> None:
    assert path in (*HEALTH, f"/v2/models/{Path(MODEL).stem}/ready")


def test_the_health_check_is_python_that_fails_unless_it_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    program, flag, code = json.loads(last("HEALTHCHECK").partition("CMD ")[2])
    assert (program, flag) == ("python", "-c")
    asked: list[str] = []
    monkeypatch.setattr(urllib.request, "urlopen", lambda address, **_: asked.append(address))
    exec(code, {})
    assert asked == ["http://127.0.0.1:8000/v2/health/ready"]


def test_every_port_is_the_same() -> None:
    port = int(last("EXPOSE"))
    assert COMPOSE["ports"] == [f"127.0.0.1:{port}:{port}"]
    (named,) = container()["ports"]
    assert named["containerPort"] == port
    assert {container()[f"{kind}Probe"]["httpGet"]["port"] for kind in ("startup", "liveness", "readiness")} == {"http"}
    assert SERVICE["spec"]["ports"][0]["targetPort"] == named["name"] == "http"
    assert SERVICE["spec"]["selector"] == DEPLOYMENT["spec"]["template"]["metadata"]["labels"]


def test_nothing_runs_as_root_or_writes() -> None:
    user = last("USER").partition(":")[0]
    assert int(user) > 0
    assert instructions().index(("USER", last("USER"))) > max(
        i for i, (word, _) in enumerate(instructions()) if word in ("RUN", "COPY")
    )
    pod, inside = DEPLOYMENT["spec"]["template"]["spec"]["securityContext"], container()["securityContext"]
    assert pod["runAsNonRoot"]
    assert pod["runAsUser"] == int(user)
    assert inside["readOnlyRootFilesystem"]
    assert not inside["allowPrivilegeEscalation"]
    assert inside["capabilities"] == {"drop": ["ALL"]}
    assert COMPOSE["read_only"]
    assert COMPOSE["cap_drop"] == ["ALL"]


def test_the_base_is_pinned_by_tag_and_runs_this_package() -> None:
    (base,) = (rest.removeprefix("BASE=") for word, rest in instructions() if word == "ARG" and rest.startswith("BASE"))
    version = re.fullmatch(r"python:(3\.\d+)-slim-\w+", base)
    assert version is not None
    assert PROJECT["project"]["requires-python"] == f">={version[1]}"
    assert all("${BASE}" in rest for word, rest in instructions() if word == "FROM")


def test_the_image_has_no_pytorch_and_everything_that_the_wheel_is_made_of() -> None:
    (extras,) = (rest.removeprefix("EXTRAS=") for word, rest in instructions() if word == "ARG" and "EXTRAS" in rest)
    for extra in extras.split(","):
        assert not any("torch" in line for line in PROJECT["project"]["optional-dependencies"][extra])
    assert not any("torch" in line for line in PROJECT["project"]["dependencies"])
    project, wheel = PROJECT["project"], PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = [project["readme"], *project["license-files"], *wheel["packages"], *wheel["force-include"]]
    assert {"pyproject.toml", "constraints.txt", *(name.partition("/")[0] for name in needed)} == admitted()


def admitted() -> set[str]:
    ignored = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").split()
    assert ignored[0] == "*"
    return {line[1:] for line in ignored if line.startswith("!")}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_what_the_dockerfile_installs_is_small_and_serves(tmp_path: Path, init: Initialization) -> None:
    """Its RUN command, with folders of this test instead of the image's."""
    source, target = tmp_path / "source", tmp_path / "fewshot"
    source.mkdir()
    for name in admitted():
        path = REPOSITORY / name
        copy = shutil.copytree if path.is_dir() else shutil.copy
        copy(path, source / name)
    for cache in source.rglob("__pycache__"):
        shutil.rmtree(cache)
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "base")], check=True)
    command = last("RUN").replace("/opt/fewshot", str(target)).replace("/wheels", str(tmp_path / "wheels"))
    programs = os.pathsep.join((str(tmp_path / "base" / "bin"), os.environ["PATH"]))
    done = subprocess.run(
        ["sh", "-ec", command], cwd=source, env={**os.environ, "PATH": programs, "EXTRAS": "serve"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    names = {path.name for path in target.glob("lib/python3*/site-packages/*")}
    assert not any(fnmatch.fnmatch(name, pattern) for name in names for pattern in ("torch*", "pip", "sympy"))
    assert sum(path.lstat().st_blocks for path in target.rglob("*")) * 512 < MEBIBYTES * 2**20
    export_onnx(adapt(init, draw_folder(tmp_path / "in"), method="reptile"), tmp_path / "model.onnx")
    port = free_port()
    words = [str(tmp_path / "model.onnx"), *WORDS["image"][1:-2], "--port", str(port)]
    command_line = shlex.split(f"{target}/bin/fewshot serve") + words
    environment = {"PATH": os.environ["PATH"], "FEWSHOT_TOKEN": "s3cret", "PYTHONDONTWRITEBYTECODE": "1"}
    with subprocess.Popen(command_line, env=environment, stderr=subprocess.PIPE, text=True) as process:
        server = Server(process, port)
        try:
            up(server)
            picture = (tmp_path / "in" / "ant" / "0.png").read_bytes()
            assert server.ask("/v2/models/model/ready", Host="10.0.0.7:8000")[0] == 200
            assert server.ask("/predict", picture)[0] == 401
            assert server.json("/predict", picture, Authorization="Bearer s3cret")[1]["nearest"] in (
                "ant",
                "bee",
                "cat",
            )
        finally:
            process.terminate()
