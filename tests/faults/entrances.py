"""What strangers' bytes are read by: for each kind of input some good ones, made here, and the function that takes them.

Each function gets the bytes and an empty folder, does what a command would, and raises a FewshotError or none; what it
returns is not looked at. A folder is a zip of its files.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from fewshot_sdk.adaptation.adaptation import adapt
from fewshot_sdk.adaptation.regressor import adapt_regressor
from fewshot_sdk.artifacts.classifier import Classifier, Delta
from fewshot_sdk.artifacts.initialization import (
    Initialization,
    fresh,
    fresh_for_numbers,
    load_checkpoint,
    load_checkpoint_of_numbers,
    save_checkpoint,
)
from fewshot_sdk.artifacts.opening import open_artifact, open_model
from fewshot_sdk.artifacts.regressor import Regressor
from fewshot_sdk.config.recipe_files import recipe_text
from fewshot_sdk.config.records import Provenance
from fewshot_sdk.config.regression import NUMBER_PRESETS
from fewshot_sdk.data.class_images import cached
from fewshot_sdk.errors import BundleError, FewshotError
from fewshot_sdk.export.classifier import export_onnx
from fewshot_sdk.export.regressor import export_regressor
from fewshot_sdk.images.decoding import FORMATS, decode
from fewshot_sdk.images.features import read_features
from fewshot_sdk.images.support import SupportSet, read_pictures
from fewshot_sdk.images.tables import read_numbers
from fewshot_sdk.runtime.adaptation import adapt_to_onnx
from fewshot_sdk.runtime.deltas import DeltaPredictor
from fewshot_sdk.runtime.learner import Learner
from fewshot_sdk.runtime.learners import learner_of
from fewshot_sdk.runtime.lineage import lineage
from fewshot_sdk.runtime.opening import open_file
from fewshot_sdk.runtime.predictor import Predictor
from fewshot_sdk.runtime.regressor import NumberPredictor
from fewshot_sdk.storage.deltas import STEP
from fewshot_sdk.storage.files import MANIFEST, manifest_of, save
from fewshot_sdk.storage.recipes import read_recipe
from fewshot_sdk.storage.runs import find_runs
from fewshot_sdk.storage.undoing import FORMAT as UNDO
from fewshot_sdk.storage.undoing import undo
from fewshot_sdk.web.server import application
from tests.conftest import draw_folder, means_recipe, tiny_recipe

Enter = Callable[[bytes, Path], object]
_BODIES = "fewshot.example"
_MADE = Provenance(command="none", seed=0, meta_steps_done=0, data_sha256="0" * 64, seconds=0, versions={})


@dataclass(frozen=True)
class Kind:
    """A kind of input. seeds: good ones, made in an empty folder; enter: reads one; only: see `mutation.mutated`."""

    seeds: Callable[[Path], Sequence[bytes]]
    enter: Enter
    only: str = ""


# --- what is good


@cache
def _init() -> Initialization:
    return fresh(tiny_recipe(), 0, _MADE)


@cache
def _support() -> SupportSet:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (6, 16, 16, 1), np.uint8)
    return SupportSet(labels=("ant", "bee"), images=images, targets=np.array([0, 0, 0, 1, 1, 1]))


@cache
def _classifier() -> Classifier:
    return adapt(_init(), _support(), steps=1)


@cache
def _regressor() -> Regressor:
    sine = NUMBER_PRESETS["sine"]
    points = np.array([[0, 0], [1, 0.8], [2, 0.9], [3, 0.1]], np.float32)
    return adapt_regressor(fresh_for_numbers(sine, _MADE), points, steps=1)


def pictures(folder: Path) -> list[bytes]:
    """Small pictures of every format that is read, in their modes and compressions."""
    drawn = Image.new("RGB", (24, 20), "white")
    ImageDraw.Draw(drawn).ellipse((3, 3, 18, 15), "red", "black")
    grey, exif = drawn.convert("L"), Image.Exif()
    exif[274] = 6
    wide = Image.fromarray(np.arange(480, dtype=np.uint16).reshape(20, 24) * 130)
    clear = drawn.convert("RGBA")
    clear.putalpha(grey)
    palette, frames = drawn.quantize(8), [grey.quantize(4), drawn.quantize(4)]
    wanted: list[tuple[Image.Image, str, dict[str, Any]]] = [
        (drawn, "JPEG", {"exif": exif, "quality": 60}), (drawn, "JPEG", {"progressive": True}), (grey, "JPEG", {}),
        (drawn.convert("CMYK"), "JPEG", {"icc_profile": b"\0" * 40}), (drawn, "PNG", {"exif": exif, "dpi": (9, 9)}),
        (clear, "PNG", {}), (palette, "PNG", {"transparency": 1}), (wide, "PNG", {}), (grey.convert("1"), "PNG", {}),
        (grey, "PNG", {"transparency": 3}), (drawn, "BMP", {}), (palette, "BMP", {}), (grey.convert("1"), "BMP", {}),
        (palette, "GIF", {"save_all": True, "append_images": frames, "transparency": 0}), (frames[0], "GIF", {}),
        (drawn, "WEBP", {"lossless": True}), (clear, "WEBP", {"quality": 40, "exif": exif}),
        (drawn, "WEBP", {"save_all": True, "append_images": [drawn.rotate(9)]}), (drawn, "TIFF", {}),
        *((drawn, "TIFF", {"compression": name}) for name in ("tiff_lzw", "tiff_deflate", "jpeg", "packbits")),
        *((grey.convert("1"), "TIFF", {"compression": name}) for name in ("group3", "group4")),
        (wide, "TIFF", {"compression": "tiff_adobe_deflate"}), (clear, "TIFF", {"save_all": True}),
        (drawn, "AVIF", {"quality": 30}), (clear, "AVIF", {}),
    ]  # fmt: skip
    found = []
    for image, form, settings in wanted:
        if form in FORMATS:
            data = io.BytesIO()
            image.save(data, form, **settings)
            found.append(data.getvalue())
    return [*found, *_heic(drawn)]


def _heic(picture: Image.Image) -> list[bytes]:
    try:
        from pillow_heif import from_pillow
    except ImportError:
        return []
    data = io.BytesIO()
    from_pillow(picture.resize((64, 64))).save(data, quality=30)
    return [data.getvalue()]


def _zipped(files: dict[str, bytes], kind: int = zipfile.ZIP_STORED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, data in files.items():
            member = zipfile.ZipInfo(name)
            member.compress_type = kind
            archive.writestr(member, data)
    return made.getvalue()


def zips(folder: Path) -> list[bytes]:
    """Zips of class folders, in four compressions, with a folder around them, and with a project's hidden file."""
    drawings = draw_folder(folder / "drawings", shots=1)
    files = {path.relative_to(drawings).as_posix(): path.read_bytes() for path in sorted(drawings.rglob("*.png"))}
    project = {".fewshot-project.json": b'{"format": "fewshot-sdk project 1", "classes": ["ant"], "steps": 3}'}
    compressions = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    return [
        *(_zipped(files, kind) for kind in compressions),
        _zipped({f"all/{name}".replace("ant", "\xe9t\xe9"): data for name, data in files.items()}),
        _zipped({f"train/{name}": data for name, data in files.items()}),
        _zipped({**files, **project}),
    ]


