"""The drawing demo's site; tests/browser draws on it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from html.parser import HTMLParser
from pathlib import Path

import pytest

from fewshot_cli.main import app
from fewshot_sdk import Learner, export_learner
from fewshot_sdk.checkpoint import Initialization
from fewshot_sdk.demo import demo_site
from fewshot_sdk.errors import BundleError
from fewshot_sdk.web_runtime import CDN, INTEGRITY, VERSION, integrity, vendored
from tests.conftest import REPOSITORY


@pytest.fixture(scope="module")
def learner(tmp_path_factory: pytest.TempPathFactory, init: Initialization) -> Path:
    return export_learner(init, tmp_path_factory.mktemp("learner") / "learner.onnx").path


@pytest.fixture(scope="module")
def site(learner: Path) -> dict[str, bytes]:
    return demo_site(learner.read_bytes())


class Page(HTMLParser):
    def __init__(self, text: bytes) -> None:
        super().__init__()
        self.links: list[str] = []
        self.policy = self.data = ""
        self._in_data = False
        self.feed(text.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        assert tag != "iframe"
        self.links += [str(found[name]) for name in ("src", "href") if found.get(name)]
        self._in_data = found.get("type") == "application/json"
        if found.get("http-equiv") == "Content-Security-Policy":
            self.policy = str(found["content"])

    def handle_data(self, data: str) -> None:
        if self._in_data:
            self.data += data
            self._in_data = False


def settings(site: dict[str, bytes]) -> dict[str, object]:
    found: dict[str, object] = json.loads(Page(site["index.html"]).data)
    return found


def test_the_page_names_only_files_that_are_there(site: dict[str, bytes]) -> None:
    page = Page(site["index.html"])
    beside = [link for link in page.links if not link.startswith(("https://arxiv.org/", "data:"))]
    assert len(beside) >= 4
    assert set(beside) <= site.keys()
    for name in re.findall(
        r'importScripts\("(.*)"\)|new Worker\("(.*)"\)', (site["demo.js"] + site["worker.js"]).decode()
    ):
        assert set(filter(None, name)) <= site.keys()


def test_the_page_runs_nothing_and_asks_nobody_but_what_it_came_with(site: dict[str, bytes]) -> None:
    policy = Page(site["index.html"]).policy
    assert policy.startswith("default-src 'none'")
    assert "unsafe-inline" not in policy
    assert "'unsafe-eval'" not in policy
    assert f"connect-src 'self' {CDN};" in policy
    assert b"<script>" not in site["index.html"]
    assert b" style=" not in site["index.html"]


def test_every_fetched_file_is_named_with_its_hash(site: dict[str, bytes]) -> None:
    found = settings(site)
    assert found["model"] == {"name": "learner.onnx", "integrity": integrity(site["learner.onnx"])}
    runtime = found["runtime"]
    assert isinstance(runtime, dict)
    assert runtime["base"] == CDN
    assert {runtime[part]["name"]: runtime[part]["integrity"] for part in ("script", "wasm")} == INTEGRITY


def test_the_settings_are_the_learners(site: dict[str, bytes], learner: Path) -> None:
    known, found = Learner(learner).metadata, settings(site)
    assert found["steps"] == known.adaptation.steps
    assert found["learning_rate"] == known.adaptation.learning_rate
    assert found["preprocessing"] == known.preprocessing.model_dump(mode="json")
    assert site["index.html"].count(b'<figure class="pad"') == 3 + 1


def test_the_version_is_the_one_that_the_browser_tests_install() -> None:
    package = json.loads((REPOSITORY / "tests" / "browser" / "package.json").read_text())
    assert package["devDependencies"]["onnxruntime-web"] == VERSION


def test_a_vendored_runtime_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, learner: Path) -> None:
    with pytest.raises(BundleError, match="the folder dist of the npm package onnxruntime-web"):
        demo_site(learner.read_bytes(), tmp_path)
    for name in INTEGRITY:
        (tmp_path / name).write_bytes(b"another version")
    with pytest.raises(BundleError, match=f"is not that of version {VERSION}"):
        vendored(tmp_path)
    monkeypatch.setattr("fewshot_sdk.web_runtime.INTEGRITY", dict.fromkeys(INTEGRITY, integrity(b"another version")))
    site = demo_site(learner.read_bytes(), tmp_path)
    assert site.keys() >= INTEGRITY.keys()
    page = Page(site["index.html"])
    assert "https:" not in page.policy
    assert json.loads(page.data)["runtime"]["base"] == ""


def test_the_command_writes_the_site_and_overwrites_nothing(
    learner: Path, site: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "site"
    app(["demo", "--init", str(learner), "--output", str(out)], standalone_mode=False)
    assert {name: (out / name).read_bytes() for name in site} == site
    with pytest.raises(SystemExit) as left:
        app(["demo", "--init", str(learner), "--output", str(out)])
    assert left.value.code == 1
    assert "already holds something" in capsys.readouterr().err


def test_a_file_that_is_no_learner_is_told(drawings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        app(["demo", "--init", str(drawings / "ant" / "0.png")])
    assert left.value.code == 1
    assert "is not an ONNX file" in capsys.readouterr().err


def test_it_serves_the_site_until_it_is_stopped(learner: Path, site: dict[str, bytes]) -> None:
    command = [sys.executable, "-m", "fewshot_cli.main", "demo", "--init", str(learner), "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "cli")])}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            found = re.search(r"http://127\.0\.0\.1:\d+/", process.stderr.readline())
            assert found
            for name, path in (("index.html", ""), ("worker.js", "worker.js?1"), ("learner.onnx", "learner.onnx")):
                with urllib.request.urlopen(found[0] + path, timeout=60) as answer:
                    assert answer.read() == site[name]
            for path in ("nothing", "../pyproject.toml"):
                with pytest.raises(urllib.error.HTTPError, match="404"):
                    urllib.request.urlopen(found[0] + path, timeout=60)
            elsewhere = urllib.request.Request(found[0], headers={"Host": "evil.example"})
            with pytest.raises(urllib.error.HTTPError, match="403"):
                urllib.request.urlopen(elsewhere, timeout=60)
            announced = urllib.request.Request(found[0], headers={"Content-Length": "1"})
            with pytest.raises(urllib.error.HTTPError, match="413"):
                urllib.request.urlopen(announced, timeout=60)
            process.send_signal(signal.SIGINT)
            assert process.wait(120) == 130
        finally:
            process.kill()
