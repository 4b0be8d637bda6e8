"""What `fewshot export --bundle` writes; tests/browser opens its page."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewshot_cli.main import app
from fewshot_sdk import Predictor, adapt, export_onnx, save
from fewshot_sdk.artifacts.initialization import Initialization
from fewshot_sdk.errors import BundleError
from fewshot_sdk.web.deployment import deployment
from fewshot_sdk.web.web_runtime import CDN, integrity
from tests.conftest import draw_folder
from tests.web.test_demo import Page


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, init: Initialization) -> Path:
    folder = tmp_path_factory.mktemp("deployed")
    classifier = adapt(init, draw_folder(folder / "drawings", ("ant", "bee", "<b>cat</b>")), steps=5)
    return save(classifier, folder / "model")


@pytest.fixture(scope="module")
def bundle(model: Path) -> Path:
    app(["export", str(model), "--bundle", str(model.parent / "bundle")], standalone_mode=False)
    return model.parent / "bundle"


def test_its_program_says_what_the_predictor_says_and_needs_nothing_of_ours(bundle: Path, tmp_path: Path) -> None:
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
        f"import sys, runpy; sys.argv = {['predict.py', *names]!r}; runpy.run_path({str(bundle / 'predict.py')!r})\n"
    )
    program += (
        "import sys; assert not {'fewshot_sdk', 'torch', 'onnx'} & {name.partition('.')[0] for name in sys.modules}"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    for line, said in zip(done.stdout.splitlines(), Predictor(bundle / "model.onnx").predict(names), strict=True):
        label = said.label or f"unknown (nearest: {said.nearest})"
        assert line.split("  ")[1:] == [label, f"{said.probability:.1%}"]


def test_its_program_without_pictures_says_how_it_is_used(bundle: Path) -> None:
    done = subprocess.run([sys.executable, bundle / "predict.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "python predict.py PICTURE" in done.stderr


def test_its_program_is_short() -> None:
    from fewshot_sdk.web.web_runtime import asset

    assert len(asset("predict.py").decode().splitlines()) <= 30


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


def test_a_bundle_or_a_file_and_nothing_that_makes_no_sense(
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


def test_nothing_that_is_there_is_overwritten(model: Path, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(path.stat().st_mtime_ns for path in bundle.iterdir())
    with pytest.raises(SystemExit) as left:
        app(["export", str(model), "--bundle", str(bundle)])
    assert left.value.code == 1
    assert "already holds something" in capsys.readouterr().err
    assert sorted(path.stat().st_mtime_ns for path in bundle.iterdir()) == before


def test_a_file_that_takes_no_pictures_makes_no_bundle(init: Initialization, tmp_path: Path) -> None:
    raw = export_onnx(adapt(init, draw_folder(tmp_path / "drawings"), steps=1), tmp_path / "raw.onnx", raw=True)
    with pytest.raises(BundleError, match="leave out --raw"):
        deployment(raw.path.read_bytes(), "raw")
