"""Good files and bodies of every kind that is read from strangers, small and made here; the fuzzer damages them."""

from __future__ import annotations

import io
import json
import zipfile
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
    save_checkpoint,
)
from fewshot_sdk.artifacts.regressor import Regressor
from fewshot_sdk.config.recipe_files import recipe_text
from fewshot_sdk.config.records import Provenance
from fewshot_sdk.config.regression import NUMBER_PRESETS
from fewshot_sdk.export.classifier import export_onnx
from fewshot_sdk.export.regressor import export_regressor
from fewshot_sdk.images.decoding import FORMATS
from fewshot_sdk.images.support import SupportSet
from fewshot_sdk.runtime.learners import learner_of
from fewshot_sdk.storage.files import MANIFEST, manifest_of, save
from fewshot_sdk.storage.undoing import FORMAT as UNDO
from tests.conftest import draw_folder, means_recipe, tiny_recipe

_BODIES = "fewshot.example"
_MADE = Provenance(command="none", seed=0, meta_steps_done=0, data_sha256="0" * 64, seconds=0, versions={})


@cache
def an_initialization() -> Initialization:
    return fresh(tiny_recipe(), 0, _MADE)


@cache
def support_set() -> SupportSet:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (6, 16, 16, 1), np.uint8)
    return SupportSet(labels=("ant", "bee"), images=images, targets=np.array([0, 0, 0, 1, 1, 1]))


@cache
def _classifier() -> Classifier:
    return adapt(an_initialization(), support_set(), steps=1)


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


TABLE = b'path,label,part\na.png,ant,train\nb.png,"bee",test\nsub/c.png,bee,val\n'
NUMBERS = b"x,y\n0,0\n1,0.8\n2.5,-1e-3\n"
FEATURES = b"label;x1;x2\nant;0,5;1\nbee;1e3;-2\nant;3;4\n"


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
    return Delta(classifier=_classifier(), base=an_initialization(), precision="float16")


def artifacts(folder: Path) -> list[bytes]:
    """A folder of each kind but a delta."""
    adam = fresh(tiny_recipe(), 0, _MADE)
    numbers = fresh_for_numbers(NUMBER_PRESETS["sine"], _MADE)
    return [_folder_of(adam), _folder_of(_classifier()), _folder_of(_regressor()), _folder_of(numbers)]  # type: ignore[arg-type]


def deltas(folder: Path) -> list[bytes]:
    """A delta in each precision."""
    return [
        _folder_of(Delta(classifier=_classifier(), base=an_initialization(), precision=precision))
        for precision in ("float16", "float32", "int8")
    ]


def recipes(folder: Path) -> list[bytes]:
    return [recipe_text(tiny_recipe()).encode(), recipe_text(NUMBER_PRESETS["sine"]).encode("utf-16")]


def checkpoints(folder: Path) -> list[bytes]:
    numbers = fresh_for_numbers(NUMBER_PRESETS["sine"], _MADE)
    return [save_checkpoint(init, folder / "a.checkpoint").read_bytes() for init in (an_initialization(), numbers)]


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
    inits = (an_initialization(), fresh(means_recipe(tiny_recipe().preprocessing), 0, _MADE))
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