_TABLE = b'path,label,part\na.png,ant,train\nb.png,"bee",test\nsub/c.png,bee,val\n'
_NUMBERS = b"x,y\n0,0\n1,0.8\n2.5,-1e-3\n"
_FEATURES = b"label;x1;x2\nant;0,5;1\nbee;1e3;-2\nant;3;4\n"


def arrays(folder: Path) -> list[bytes]:
    """Files of NumPy's: .npy, and .npz with and without compression."""
    rows, labels = np.arange(12, dtype=np.float64).reshape(4, 3), np.array(["ant", "bee", "ant", "bee"])
    one, plain, packed = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.save(one, rows.astype(np.float16))
    np.savez(plain, features=rows, labels=labels)
    np.savez_compressed(packed, features=rows.astype(np.int32), labels=np.array([0, 1, 1, 0]))
    return [one.getvalue(), plain.getvalue(), packed.getvalue()]


def _folder_of(made: Initialization | Classifier | Regressor | Delta) -> bytes:
    files = made.files()
    return _zipped({**files, MANIFEST: manifest_of(files)})


@cache
def _delta() -> Delta:
    return Delta(classifier=_classifier(), base=_init(), precision="float16")


def artifacts(folder: Path) -> list[bytes]:
    """A folder of each kind but a delta."""
    adam = fresh(tiny_recipe(), 0, _MADE)
    numbers = fresh_for_numbers(NUMBER_PRESETS["sine"], _MADE)
    return [_folder_of(adam), _folder_of(_classifier()), _folder_of(_regressor()), _folder_of(numbers)]  # type: ignore[arg-type]


