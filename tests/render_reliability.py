"""Render docs/reliability.md: faults of the Hub, the network and the disk, tried on the real client.

python -m tests.render_reliability
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from fewshot_sdk.artifacts.initialization import fresh
from fewshot_sdk.config.records import Provenance
from fewshot_sdk.errors import FewshotError
from fewshot_sdk.storage import hub_client
from fewshot_sdk.storage.files import MANIFEST, manifest_of, sha256
from fewshot_sdk.storage.repositories import address, fetch
from fewshot_sdk.testing.hub import LocalHub
from tests.conftest import REPOSITORY, tiny_recipe
from tests.faults.record import fuzzed, on_purpose

PAGE = REPOSITORY / "docs" / "reliability.md"
REPO = "user/repo"
PATIENCE = 1.0  # seconds, for faults that last


@dataclass(frozen=True)
class World:
    """One Hub with one initialization, and one empty cache."""

    hub: LocalHub
    home: Path
    files: dict[str, bytes]

    def pull(self, name: str = REPO, seconds: float = 20) -> str:
        """The message of a pull."""
        with patch.dict(os.environ, {"FEWSHOT_HUB_SECONDS": str(seconds)}):
            try:
                opened = fetch(address(name))
            except FewshotError as error:
                return self._plain(f"error: {error}")
        assert {**opened.files, MANIFEST: manifest_of(opened.files)} in self._commits()
        return self._plain(f"pulled {opened.source}")

    def cached(self, name: str) -> Path:
        """A file in the cache."""
        (found,) = self.home.glob(f"hub/models--user--repo/snapshots/*/{name}")
        return found

    def on_disk(self) -> str:
        """The contents of the cache afterwards; half-written or wrong files in capitals."""
        drafts = list(self.home.rglob("*.incomplete"))
        good = {sha256(data) for commit in self._commits() for data in commit.values()}
        kept = sorted(path for path in self.home.glob("hub/models--*/snapshots/*/*") if path.exists())
        wrong = [path.name for path in kept if sha256(path.read_bytes()) not in good]
        blobs = [path for path in self.home.glob("hub/models--*/blobs/*") if sha256(path.read_bytes()) not in good]
        if drafts or wrong or blobs:
            return f"HALF-WRITTEN OR WRONG: {[*map(str, drafts), *wrong, *map(str, blobs)]}"
        commits = {path.parent.name for path in kept}
        if not commits:
            return "nothing of it"
        if all(len([path for path in kept if path.parent.name == c]) == len(self.files) for c in commits):
            return "all of it" if len(commits) == 1 else f"all of it, at {len(commits)} commits"
        return f"{len(kept)} of {len(self.files)} files, checked"

    def _commits(self) -> list[dict[str, bytes]]:
        return [self.hub.files(REPO, commit) for commit in self.hub.repository(REPO).commits]

    def _plain(self, text: str) -> str:
        text = text.replace(self.hub.url, "https://hub").replace(str(self.home.resolve()), "~/.cache/huggingface")
        text = re.sub(r"[0-9a-f]{40}", "COMMIT", text)
        return re.sub(r"[0-9a-f]{16}\.\.\.", "HASH...", text)


@contextmanager
def world() -> Iterator[World]:
    """A Hub with a small initialization, and the environment variables that point to it."""
    recipe = tiny_recipe()
    made = Provenance(command="none", seed=0, meta_steps_done=0, data_sha256="0" * 64, seconds=0, versions={})
    files = fresh(recipe, 0, made).files()
    files[MANIFEST] = manifest_of(files)
    with LocalHub() as hub, tempfile.TemporaryDirectory() as home:
        hub.commit(REPO, files)
        settings = {"HF_HOME": home, "HF_ENDPOINT": hub.url, "HF_TOKEN": hub.token}
        with patch.dict(os.environ, settings), patch.object(hub_client, "PAUSES", (0.05, 0.2)):
            yield World(hub, Path(home), files)


def passing(kind: str, on: str, times: int) -> Callable[[World], str]:
    def run(w: World) -> str:
        w.hub.fault(kind, on=on, times=times)  # type: ignore[arg-type]
        return w.pull()

    return run


def lasting(kind: str, on: str = "") -> Callable[[World], str]:
    def run(w: World) -> str:
        w.hub.fault(kind, on=on)  # type: ignore[arg-type]
        return w.pull(seconds=PATIENCE)

    return run


def with_manifest(name: str) -> Callable[[World], str]:
    def run(w: World) -> str:
        contents = {k: v for k, v in w.files.items() if k != MANIFEST}
        w.hub.commit(REPO, {MANIFEST: manifest_of({**contents, name: b"x"})})
        return w.pull()

    return run


def without_token(**state: bool) -> Callable[[World], str]:
    def run(w: World) -> str:
        vars(w.hub.repository(REPO)).update(state)
        with patch("huggingface_hub.utils._headers.get_token", lambda: None):
            return w.pull()

    return run


def missing(name: str) -> Callable[[World], str]:
    def run(w: World) -> str:
        w.hub.commit(REPO, {name: None})
        return w.pull()

    return run


def other_size(w: World) -> str:
    w.hub.commit(REPO, {"model.safetensors": w.files["model.safetensors"] * 2})
    return w.pull()


def moved_tag(w: World) -> str:
    w.hub.tag(REPO, "v1")
    first = w.hub.repository(REPO).refs["v1"]
    w.pull(f"{REPO}@v1")
    contents = {**{k: v for k, v in w.files.items() if k != MANIFEST}, "README.md": b"new"}
    w.hub.commit(REPO, {"README.md": b"new", MANIFEST: manifest_of(contents)})
    w.hub.tag(REPO, "v1")
    assert fetch(address(f"{REPO}@{first}")).files["README.md"] == w.files["README.md"]
    assert fetch(address(f"{REPO}@v1")).files["README.md"] == b"new"
    return w.pull(f"{REPO}@v1") + ", the new one; a full commit never moves"


def unplugged(w: World) -> str:
    w.pull()
    with patch.dict(os.environ, {"HF_ENDPOINT": "http://127.0.0.1:9"}):
        return w.pull()


def never_pulled(w: World) -> str:
    with patch.dict(os.environ, {"HF_ENDPOINT": "http://127.0.0.1:9"}):
        return w.pull().replace("http://127.0.0.1:9", "https://hub")


def forbidden(w: World) -> str:
    with patch("huggingface_hub.constants.HF_HUB_OFFLINE", True):
        return w.pull()


def forbidden_but_pulled(w: World) -> str:
    w.pull()
    return forbidden(w)


def rot(w: World) -> str:
    w.pull()
    damaged = bytearray(w.files["model.safetensors"])
    damaged[99] ^= 1
    w.cached("model.safetensors").write_bytes(damaged)
    return w.pull()


def rot_unplugged(w: World) -> str:
    w.pull()
    w.cached("model.safetensors").write_bytes(b"?")
    with patch.dict(os.environ, {"HF_ENDPOINT": "http://127.0.0.1:9"}):
        return w.pull()


MODEL = "GET .*model.safetensors"
FAULTS: dict[str, Callable[[World], str]] = {
    "none": lambda w: w.pull(),
    "no such repository (404)": lambda w: w.pull("user/other"),
    "private, no token (401)": without_token(private=True),
    "gated, no token (403)": without_token(gated=True),
    "the token is refused (401)": lasting("401"),
    "the token may not do this (403)": lasting("403", "HEAD"),
    "no such branch, tag or commit": lambda w: w.pull(f"{REPO}@v9"),
    "an invalid name": lambda w: w.pull("user/../repo"),
    "the repository holds no initialization": missing(MANIFEST),
    "a file is missing (404)": missing("model.safetensors"),
    "429, twice": passing("429", "", 2),
    "429, for ever": lasting("429"),
    "503, twice": passing("503", MODEL, 2),
    "503, for ever": lasting("503", MODEL),
    "no answer, for ever": lasting("stall"),
    "a file stalls, for ever": lasting("stall", MODEL),
    "a file is cut off, once": passing("truncate", MODEL, 1),
    "a file is cut off, for ever": lasting("truncate", MODEL),
    "right length, wrong bytes, once": passing("wrong bytes", MODEL, 1),
    "right length, wrong bytes, for ever": lasting("wrong bytes", MODEL),
    "the manifest has wrong bytes, for ever": lasting("wrong bytes", f"GET .*{MANIFEST}"),
    "a file of another size than the manifest's": other_size,
    "more is sent than was offered": lasting("oversize", MODEL),
    "a number where the commit should stand": lasting("no commit", "GET /api"),
    "`../evil.json` in the listing": lasting(".. names", "GET /api"),
    "`../evil.json` in the manifest": with_manifest("../evil.json"),
    "`C:evil.json` in the manifest": with_manifest("C:evil.json"),
    "a pickle in the manifest": with_manifest("model.bin"),
    "the tag has moved": moved_tag,
    "no network, never pulled": never_pulled,
    "no network, pulled once": unplugged,
    "`HF_HUB_OFFLINE`, never pulled": forbidden,
    "`HF_HUB_OFFLINE`, pulled once": forbidden_but_pulled,
    "a bit flipped on the disk since": rot,
    "a bit flipped on the disk, no network": rot_unplugged,
}


def row(fault: str) -> str:
    """A row of the table, from trying the fault."""
    with world() as w:
        message = FAULTS[fault](w)
        return f"| {fault} | {message} | {w.on_disk()} |"


def rendered() -> str:
    """The text that docs/reliability.md must be."""
    rows = map(row, FAULTS)
    return f"""# Reliability
What `fewshot pull user/repo`, and every other command that names a repository, does when something goes wrong.
Each row was tried with the Hub's real client, over a real socket, against `fewshot_sdk.testing.hub.LocalHub`; this page
is the output of `python -m tests.render_reliability`, and a test checks it. "For ever" was tried with a deadline of
{PATIENCE:g} s instead of 120. Nothing half-written and no wrong byte stays in the cache in any row.

| fault | what the user sees | in the cache afterwards |
|---|---|---|
{chr(10).join(rows)}

Two rows that a single pull does not show, in `tests/storage/test_repositories.py`: 32 threads, and 32 processes, that
pull the same repository into one empty cache at once all get it right; and of 200 random bit flips in each file of an
initialization, `load` refuses 200, naming the file.

{on_purpose()}
{fuzzed()}"""


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(rendered(), encoding="utf-8")
