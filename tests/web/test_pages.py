"""Pages: the bundle around an exported file, and the demo."""

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

import numpy as np
import pytest
from PIL import Image

from fewshot_cli.main import app
from fewshot_sdk import Learner, Predictor, adapt, export_learner, export_onnx, save
from fewshot_sdk.artifacts.initialization import Initialization, fresh
from fewshot_sdk.config.onnx_file import Parity
from fewshot_sdk.errors import BundleError
from fewshot_sdk.web.pages import CDN, INTEGRITY, VERSION, demo_site, deployment, integrity, vendored
from tests.conftest import REPOSITORY, draw_folder


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


def test_the_policy_allows_only_the_pages_own_files_and_the_runtime(site: dict[str, bytes]) -> None:
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
    metadata, found = Learner(learner).metadata, settings(site)
    assert found["steps"] == metadata.adaptation.steps
    assert found["learning_rate"] == metadata.adaptation.learning_rate
    assert found["preprocessing"] == metadata.preprocessing.model_dump(mode="json")
    assert site["index.html"].count(b'<figure class="pad"') == 3 + 1


def test_the_version_is_the_one_that_the_browser_tests_install() -> None:
    package = json.loads((REPOSITORY / "tests" / "browser" / "package.json").read_text())
    assert package["devDependencies"]["onnxruntime-web"] == VERSION


def test_the_page_takes_photographs_where_the_network_sees_colours(
    init: Initialization, site: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agreed = Parity(images=1, max_difference=0)  # of an untrained network it is chance, and not what is tested
    monkeypatch.setattr("fewshot_sdk.export.learner._parity", lambda *_: (agreed, 0.0))
    sees = init.recipe.preprocessing.replace(channels=3, mean=(0.5,), std=(0.5,))
    recipe = init.recipe.replace(preprocessing=sees)
    colours = demo_site(export_learner(fresh(recipe, 0, init.provenance), tmp_path / "colours.onnx").path.read_bytes())
    assert settings(colours)["photographs"]
    assert b"draw" not in colours["index.html"].lower()
    assert not settings(site)["photographs"]
    assert b"photograph" not in site["index.html"].replace(b'"photographs"', b"")


def test_a_vendored_runtime_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, learner: Path) -> None:
    with pytest.raises(BundleError, match="the folder dist of the npm package onnxruntime-web"):
        demo_site(learner.read_bytes(), tmp_path)
    for name in INTEGRITY:
        (tmp_path / name).write_bytes(b"another version")
    with pytest.raises(BundleError, match=f"is not from version {VERSION}"):
        vendored(tmp_path)
    monkeypatch.setattr("fewshot_sdk.web.pages.INTEGRITY", dict.fromkeys(INTEGRITY, integrity(b"another version")))
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


def test_a_file_that_is_not_a_learner_is_refused(drawings: Path, capsys: pytest.CaptureFixture[str]) -> None:
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


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, init: Initialization) -> Path:
    folder = tmp_path_factory.mktemp("deployed")
    classifier = adapt(init, draw_folder(folder / "drawings", ("ant", "bee", "<b>cat</b>")), steps=5, reject_rate=None)
    return save(classifier, folder / "model")


@pytest.fixture(scope="module")
def bundle(model: Path) -> Path:
    app(["export", str(model), "--bundle", str(model.parent / "bundle")], standalone_mode=False)
    return model.parent / "bundle"


