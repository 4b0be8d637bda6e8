"""Web pages: the bundle around an exported file, the demo, and the onnxruntime-web that both run on."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from string import ascii_uppercase

from fewshot_sdk.config.onnx_file import OnnxMetadata
from fewshot_sdk.errors import BundleError, ExportError
from fewshot_sdk.runtime.learner import Learner
from fewshot_sdk.runtime.predictor import Predictor
from fewshot_sdk.storage.files import read_bounded
from fewshot_sdk.storage.rendering import render

VERSION = "1.30.0"
CDN = f"https://cdn.jsdelivr.net/npm/onnxruntime-web@{VERSION}/dist/"
SCRIPT, WASM = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"
INTEGRITY = {
    SCRIPT: "sha384-PLWz+nHEVHpjwBsO0YVdvQj6n5814Iv8E3b8FG0Rp/uIAtjFMCKOpP66iPzedrIG",
    WASM: "sha384-vjBJ1z7qrhkTyYsNqKeF6c7N+nOJSU94czEo+tvZcu8G75JparGq9kB+kTnEUNVM",
}
MAX_BYTES = 64 * 2**20
SAMPLES = "samples"  # the folder, here and in a bundle, of programs in other languages
BUNDLE_FILES = (
    "predict.py",
    "page.css",
    "bundle.css",
    "pictures.js",
    "pixels.js",
    "runtime.js",
    "answers.js",
    "bundle.js",
)
MODEL, READING = "model.onnx", "pictures.py"
DEMO_FILES = ("page.css", "demo.css", "pictures.js", "pixels.js", "runtime.js", "worker.js", "demo.js")
LEARNER = "learner.onnx"
N_WAY = 3


def integrity(data: bytes) -> str:
    """The hash that a browser checks: SHA-384 in base64.  Source: W3C, Subresource Integrity."""
    return "sha384-" + base64.b64encode(hashlib.sha384(data).digest()).decode()


def vendored(dist: Path) -> dict[str, bytes]:
    """The two files of onnxruntime-web that a page needs, by name, from the npm package's folder `dist`.

    Raises BundleError if one is missing, or not from VERSION.
    """
    contents = {}
    for name, wanted in INTEGRITY.items():
        advice = f"--vendor expects the folder dist of the npm package onnxruntime-web {VERSION}"
        contents[name] = read_bounded(dist / name, MAX_BYTES, BundleError, advice)
        if integrity(contents[name]) != wanted:
            raise BundleError(f"{dist / name} is not from version {VERSION}; {advice}")
    return contents


def runtime_settings(local: bool) -> dict[str, object]:
    """The settings of runtime.js: the address to fetch from, and each file's name and hash."""
    script, wasm = ({"name": name, "integrity": INTEGRITY[name]} for name in (SCRIPT, WASM))
    return {"base": "" if local else CDN, "script": script, "wasm": wasm}


def policy(local: bool) -> str:
    """The page's Content-Security-Policy: its own files, the runtime's, and the pictures that the user adds."""
    sources = "'self'" if local else f"'self' {CDN}"
    return (
        "default-src 'none'; script-src 'self' blob: 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' blob: data:; "
        f"media-src 'self' blob:; worker-src 'self'; connect-src {sources}; base-uri 'none'; form-action 'none'"
    )


def asset(name: str) -> bytes:
    """The bytes of a file in the folder `assets`."""
    return resources.files("fewshot_sdk").joinpath("web", "assets", name).read_bytes()


def samples() -> dict[str, bytes]:
    """The programs in other languages, by name: samples/LANGUAGE/FILE, and a README."""
    found, folders = {}, [(SAMPLES, resources.files("fewshot_sdk").joinpath("web", "assets", SAMPLES))]
    for path, folder in folders:
        for entry in folder.iterdir():
            if entry.is_dir():
                folders.append((f"{path}/{entry.name}", entry))
            else:
                found[f"{path}/{entry.name}"] = entry.read_bytes()
    return dict(sorted(found.items()))


def page(template: str, values: Mapping[str, object]) -> bytes:
    """The page made from a template in the folder `assets`."""
    return render(f"web/assets/{template}", **values).strip().encode() + b"\n"


