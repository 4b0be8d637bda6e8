"""What a deployer needs of an exported classifier besides the file: a small program, and a web page."""

from __future__ import annotations

from pathlib import Path

from fewshot_sdk.errors import BundleError
from fewshot_sdk.runtime.predictor import Predictor
from fewshot_sdk.web.web_runtime import asset, integrity, page, policy, runtime_settings, vendored

FILES = ("predict.py", "page.css", "bundle.css", "pictures.js", "runtime.js", "bundle.js")
MODEL = "model.onnx"


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
        **{name: asset(name) for name in FILES},
        **(vendored(vendor) if vendor is not None else {}),
    }
