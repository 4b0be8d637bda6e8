"""Web pages: onnxruntime-web beside them, a bundle around an exported file, and the demo."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from string import ascii_uppercase

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
BUNDLE_FILES = ("predict.py", "page.css", "bundle.css", "pictures.js", "runtime.js", "bundle.js")
MODEL = "model.onnx"
DEMO_FILES = ("page.css", "demo.css", "pictures.js", "pixels.js", "runtime.js", "worker.js", "demo.js")
LEARNER = "learner.onnx"
N_WAY = 3


def integrity(data: bytes) -> str:
    """The hash that a browser compares: sha384, in base64.  Source: W3C, Subresource Integrity."""
    return "sha384-" + base64.b64encode(hashlib.sha384(data).digest()).decode()


def vendored(dist: Path) -> dict[str, bytes]:
    """The two files of onnxruntime-web that a page needs, by name, from the npm package's folder `dist`.

    Raises BundleError if they are not there, or not those of VERSION.
    """
    contents = {}
    for name, wanted in INTEGRITY.items():
        advice = f"--vendor takes the folder dist of the npm package onnxruntime-web {VERSION}"
        contents[name] = read_bounded(dist / name, MAX_BYTES, BundleError, advice)
        if integrity(contents[name]) != wanted:
            raise BundleError(f"{dist / name} is not that of version {VERSION}; {advice}")
    return contents


def runtime_settings(local: bool) -> dict[str, object]:
    """What runtime.js has to know: the folder to fetch from, and each file's name and hash."""
    script, wasm = ({"name": name, "integrity": INTEGRITY[name]} for name in (SCRIPT, WASM))
    return {"base": "" if local else CDN, "script": script, "wasm": wasm}


def policy(local: bool) -> str:
    """The page's Content-Security-Policy: its own files, the runtime's, and pictures the user gives it."""
    own = "'self'" if local else f"'self' {CDN}"
    return (
        "default-src 'none'; script-src 'self' blob: 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' blob: data:; "
        f"media-src 'self' blob:; worker-src 'self'; connect-src {own}; base-uri 'none'; form-action 'none'"
    )


def asset(name: str) -> bytes:
    """A file of the folder `assets`."""
    return resources.files("fewshot_sdk").joinpath("web", "assets", name).read_bytes()


def page(template: str, values: Mapping[str, object]) -> bytes:
    """A template of the folder `assets`, filled in."""
    return render(f"web/assets/{template}", **values).strip().encode() + b"\n"


def deployment(model: bytes, title: str, vendor: Path | None = None) -> dict[str, bytes]:
    """The files by name: model.onnx, predict.py for the shell, and index.html with its parts for any web host.

    model: the bytes of a file by `export_onnx`; title: what the page calls it; vendor: as for `demo.demo_site`.
    Raises BundleError if model or vendor are not what they should be.
    """
    known = Predictor(model).metadata
    if known.raw:
        raise BundleError("a bundle takes pictures, and a file exported with --raw takes none; leave out --raw")
    values = {
        "title": title,
        "labels": known.labels,
        "policy": policy(local=vendor is not None),
        "settings": {
            "runtime": runtime_settings(local=vendor is not None),
            "model": {"name": MODEL, "integrity": integrity(model)},
            "labels": known.labels,
        },
    }
    return {
        "index.html": page("bundle.html.j2", values),
        MODEL: model,
        **{name: asset(name) for name in BUNDLE_FILES},
        **(vendored(vendor) if vendor is not None else {}),
    }


def demo_site(learner: bytes, vendor: Path | None = None) -> dict[str, bytes]:
    """The site's files by name, for any web host; index.html is the page.

    learner: the bytes of a file by `export_learner`; its head decides how many characters there are, three if it
    takes any number. vendor: the folder `dist` of the npm package onnxruntime-web, to be copied beside the page;
    None: the page fetches it from a public content delivery network, checked by its hash.
    Raises BundleError if learner or vendor are not what they should be, ExportError if the head has too many classes.
    """
    known = Learner(learner).metadata
    n_way = known.n_way or N_WAY
    if n_way > len(ascii_uppercase):
        raise ExportError(f"a demo has up to {len(ascii_uppercase)} boxes to draw in; this initialization has {n_way}")
    settings: Mapping[str, object] = {
        "runtime": runtime_settings(local=vendor is not None),
        "model": {"name": LEARNER, "integrity": integrity(learner)},
        "preprocessing": known.preprocessing.model_dump(mode="json"),
        "steps": known.adaptation.steps,
        "learning_rate": known.adaptation.learning_rate,
        "all_classes": known.n_way is not None,
    }
    values = {
        "settings": settings,
        "names": ascii_uppercase[:n_way],
        "origin": known.initialization.source or known.initialization.name,
        "policy": policy(local=vendor is not None),
    }
    return {
        "index.html": page("demo.html.j2", values),
        LEARNER: learner,
        **{name: asset(name) for name in DEMO_FILES},
        **(vendored(vendor) if vendor is not None else {}),
    }