def reading() -> bytes:
    """How predict.py reads pictures: the source of `images.decoding`, with an error of its own."""
    source = resources.files("fewshot_sdk").joinpath("images", "decoding.py").read_text(encoding="utf-8")
    own = 'class ImageError(ValueError):\n    """A picture that cannot be read; says why, and what to do."""\n'
    return source.replace("from fewshot_sdk.errors import ImageError\n", f"\n{own}").encode()


def deployment(model: bytes, title: str, vendor: Path | None = None) -> dict[str, bytes]:
    """A bundle's files by name: model.onnx, predict.py and its pictures.py, index.html with its parts, and samples.

    model: the bytes of a file by `export_onnx`; title: the page's name for it; vendor: as for `demo_site`.
    Raises BundleError if model or vendor are not as expected.
    """
    metadata = Predictor(model).metadata
    if metadata.raw:
        raise BundleError("a bundle needs a model that takes pictures, not one exported with --raw; leave out --raw")
    return _bundle(model, metadata, title, {} if vendor is None else vendored(vendor))


def redeployed(files: Mapping[str, bytes], model: bytes) -> dict[str, bytes]:
    """A bundle's files, made by `deployment`, with another model, and the page and program that belong to it."""
    title = re.search(r"<title>(.*)</title>", files["index.html"].decode())
    runtime = {name: files[name] for name in INTEGRITY if name in files}
    made = _bundle(model, Predictor(model).metadata, html.unescape(title[1]) if title else "", runtime)
    return {**files, **made}


def _bundle(model: bytes, metadata: OnnxMetadata, title: str, runtime: Mapping[str, bytes]) -> dict[str, bytes]:
    """runtime: the files of onnxruntime-web to put beside the page; none: it fetches them."""
    values = {
        "title": title,
        "labels": metadata.labels,
        "policy": policy(local=bool(runtime)),
        "settings": {
            "runtime": runtime_settings(local=bool(runtime)),
            "model": {"name": MODEL, "integrity": integrity(model)},
            "labels": metadata.labels,
            "preprocessing": metadata.preprocessing.model_dump(mode="json"),
        },
    }
    return {
        "index.html": page("bundle.html.j2", values),
        MODEL: model,
        READING: reading(),
        **{name: asset(name) for name in BUNDLE_FILES},
        **samples(),
        **runtime,
    }


def demo_site(learner: bytes, vendor: Path | None = None) -> dict[str, bytes]:
    """The demo's files by name, for any web host; index.html is the page.

    learner: the bytes of a file by `export_learner`; its head sets the number of classes, three if it takes any
    number; for a network that sees colours the page takes photographs, else drawings. vendor: the folder `dist` of the
    npm package onnxruntime-web, to copy beside the page; None: the page fetches onnxruntime-web from a public content
    delivery network and checks its hash.
    Raises BundleError if learner or vendor are not as expected, ExportError if the head has too many classes.
    """
    metadata = Learner(learner).metadata
    n_way = metadata.n_way or N_WAY
    if n_way > len(ascii_uppercase):
        raise ExportError(
            f"a demo has at most {len(ascii_uppercase)} classes, this initialization has {n_way}; take another one"
        )
    photographs = metadata.preprocessing.channels == 3  # a pen has no colours
    settings: Mapping[str, object] = {
        "runtime": runtime_settings(local=vendor is not None),
        "model": {"name": LEARNER, "integrity": integrity(learner)},
        "preprocessing": metadata.preprocessing.model_dump(mode="json"),
        "steps": metadata.adaptation.steps,
        "learning_rate": metadata.adaptation.learning_rate,
        "all_classes": metadata.n_way is not None,
        "photographs": photographs,
    }
    values = {
        "settings": settings,
        "photographs": photographs,
        "names": ascii_uppercase[:n_way],
        "origin": metadata.initialization.source or metadata.initialization.name,
        "policy": policy(local=vendor is not None),
    }
    return {
        "index.html": page("demo.html.j2", values),
        LEARNER: learner,
        **{name: asset(name) for name in DEMO_FILES},
        **(vendored(vendor) if vendor is not None else {}),
    }
