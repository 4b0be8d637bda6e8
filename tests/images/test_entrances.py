"""Every kind of picture is seen alike, or refused alike, through whichever door it comes."""

from __future__ import annotations

import asyncio
import io
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from PIL import Image

from fewshot_sdk import Classifier, Predictor, adapt, export_onnx
from fewshot_sdk.artifacts.initialization import Initialization, fresh
from fewshot_sdk.config.recipe import Preprocessing
from fewshot_sdk.errors import ImageError
from fewshot_sdk.images.preprocessing import Picture, Pixels, read_image
from fewshot_sdk.web.pages import deployment
from fewshot_sdk.web.server import application
from tests.conftest import Run, tiny_recipe
from tests.images.kinds import KINDS
from tests.images.test_decoding import photo
from tests.images.test_preprocessing import encoded
from tests.web.test_limits import ask

SEEN = [name for name, kind in KINDS.items() if kind.refused is None]
REFUSED = [name for name, kind in KINDS.items() if kind.refused is not None]
SETTINGS = Preprocessing(height=24, width=20, channels=3, resize="bicubic", fit="crop", kept=0.875)

_PROGRAM = """
import json, runpy, sys
folder, *names = sys.argv[1:]
sys.path.insert(0, folder)
sys.argv = ["predict.py", names[0]]
program = runpy.run_path(folder + "/predict.py")
found = {}
for name in names:
    try:
        found[name] = program["session"].run(["probabilities"], {"images": program["read"](name)})[0][0].tolist()
    except program["ImageError"] as error:
        found[name] = str(error)
print(json.dumps(found))
assert not {"fewshot_sdk", "torch", "onnx"} & {name.partition(".")[0] for name in sys.modules}
"""


@dataclass(frozen=True)
class Doors:
    """The same classifier behind all entrances, and the files of all kinds."""

    classifier: Classifier
    onnx: Path
    predictor: Predictor
    bundle: Path
    files: dict[str, Path]


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory, init: Initialization) -> Doors:
    folder = tmp_path_factory.mktemp("doors")
    for seed, label in enumerate(("ant", "bee", "cat")):
        for shot in range(2):
            path = folder / "support" / label / f"{shot}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded(photo(80, 60, 10 * seed + shot), "PNG"))
    recipe = tiny_recipe(preprocessing=SETTINGS)
    classifier = adapt(fresh(recipe, 0, init.provenance), folder / "support", method="reptile", reject_rate=None)
    onnx = export_onnx(classifier, folder / "model.onnx").path
    bundle = folder / "bundle"
    bundle.mkdir()
    for name, data in deployment(onnx.read_bytes(), "model").items():
        (bundle / name).parent.mkdir(parents=True, exist_ok=True)
        (bundle / name).write_bytes(data)
    files = {}
    (folder / "files").mkdir()
    for name, kind in KINDS.items():
        files[name] = folder / "files" / name.replace(" ", "_").replace(":", "")
        files[name].write_bytes(kind.data())
    return Doors(classifier, onnx, Predictor(onnx), bundle, files)


@pytest.fixture(scope="module")
def expected(doors: Doors) -> dict[str, NDArray[np.float64]]:
    found = {name: doors.predictor.predict([doors.files[name]])[0].probabilities for name in SEEN}
    return {name: np.array(list(each.values())) for name, each in found.items()}


def rows(found: dict[str, float]) -> NDArray[np.float64]:
    return np.array(list(found.values()))


def whole(path: Path) -> Pixels:
    """The picture as whoever decodes it alone may feed it to the file."""
    return np.asarray(read_image(path).convert("RGB"))


def by_bytes(doors: Doors, path: Path) -> NDArray[np.float64]:
    return rows(doors.predictor.predict([path.read_bytes()])[0].probabilities)


def by_image(doors: Doors, path: Path) -> NDArray[np.float64]:
    with Image.open(path) as image:
        return rows(doors.predictor.predict([image])[0].probabilities)


def by_array(doors: Doors, path: Path) -> NDArray[np.float64]:
    return rows(doors.predictor.predict([whole(path)])[0].probabilities)


def by_batch(doors: Doors, path: Path) -> NDArray[np.float64]:
    return np.asarray(doors.predictor.probabilities(whole(path)[None])[0], np.float64)


def by_onnxruntime(doors: Doors, path: Path) -> NDArray[np.float64]:
    """As in C++: all pixels go into the graph."""
    session = onnxruntime.InferenceSession(doors.onnx, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["probabilities"], {"images": whole(path)[None]})[0][0], np.float64)


def by_torch(doors: Doors, path: Path) -> NDArray[np.float64]:
    return rows(doors.classifier.predict([path])[0].probabilities)


def by_server(doors: Doors, path: Path) -> NDArray[np.float64]:
    app = application(doors.predictor, "m")
    status, body = asyncio.run(ask(app, "/predict", path.read_bytes(), {"host": "localhost:8000"}))
    assert status == 200, body
    return rows(json.loads(body)["probabilities"])


ENTRANCES: dict[str, Callable[[Doors, Path], NDArray[np.float64]]] = {
    "bytes": by_bytes,
    "a Pillow image": by_image,
    "an array": by_array,
    "a batch": by_batch,
    "onnxruntime": by_onnxruntime,
    "PyTorch": by_torch,
    "the server": by_server,
}