def test_its_program_agrees_with_the_predictor_and_needs_nothing_of_ours(bundle: Path, tmp_path: Path) -> None:
    pictures = sorted((bundle.parent / "drawings").rglob("*.png"))
    wide = Image.open(pictures[0]).convert("RGBA")
    turned = Image.new("RGBA", (90, 60), (0, 0, 0, 0))
    turned.paste(wide, (15, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side
    turned.save(tmp_path / "clear.png")
    turned.convert("RGB").save(tmp_path / "turned.jpg", exif=exif)
    deep = np.asarray(Image.open(pictures[1]).convert("L")).astype(np.uint16) * 257
    Image.fromarray(deep).save(tmp_path / "deep.png")
    names = [str(path) for path in [*pictures, *sorted(tmp_path.iterdir())]]
    program = (
        f"import sys, runpy; sys.argv = {['predict.py', *names]!r}; sys.path.insert(0, {str(bundle)!r})\n"
        f"runpy.run_path({str(bundle / 'predict.py')!r})\n"
    )
    program += (
        "import sys; assert not {'fewshot_sdk', 'torch', 'onnx'} & {name.partition('.')[0] for name in sys.modules}"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    for line, prediction in zip(done.stdout.splitlines(), Predictor(bundle / "model.onnx").predict(names), strict=True):
        label = prediction.label or f"unknown (nearest: {prediction.nearest})"
        assert line.split("  ")[1:] == [label, f"{prediction.probability:.1%}"]


def test_its_program_without_pictures_prints_its_usage(bundle: Path) -> None:
    done = subprocess.run([sys.executable, bundle / "predict.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "python predict.py PICTURE" in done.stderr


def test_its_program_names_a_file_that_is_no_picture_and_prints_any_name(bundle: Path, tmp_path: Path) -> None:
    picture = sorted((bundle.parent / "drawings").rglob("*.png"))[0]
    strange = tmp_path / "猫.png"
    strange.write_bytes(picture.read_bytes())
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}

    def run(path: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(bundle / "predict.py"), str(path)]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)

    unread, other = "cannot be read as a picture: ", "is not a picture this program reads ("
    for wrong, said in ((tmp_path, unread), (tmp_path / "missing.png", unread), (bundle / "predict.py", other)):
        done = run(wrong)
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1), done.stderr
        assert done.stderr.startswith(f"{wrong} {said}")
    done = run(strange)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\u732b.png  " in done.stdout


def test_its_program_is_short() -> None:
    from fewshot_sdk.web.pages import asset

    assert len(asset("predict.py").decode().splitlines()) <= 40


def test_its_page_names_only_files_that_are_there_and_asks_only_for_the_runtime(bundle: Path) -> None:
    page = Page((bundle / "index.html").read_bytes())
    beside = [link for link in page.links if not link.startswith("data:")]
    assert len(beside) >= 4
    assert all((bundle / name).is_file() for name in beside)
    assert f"connect-src 'self' {CDN};" in page.policy
    assert "unsafe-inline" not in page.policy


def test_its_page_knows_the_labels_and_the_models_hash(bundle: Path) -> None:
    text = (bundle / "index.html").read_bytes()
    settings = json.loads(Page(text).data)
    assert settings["labels"] == list(Predictor(bundle / "model.onnx").labels)
    assert settings["model"]["integrity"] == integrity((bundle / "model.onnx").read_bytes())
    assert b"<b>cat" not in text


def test_options_that_make_no_sense_together_are_refused(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    for words in (
        [],
        ["--bundle", out, "--output", out],
        ["--bundle", out, "--raw"],
        ["--output", out, "--vendor", out],
    ):
        with pytest.raises(SystemExit) as left:
            app(["export", str(model), *words])
        assert left.value.code == 2
    assert not any(tmp_path.iterdir())


def test_an_existing_bundle_is_not_overwritten(model: Path, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(path.stat().st_mtime_ns for path in bundle.iterdir())
    with pytest.raises(SystemExit) as left:
        app(["export", str(model), "--bundle", str(bundle)])
    assert left.value.code == 1
    assert "already holds something" in capsys.readouterr().err
    assert sorted(path.stat().st_mtime_ns for path in bundle.iterdir()) == before


def test_a_file_that_takes_no_pictures_makes_no_bundle(init: Initialization, tmp_path: Path) -> None:
    raw = export_onnx(
        adapt(init, draw_folder(tmp_path / "drawings"), steps=1, reject_rate=None), tmp_path / "raw.onnx", raw=True
    )
    with pytest.raises(BundleError, match="leave out --raw"):
        deployment(raw.path.read_bytes(), "raw")
