"""What reads strangers' bytes: for each kind of input its good files and the function that takes it.

Each function gets the bytes and an empty folder, does what a command would, and raises a FewshotError or none. What a
folder holds comes as a zip of its files.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import tempfile
import zipfile
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from PIL import Image

from fewshot_sdk.artifacts.initialization import (
    load_checkpoint,
    load_checkpoint_of_numbers,
)
from fewshot_sdk.artifacts.opening import open_artifact, open_model
from fewshot_sdk.data.class_images import cached
from fewshot_sdk.errors import BundleError, FewshotError
from fewshot_sdk.images.decoding import decode
from fewshot_sdk.images.features import read_features
from fewshot_sdk.images.support import SupportSet, read_pictures
from fewshot_sdk.images.tables import read_numbers
from fewshot_sdk.runtime.adaptation import adapt_to_onnx
from fewshot_sdk.runtime.deltas import DeltaPredictor
from fewshot_sdk.runtime.learner import Learner
from fewshot_sdk.runtime.lineage import lineage
from fewshot_sdk.runtime.opening import open_file
from fewshot_sdk.runtime.predictor import Predictor
from fewshot_sdk.runtime.regressor import NumberPredictor
from fewshot_sdk.storage.deltas import STEP
from fewshot_sdk.storage.files import save
from fewshot_sdk.storage.recipes import read_recipe
from fewshot_sdk.storage.runs import find_runs
from fewshot_sdk.storage.undoing import undo
from fewshot_sdk.web.server import application
from tests.conftest import tiny_recipe
from tests.faults import good_files
from tests.faults.good_files import an_initialization, support_set
from tests.faults.mutation import Kind

_BODIES = "fewshot.example"


def _written(data: bytes, folder: Path, name: str) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def _unzipped(data: bytes, folder: Path) -> Path:
    """The folder in a zip; names that are no plain ones are left out."""
    target = folder / "folder"
    target.mkdir()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for member in archive.infolist():
                if (
                    "/" not in member.filename
                    and "\0" not in member.filename
                    and member.filename not in ("", ".", "..")
                ):
                    (target / member.filename[:99]).write_bytes(archive.read(member))
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError, NotImplementedError):
        pass  # the folder is as far as it goes
    return target


def decode_picture(data: bytes, folder: Path) -> None:
    seen = decode(data, "a picture")
    if seen.mode not in ("L", "RGB") or not seen.tobytes():
        raise AssertionError(f"a picture of mode {seen.mode}")


def read_zip(data: bytes, folder: Path) -> None:
    read_pictures(_written(data, folder, "a.zip"), tiny_recipe().preprocessing).support()


def read_table(data: bytes, folder: Path) -> None:
    (folder / "sub").mkdir()
    for name in ("a.png", "b.png", "sub/c.png"):
        Image.new("L", (8, 8), 200).save(folder / name)
    read_pictures(_written(data, folder, "a.csv"), tiny_recipe().preprocessing).support()


def read_array(data: bytes, folder: Path) -> None:
    path = _written(data, folder, "a.npy" if data[:6] == b"\x93NUMPY" else "a.npz")
    found = read_features(path)
    if found.labels:
        found.support()


def read_own_recipe(data: bytes, folder: Path) -> None:
    read_recipe(_written(data, folder, "a.toml"))


def read_artifact(data: bytes, folder: Path) -> None:
    target = _unzipped(data, folder)
    open_artifact(target)
    lineage(target)


def read_delta(data: bytes, folder: Path) -> None:
    target, base = _unzipped(data, folder), folder.parent / "base"
    if not base.exists():
        save(an_initialization(), base)
    refused = []
    for read in (_predict_by_delta, lambda at, _: open_model(at, an_initialization())):
        try:
            read(target, base)
        except FewshotError as refusal:
            refused.append(refusal)
    if refused:
        raise refused[0]


def _predict_by_delta(target: Path, base: Path) -> None:
    predictor = DeltaPredictor(base)
    predictor.add("a", target)
    _check_rows(predictor.probabilities("a", support_set().images), len(predictor.labels("a")))


def read_checkpoint(data: bytes, folder: Path) -> None:
    path = _written(data, folder, "a.checkpoint")
    find_runs(folder)
    try:
        load_checkpoint(path)
    except BundleError:
        load_checkpoint_of_numbers(path)


def read_cache(data: bytes, folder: Path) -> None:
    pixels = {"ant": np.zeros((2, 4, 4, 1), np.uint8), "bee": np.ones((3, 4, 4, 1), np.uint8)}
    with patch.dict(os.environ, {"FEWSHOT_CACHE": str(folder)}):
        cached("glyphs of a test", lambda: pixels)
        (there,) = folder.glob("glyphs*")
        shutil.rmtree(there)
        _unzipped(data, folder).rename(there)
        found = cached("glyphs of a test", lambda: pixels)
    for c in range(found.n_classes):
        found.take(c, range(found.n_images(c)))


def read_undo(data: bytes, folder: Path) -> None:
    undo(_written(data, folder, "undo-20200101-000000.jsonl"))


def _check_rows(rows: np.ndarray[Any, Any], n_way: int) -> None:
    if rows.shape != (6, n_way) or not np.isfinite(rows).all():
        raise AssertionError(f"answers {rows.shape}, expected (6, {n_way}), finite")


def run_file(data: bytes, folder: Path) -> None:
    """What `predict` or `adapt` does with an ONNX file, which may say that it is another than the seed was."""
    path = _written(data, folder, "a.onnx")
    lineage(path)
    found = open_file(path)
    if isinstance(found, NumberPredictor):
        answers = found.predict(np.zeros((3, len(found.inputs)), np.float32))
        if answers.shape != (3,) or not np.isfinite(answers).all():
            raise AssertionError(f"answers {answers}")
    elif isinstance(found, Predictor):
        images = [np.full((16, 16, 3), 40 * i, np.uint8) for i in range(6)]
        rows = [list(each.probabilities.values()) for each in found.predict(images)]
        _check_rows(np.asarray(rows), len(found.labels))
    elif isinstance(found, Learner):
        _adapt(found, folder)


def _adapt(learner: Learner, folder: Path) -> None:
    size = learner.metadata.preprocessing
    shape = (len(support_set().images), size.height, size.width, size.channels)
    images = np.resize(support_set().images, shape)
    support = SupportSet(labels=support_set().labels, images=images, targets=support_set().targets)
    adapt_to_onnx(learner, support, folder / "made.onnx", steps=2)


@cache
def _server() -> tuple[Any, asyncio.AbstractEventLoop]:
    with tempfile.TemporaryDirectory() as folder:
        predictor = Predictor(good_files.classifier_files(Path(folder))[0])
    return application(predictor, "m", hosts=(_BODIES,)), asyncio.new_event_loop()


def _post(path: str, body: bytes, headers: dict[str, str], query: str = "") -> tuple[int, bytes]:
    """The status and the body of the server's answer."""
    app, loop = _server()
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    pairs = {"host": _BODIES, "content-length": str(len(body)), **headers}
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": query.encode(), "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in pairs.items()],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2),
    }  # fmt: skip
    loop.run_until_complete(app(scope, receive, send))
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


