"""The service worker that keeps a site."""

from __future__ import annotations

import json
import re

from fewshot_sdk.web.offline import service_worker
from fewshot_sdk.web.pages import CDN, INTEGRITY, SCRIPT, WASM, integrity


def listed(script: bytes) -> dict[str, str]:
    """The files that a service worker's script lists, with their hashes."""
    found = re.match(r"const FILES = (\{.*\}), VERSION = ", script.decode())
    assert found
    files: dict[str, str] = json.loads(found[1])
    return files


def test_it_lists_each_file_with_the_hash_that_a_browser_checks() -> None:
    site = {"index.html": b"<p>", SCRIPT: b"one", WASM: b"two"}
    assert listed(service_worker(site)) == {name: integrity(data) for name, data in site.items()}


def test_without_its_own_runtime_it_lists_that_of_the_delivery_network() -> None:
    files = listed(service_worker({"index.html": b"<p>"}))
    assert files == {"index.html": integrity(b"<p>"), **{CDN + name: wanted for name, wanted in INTEGRITY.items()}}


def test_it_changes_with_any_file_and_with_nothing_else() -> None:
    site = {"index.html": b"<p>", "a.js": b"1"}
    assert service_worker(site) == service_worker(dict(reversed(site.items())))
    assert service_worker(site) != service_worker({**site, "a.js": b"2"})