def deltas(folder: Path) -> list[bytes]:
    """A delta in each precision."""
    return [
        _folder_of(Delta(classifier=_classifier(), base=_init(), precision=precision))
        for precision in ("float16", "float32", "int8")
    ]


def recipes(folder: Path) -> list[bytes]:
    return [recipe_text(tiny_recipe()).encode(), recipe_text(NUMBER_PRESETS["sine"]).encode("utf-16")]


def checkpoints(folder: Path) -> list[bytes]:
    numbers = fresh_for_numbers(NUMBER_PRESETS["sine"], _MADE)
    return [save_checkpoint(init, folder / "a.checkpoint").read_bytes() for init in (_init(), numbers)]


def caches(folder: Path) -> list[bytes]:
    array = io.BytesIO()
    np.save(array, np.zeros((5, 4, 4, 1), np.uint8))
    files = {"images.npy": array.getvalue(), "classes.json": b'{"ant": 2, "bee": 3}'}
    return [_zipped({**files, MANIFEST: manifest_of(files)})]


def undo_files(folder: Path) -> list[bytes]:
    """Undo files about pictures that are not there, so that nothing is ever moved."""
    lines = [{"format": UNDO}]
    for i in range(3):
        move = {"from": f"/nowhere/fewshot/{i}.png", "to": f"ant/{i}.png", "inode": i, "size": 9, "mtime_ns": 10**18}
        lines.append(move)  # type: ignore[arg-type]
    return ["".join(json.dumps(line) + "\n" for line in lines).encode()]


def classifier_files(folder: Path) -> list[bytes]:
    made = export_onnx(_classifier(), folder / "a.onnx").path.read_bytes()
    raw = export_onnx(_classifier(), folder / "b.onnx", raw=True, heat_map=True).path.read_bytes()
    return [made, raw]


def learner_files(folder: Path) -> list[bytes]:
    """One whose steps move all weights, and one of the head alone."""
    inits = (_init(), fresh(means_recipe(tiny_recipe().preprocessing), 0, _MADE))
    return [learner_of(save(init, folder / str(i))) for i, init in enumerate(inits)]


def regressor_files(folder: Path) -> list[bytes]:
    return [export_regressor(_regressor(), folder / "a.onnx").path.read_bytes()]


def json_bodies(folder: Path) -> list[bytes]:
    tensor = {"name": "images", "shape": [1, 4, 4, 3], "datatype": "UINT8", "data": [7] * 48}
    limit = {"name": "threshold", "shape": [1], "datatype": "FP32", "data": [0.5]}
    nested = {**tensor, "data": np.zeros((1, 4, 4, 3), int).tolist()}
    wanted = [{"name": "probabilities"}, {"name": "known", "parameters": {"binary_data": True}}]
    bodies = ({"inputs": [tensor]}, {"id": "a", "inputs": [nested, limit], "outputs": wanted})
    return [json.dumps(body).encode() for body in bodies]


