"""onnxruntime-web for the pages this package writes: which version, from where, and its hashes."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from fewshot_sdk.errors import BundleError
from fewshot_sdk.storage.files import read_bounded

VERSION = "1.30.0"
CDN = f"https://cdn.jsdelivr.net/npm/onnxruntime-web@{VERSION}/dist/"
SCRIPT, WASM = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"
INTEGRITY = {
    SCRIPT: "sha384-PLWz+nHEVHpjwBsO0YVdvQj6n5814Iv8E3b8FG0Rp/uIAtjFMCKOpP66iPzedrIG",
    WASM: "sha384-vjBJ1z7qrhkTyYsNqKeF6c7N+nOJSU94czEo+tvZcu8G75JparGq9kB+kTnEUNVM",
}
MAX_BYTES = 64 * 2**20


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
    """A file of the package's folder `web`."""
    return resources.files("fewshot_sdk").joinpath("web", "assets", name).read_bytes()


def page(template: str, values: Mapping[str, object]) -> bytes:
    """A template of the folder `web`, filled in."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(asset(template).decode()).render(values).strip().encode() + b"\n"
