"""Small recipes and data: every test runs without a data set and without a network."""

from __future__ import annotations

import io
import os
import socket
import zipfile
from collections.abc import Callable, Iterator
from ctypes import CDLL
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image

from fewshot_cli.main import app
from fewshot_sdk import save
from fewshot_sdk.artifacts.initialization import Initialization
from fewshot_sdk.config.presets import preset, with_algorithm
from fewshot_sdk.config.recipe import Conv4, Preprocessing, Recipe, Residual
from fewshot_sdk.data.class_images import ClassImages
from fewshot_sdk.data.glyphs import draw, glyph
from fewshot_sdk.data.tasks import TaskSampler
from fewshot_sdk.engine.compiler import library
from fewshot_sdk.meta.preparation import steps_left
from fewshot_sdk.meta.training import meta_train

REPOSITORY = Path(__file__).parent.parent
REAL_DATA = os.environ.get("FEWSHOT_DATA")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is read from or written to the user's cache; one cache for all test processes."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEWSHOT_CACHE", str(shared / "fewshot-cache"))
        patch.setenv("HF_HOME", str(shared / "hf-home"))
        patch.setenv("HF_HUB_DISABLE_XET", "1")  # LocalHub takes uploads by HTTP
        patch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens there: no Hub but a test's LocalHub
        for name in ("HF_TOKEN", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HUGGING_FACE_HUB_TOKEN"):
            patch.delenv(name, raising=False)
        patch.setenv("NO_COLOR", "1")
        patch.setenv("COLUMNS", "200")
        yield


@pytest.fixture(scope="session")
def _compiled(_own_cache: None) -> CDLL | None:
    """The inner loop, compiled by one test process while the others wait; None without a compiler."""
    with FileLock(Path(os.environ["FEWSHOT_CACHE"]).with_name("compiling.lock")):
        return library()


@pytest.fixture(scope="session")
def c_code(_compiled: CDLL | None) -> CDLL:
    if _compiled is None:
        pytest.skip("needs a C compiler")
    return _compiled


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    """What a test draws from PyTorch's global generator does not depend on the tests before it."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket.connect

    def connect(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise OSError(f"a test tried to reach {address[0]}")
        real(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command in this process: exit code, stdout, stderr."""

    def call(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            app([str(word) for word in words])
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    return call


def tiny_recipe(**changes: object) -> Recipe:
    """The glyphs preset, small enough for milliseconds: 16 x 16 pixels, 4 filters, 2 outer steps."""
    glyphs = preset("glyphs")
    small: dict[str, object] = {
        "preprocessing": glyphs.preprocessing.replace(height=16, width=16),
        "backbone": Conv4(filters=4),
        "meta": glyphs.meta.replace(meta_steps=2, tasks_per_step=2, k_shot=3),
    }
    return glyphs.replace(**{**small, **changes})


def means_recipe(preprocessing: Preprocessing) -> Recipe:
    """A small network for colours that stays as it is: class means of its features, then steps of SGD on the head."""
    tiny = tiny_recipe()
    loop = tiny.adaptation.replace(optimizer="sgd", learning_rate=0.01, batch_size=4, steps=3, loss_divisor=None)
    inner = tiny.inner.replace(optimizer="sgd")
    recipe = tiny.replace(preprocessing=preprocessing, backbone=Residual(widths=(8, 16)), inner=inner, adaptation=loop)
    return with_algorithm(recipe, "protonet").replace(adaptation=loop.replace(trainable="head"))


@pytest.fixture(scope="session")
def recipe(_own_cache: None) -> Recipe:
    return tiny_recipe()


@pytest.fixture(scope="session")
def few_glyphs(recipe: Recipe) -> ClassImages:
    """Thirty characters by twenty drawers, at the tiny recipe's size."""
    return drawn_glyphs(recipe)


def drawn_glyphs(recipe: Recipe, n_classes: int = 30) -> ClassImages:
    from fewshot_sdk.data.glyphs import glyphs

    return glyphs(n_classes, 20, recipe.preprocessing, seed=3)


@pytest.fixture(scope="session")
def sampler(recipe: Recipe, few_glyphs: ClassImages) -> TaskSampler:
    return TaskSampler(data=few_glyphs, n_way=recipe.meta.n_way, k_shot=recipe.meta.k_shot)


@pytest.fixture(scope="session")
def init(recipe: Recipe, sampler: TaskSampler, _compiled: CDLL | None) -> Initialization:
    *_, last = meta_train(recipe, sampler)
    return last.initialization


@pytest.fixture
def saved(init: Initialization, tmp_path: Path) -> Path:
    return save(init, tmp_path / "init")


@pytest.fixture
def drawings(tmp_path: Path) -> Path:
    """A support folder: three glyphs, four drawings each, 60 x 60 PNGs."""
    return draw_folder(tmp_path / "drawings")


def stopped_after(n: int) -> Callable[..., object]:
    """For `fewshot_sdk.meta.run.steps_left`: the same, but Ctrl-C comes after outer step n."""

    def steps(*given: Any) -> object:
        start, real = steps_left(*given)

        def until() -> Iterator[object]:
            for step in real:
                yield step
                if step.done == n:
                    raise KeyboardInterrupt

        return start, until()

    return steps


def draw_folder(folder: Path, labels: tuple[str, ...] = ("ant", "bee", "cat"), shots: int = 4, first: int = 0) -> Path:
    for index, label in enumerate(labels):
        (folder / label).mkdir(parents=True, exist_ok=True)
        for shot in range(first, first + shots):
            image = draw(glyph(7, index), np.random.default_rng((7, index, shot)), side=60)
            image.save(folder / label / f"{shot}.png")
    return folder


@pytest.fixture(scope="session")
def omniglot_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two zips of Omniglot's layout: 12 + 8 made-up characters by 20 drawers."""
    root = tmp_path_factory.mktemp("omniglot")
    for name, first, n in (("images_background", 0, 12), ("images_evaluation", 12, 8)):
        with zipfile.ZipFile(root / f"{name}.zip", "w") as archive:
            for c in range(first, first + n):
                for drawer in range(20):
                    data = io.BytesIO()
                    draw(glyph(1, c), np.random.default_rng((1, c, drawer))).convert("1").save(data, "PNG")
                    member = f"{name}/Alphabet_{c // 5}/character{c % 5 + 1:02}/{c + 1:04}_{drawer + 1:02}.png"
                    archive.writestr(member, data.getvalue())
    return root


@pytest.fixture(scope="session")
def real_omniglot() -> Path:
    if not REAL_DATA or not (Path(REAL_DATA) / "omniglot").is_dir():
        pytest.skip("FEWSHOT_DATA does not name a folder with omniglot/ in it")
    return Path(REAL_DATA) / "omniglot"


def photograph(seed: int, width: int = 120, height: int = 90) -> Image.Image:
    rng = np.random.default_rng(seed)
    whole = np.zeros((height, width, 3), np.float32)
    for cells in (3, 6, 12, 24):
        patches = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), np.uint8))
        whole += np.asarray(patches.resize((width, height), Image.Resampling.BICUBIC), np.float32) / cells**0.5
    return Image.fromarray((whole * (255 / whole.max())).astype(np.uint8))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three classes of five photographs, each different."""
    for index, label in enumerate(("cup", "jar", "mug")):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for shot in range(5):
            photograph(10 * index + shot).save(tmp_path / "photos" / label / f"{shot}.jpg", quality=90)
    return tmp_path / "photos"