def _ask(path: str, body: bytes, headers: dict[str, str]) -> None:
    status, answer = _post(path, body, headers)
    if status == 200:
        if headers["content-type"] == "application/json" or path == "/predict":
            json.loads(answer.partition(b"}]}")[0] + b"}]}" if b'"binary_data_size"' in answer else answer)
        return
    reason = json.loads(answer)["error"]
    if status not in (400, 413, 415):
        raise AssertionError(f"status {status}: {reason}")
    raise BundleError(" ".join(reason.split()))  # in JSON its line ends are escaped


def ask_in_json(data: bytes, folder: Path) -> None:
    _ask("/v2/models/m/infer", data, {"content-type": "application/json"})


def ask_in_bytes(data: bytes, folder: Path) -> None:
    size = str(int.from_bytes(data[:8], "little"))
    kind = {"content-type": "application/octet-stream", "inference-header-content-length": size}
    _ask("/v2/models/m/infer", data[8:], kind)


def ask_about_a_picture(data: bytes, folder: Path) -> None:
    _ask("/predict", data, {"content-type": "application/octet-stream"})


KINDS: dict[str, Kind] = {
    "pictures": Kind(good_files.pictures, decode_picture),
    "zips and project zips": Kind(good_files.zips, read_zip),
    "CSVs of pictures": Kind(lambda _: [good_files.TABLE, good_files.TABLE.replace(b",", b";")], read_table),
    "CSVs of numbers": Kind(
        lambda _: [good_files.NUMBERS], lambda data, at: read_numbers(_written(data, at, "a.csv"), ("x", "y"))
    ),
    "CSVs of features": Kind(
        lambda _: [good_files.FEATURES], lambda data, at: read_features(_written(data, at, "a.csv"))
    ),
    "NumPy files": Kind(good_files.arrays, read_array),
    "config.json": Kind(good_files.artifacts, read_artifact, r"config\.json"),
    "manifest.json": Kind(good_files.artifacts, read_artifact, r"manifest\.json"),
    "safetensors": Kind(good_files.artifacts, read_artifact, r"\.safetensors"),
    "recipes": Kind(good_files.recipes, read_own_recipe),
    "classifier ONNX": Kind(good_files.classifier_files, run_file),
    "learner ONNX": Kind(good_files.learner_files, run_file),
    "regressor ONNX": Kind(good_files.regressor_files, run_file),
    "deltas": Kind(good_files.deltas, read_delta, rf"config\.json|{STEP}|\.safetensors"),
    "checkpoints": Kind(good_files.checkpoints, read_checkpoint),
    "data caches": Kind(good_files.caches, read_cache),
    "undo files": Kind(good_files.undo_files, read_undo),
    "bodies of infer, JSON": Kind(good_files.json_bodies, ask_in_json),
    "bodies of infer, binary": Kind(good_files.binary_bodies, ask_in_bytes),
    "bodies of predict": Kind(good_files.pictures, ask_about_a_picture),
}
