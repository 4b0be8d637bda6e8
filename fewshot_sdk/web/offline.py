"""The service worker that keeps a site in the browser, so that it opens offline."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from fewshot_sdk.web.pages import CDN, INTEGRITY, asset, integrity

WORKER = "studio-sw.js"


def service_worker(site: Mapping[str, bytes]) -> bytes:
    """The script of the service worker of a site, whose files are given by name.

    It lists each file with its hash, and those of onnxruntime-web at the content delivery network unless the site has
    them; so it changes whenever one of them does, and browsers then install it anew.
    """
    files = {name: integrity(data) for name, data in site.items()}
    files |= {f"{CDN}{name}": wanted for name, wanted in INTEGRITY.items() if name not in site}
    listed = json.dumps(files, sort_keys=True)
    version = hashlib.sha256(listed.encode()).hexdigest()[:16]
    return f'const FILES = {listed}, VERSION = "{version}";\n'.encode() + asset(WORKER)