def binary_bodies(folder: Path) -> list[bytes]:
    """The length of the JSON in 8 bytes (it becomes a header), the JSON, and the pixels."""
    tensor = {"name": "images", "shape": [1, 4, 4, 3], "datatype": "UINT8", "parameters": {"binary_data_size": 48}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return [len(head).to_bytes(8, "little") + head + bytes(48)]


# --- what reads them


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
                if "/" not in member.filename and "\0" not in member.filename and member.filename not in ("", ".", ".."):
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
        save(_init(), base)
    refused = []
    for read in (_predict_by_delta, lambda at, _: open_model(at, _init())):
        try:
            read(target, base)
        except FewshotError as refusal:
            refused.append(refusal)
    if refused:
        raise refused[0]


def _predict_by_delta(target: Path, base: Path) -> None:
    predictor = DeltaPredictor(base)
    predictor.add("a", target)
    _check_rows(predictor.probabilities("a", _support().images), len(predictor.labels("a")))


def read_checkpoint(data: bytes, folder: Path) -> None:
    path = _written(data, folder, "a.checkpoint")
    find_runs(folder)
    try:
        load_checkpoint(path)
    except BundleError:
        load_checkpoint_of_numbers(path)


def read_cache(data: bytes, folder: Path) -> None:
    os.environ["FEWSHOT_CACHE"] = str(folder)
    pixels = {"ant": np.zeros((2, 4, 4, 1), np.uint8), "bee": np.ones((3, 4, 4, 1), np.uint8)}
    first = cached("glyphs of a test", lambda: pixels)
    (there,) = (path for path in folder.iterdir() if path.is_dir() and path.name.startswith("glyphs"))
    del first
    for path in there.iterdir():
        path.unlink()
    for path in _unzipped(data, folder).iterdir():
        path.rename(there / path.name)
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
    else:
        _adapt(found, folder)


def _adapt(learner: Learner, folder: Path) -> None:
    size = learner.metadata.preprocessing
    shape = (len(_support().images), size.height, size.width, size.channels)
    images = np.resize(_support().images, shape)
    support = SupportSet(labels=_support().labels, images=images, targets=_support().targets)
    adapt_to_onnx(learner, support, folder / "made.onnx", steps=2)


@cache
def _server() -> tuple[Any, asyncio.AbstractEventLoop]:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        predictor = Predictor(classifier_files(Path(folder))[0])
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
    "pictures": Kind(pictures, decode_picture),
    "zips and project zips": Kind(zips, read_zip),
    "CSVs of pictures": Kind(lambda _: [_TABLE, _TABLE.replace(b",", b";")], read_table),
    "CSVs of numbers": Kind(lambda _: [_NUMBERS], lambda data, at: read_numbers(_written(data, at, "a.csv"), ("x", "y"))),
    "CSVs of features": Kind(lambda _: [_FEATURES], lambda data, at: read_features(_written(data, at, "a.csv"))),
    "NumPy files": Kind(arrays, read_array),
    "config.json": Kind(artifacts, read_artifact, r"config\.json"),
    "manifest.json": Kind(artifacts, read_artifact, r"manifest\.json"),
    "safetensors": Kind(artifacts, read_artifact, r"\.safetensors"),
    "recipes": Kind(recipes, read_own_recipe),
    "classifier ONNX": Kind(classifier_files, run_file),
    "learner ONNX": Kind(learner_files, run_file),
    "regressor ONNX": Kind(regressor_files, run_file),
    "deltas": Kind(deltas, read_delta, rf"config\.json|{STEP}|\.safetensors"),
    "checkpoints": Kind(checkpoints, read_checkpoint),
    "data caches": Kind(caches, read_cache),
    "undo files": Kind(undo_files, read_undo),
    "bodies of infer, JSON": Kind(json_bodies, ask_in_json),
    "bodies of infer, binary": Kind(binary_bodies, ask_in_bytes),
    "bodies of predict": Kind(pictures, ask_about_a_picture),
}


def kinds() -> Iterator[str]:
    yield from KINDS
