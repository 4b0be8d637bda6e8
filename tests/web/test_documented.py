"""The requests of docs/deploying.md, run as they stand there."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fewshot_sdk import Predictor, adapt, export_onnx
from fewshot_sdk.artifacts.initialization import Initialization
from tests.conftest import REPOSITORY, draw_folder
from tests.web.test_server import Server, start

PAGE = (REPOSITORY / "docs" / "deploying.md").read_text(encoding="utf-8").partition("\n## A server\n")[2]
PAGE = PAGE.partition("\n### A container\n")[0]
COMMANDS = [line.strip() for line in re.findall(r"^    (?:curl|printf|cat) .*$", PAGE, re.MULTILINE)]
REQUEST = re.findall(r"^```json\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, init: Initialization) -> Path:
    folder = tmp_path_factory.mktemp("documented")
    export_onnx(adapt(init, draw_folder(folder / "in"), method="reptile", reject_rate=None), folder / "model.onnx")
    photo = Image.open(folder / "in" / "bee" / "0.png").convert("RGB").resize((400, 300))
    photo.save(folder / "photo.jpg")
    (folder / "pixels.rgb").write_bytes(np.asarray(Image.open(folder / "photo.jpg")).tobytes())
    (folder / "request.json").write_text(REQUEST)
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    yield from start(folder / "model.onnx")


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
def test_the_commands_with_curl_are_answered(folder: Path, server: Server) -> None:
    answers: list[dict[str, Any]] = []
    for command in COMMANDS:
        here = command.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}").replace("curl ", "curl -sS --max-time 60 ")
        done = subprocess.run(["sh", "-c", here], cwd=folder, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        if "curl" in command:
            answers.append(json.loads(done.stdout))
    first, strict, small, binary = answers
    predictor = Predictor(folder / "model.onnx")
    (expected,) = predictor.predict([folder / "photo.jpg"])
    assert first["label"] == expected.label
    assert first.keys() == strict.keys() == ast.literal_eval(re.findall(r'`(\{"label".*?\}\})`', PAGE)[0]).keys()
    assert [output["name"] for output in small["outputs"]] == ["labels", "known"]
    by_name = {output["name"]: output["data"] for output in binary["outputs"]}
    assert by_name["labels"] == [expected.nearest]
    assert by_name["probabilities"] == pytest.approx(list(expected.probabilities.values()), abs=1e-6)
