"""The drawing demo: a static site in which a learner adapts to what one draws.

Source: the demo of Reptile's authors, openai.com/index/reptile.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from string import ascii_uppercase

from fewshot_sdk.errors import ExportError
from fewshot_sdk.runtime.learner import Learner
from fewshot_sdk.web.web_runtime import asset, integrity, page, policy, runtime_settings, vendored

FILES = ("page.css", "demo.css", "pictures.js", "pixels.js", "runtime.js", "worker.js", "demo.js")
LEARNER = "learner.onnx"
N_WAY = 3


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
        **{name: asset(name) for name in FILES},
        **(vendored(vendor) if vendor is not None else {}),
    }