@pytest.mark.parametrize("entrance", ENTRANCES)
def test_every_kind_of_picture_gets_the_same_answer(
    entrance: str, doors: Doors, expected: dict[str, NDArray[np.float64]]
) -> None:
    for name in SEEN:
        if not (entrance == "a Pillow image" and "heic" in name):  # which Pillow alone does not open
            found = ENTRANCES[entrance](doors, doors.files[name])
            np.testing.assert_allclose(found, expected[name], rtol=0, atol=1e-6, err_msg=name)


def test_the_kinds_get_different_answers(expected: dict[str, NDArray[np.float64]]) -> None:
    for name in {"heic turned", "avif turned"} & expected.keys():
        away = {other: np.abs(expected[other] - expected[name]).max() for other in ("jpeg", "jpeg turned 6")}
        assert 3 * away["jpeg turned 6"] < away["jpeg"]
    assert np.abs(expected["jpeg"] - expected["png alpha"]).max() > 1e-4
    assert np.abs(expected["jpeg"] - expected["jpeg turned 1"]).max() == 0
    assert np.abs(expected["jpeg"] - expected["jpeg turned 3"]).max() > 1e-4


def test_kserve_gets_the_same_answer(doors: Doors, expected: dict[str, NDArray[np.float64]]) -> None:
    for name in ("jpeg", "png alpha", "jpeg turned 6", "png 16-bit"):
        pixels = whole(doors.files[name])
        tensor = {"name": "images", "shape": [1, *pixels.shape], "datatype": "UINT8", "data": pixels.ravel().tolist()}
        body = json.dumps({"inputs": [tensor]}).encode()
        status, answer = asyncio.run(ask(application(doors.predictor, "m"), "/v2/models/m/infer", body))
        assert status == 200
        found = json.loads(answer)["outputs"][0]["data"]
        np.testing.assert_allclose(found, expected[name], rtol=0, atol=1e-6, err_msg=name)


def test_the_command_gets_the_same_answer(doors: Doors, expected: dict[str, NDArray[np.float64]], run: Run) -> None:
    code, out, _ = run("predict", doors.onnx, *(doors.files[name] for name in SEEN), "--json")
    assert code == 0
    for name, found in zip(SEEN, json.loads(out), strict=True):
        np.testing.assert_allclose(rows(found["probabilities"]), expected[name], rtol=0, atol=1e-6, err_msg=name)


def test_a_bundles_program_gives_the_same_answers_and_refusals(
    doors: Doors, expected: dict[str, NDArray[np.float64]]
) -> None:
    names = {name: str(doors.files[name]) for name in (*SEEN, *REFUSED)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", _PROGRAM, str(doors.bundle), *names.values()],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    for name in SEEN:
        np.testing.assert_allclose(found[names[name]], expected[name], rtol=0, atol=1e-6, err_msg=name)
    for name in REFUSED:
        assert found[names[name]] == refusal(lambda: read_image(names[name]))  # noqa: B023


def refusal(read: Callable[[], object]) -> str:
    with pytest.raises(ImageError) as error:
        read()
    return str(error.value)


@pytest.mark.parametrize("name", REFUSED)
def test_every_entrance_refuses_alike(name: str, doors: Doors, run: Run) -> None:
    path, wanted = doors.files[name], KINDS[name].refused
    by_path = refusal(lambda: doors.predictor.predict([path]))
    assert by_path.startswith(f"{path} {wanted}")
    sentence = by_path.removeprefix(str(path))
    data = path.read_bytes()
    readers: list[Callable[[], object]] = [
        lambda: doors.predictor.predict([data]), lambda: doors.classifier.predict([data]),
    ]  # fmt: skip
    for read in readers:
        assert refusal(read).removeprefix("the image") == sentence.replace(path.name, "'the image'")
    code, _, err = run("predict", doors.onnx, path)
    assert (code, err.strip()) == (1, f"error: {by_path}")
    if data:
        status, answer = asyncio.run(ask(application(doors.predictor, "m"), "/predict", data))
        assert (status, json.loads(answer)["error"]) == (400, refusal(readers[0]))


@pytest.mark.parametrize("name", ["tiff of integers", "tiff of floats", "half a jpeg", "half a png"])
def test_an_open_image_is_refused_alike(name: str, doors: Doors) -> None:
    source: Picture = Image.open(io.BytesIO(doors.files[name].read_bytes()))
    assert refusal(lambda: doors.predictor.predict([source])).startswith(f"the image {KINDS[name].refused}")


def test_arrays_and_open_images_are_under_the_limits_of_files(doors: Doors) -> None:
    strip = np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (1, 16_385, 3))
    wanted = "the image is 16385 x 1 pixels; at most 16,384 a side and 50,000,000 in total are read"
    sources: list[Picture] = [np.ascontiguousarray(strip), Image.new("RGB", (16_385, 1))]
    for source in sources:
        assert refusal(lambda: doors.predictor.predict([source])).startswith(wanted)  # noqa: B023
    assert refusal(lambda: doors.predictor.probabilities(strip[None])).startswith(wanted)
