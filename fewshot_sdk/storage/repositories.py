"""From a name to checked files: bundled initializations, folders, and the Hub with its cache."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from fewshot_sdk.errors import BundleError, HubError
from fewshot_sdk.storage.files import (
    MANIFEST,
    MAX_FILE_BYTES,
    MAX_TEXT_BYTES,
    RECIPE,
    SIGNATURE,
    checked,
    listed,
    read_bounded,
    read_folder,
)
from fewshot_sdk.storage.hub_client import Session, cache

NAMES = (
    "README.md",
    "config.json",
    "curve.png",
    "inner_state.safetensors",
    "metrics.jsonl",
    "model.safetensors",
    RECIPE,
    SIGNATURE,
)
_WORD = r"[A-Za-z0-9][\w.-]*"
_ADDRESS = re.compile(rf"({_WORD}/{_WORD})(?:@(\w[\w./-]*))?", re.ASCII)
_PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A bundle's checked files, the folder they were read from, and `user/repo@commit` if they are from the Hub."""

    files: dict[str, bytes]
    folder: Path
    source: str = ""


@dataclass(frozen=True)
class Address:
    """A repository and a revision of it; None: the default branch."""

    name: str
    revision: str | None = None


def address(name: str) -> Address:
    """The parts of a name. Raises HubError unless it is `user/repo` or `user/repo@revision`."""
    found = _ADDRESS.fullmatch(name)
    if found is None or ".." in name or "--" in found[1]:
        raise HubError(f"{name!r} is not a name on the Hub; expected user/repo or user/repo@revision")
    return Address(found[1], found[2])


def open_named(name: str | Path) -> Opened:
    """The checked files of a bundled initialization, a folder, or `user/repo[@revision]`, tried in that order.

    Raises BundleError if there is none or it was changed, HubError if the Hub refuses.
    """
    if str(name) not in bundled() and not Path(name).is_dir() and _ADDRESS.fullmatch(str(name)):
        return fetch(address(str(name)))
    folder = locate(name)
    return Opened(files=read_folder(folder), folder=folder)


def fetch(wanted: Address) -> Opened:
    """A bundle on the Hub, each file read once and checked; from the cache if it is there.

    Without a network: the commit that the revision named when it was last pulled.
    Raises HubError if the Hub refuses or the deadline passes; BundleError, naming the file, if one
    differs from the manifest: then no file of that commit stays in the cache.
    """
    session = Session(wanted.name, wanted.revision)
    with session.alone():
        commit = session.resolve()
        folder = session.home / "snapshots" / commit
        try:
            return _read(session, commit, folder)
        except BundleError as damaged:  # by the network, or later by the disk: once more, from the Hub
            _forget(folder)
            try:
                return _read(session, commit, folder)
            except BundleError:
                _forget(folder)
                raise
            except HubError:
                raise damaged from None


def cached() -> dict[str, str]:
    """The repositories in the cache: user/repo -> the commit of its default branch when it was last pulled."""
    found = {}
    for ref in sorted(cache().glob("models--*--*/refs/main")):
        commit = ref.read_text(errors="replace").strip()  # it may be damaged
        if re.fullmatch("[0-9a-f]{40}", commit) and (ref.parents[1] / "snapshots" / commit / MANIFEST).is_file():
            found["/".join(ref.parents[1].name.split("--")[1:])] = commit
    return found


def _read(session: Session, commit: str, folder: Path) -> Opened:
    manifest = read_bounded(session.file(MANIFEST, commit, None, MAX_TEXT_BYTES), MAX_TEXT_BYTES)
    entries = listed(manifest, folder)
    if foreign := sorted(entries.keys() - set(NAMES)):
        raise BundleError(
            f"{session.name}@{commit}: {foreign[0]!r} is not a file of an initialization "
            f"({', '.join(NAMES)}); it was not downloaded, do not trust this repository"
        )

    def read(name: str) -> bytes:
        return read_bounded(session.file(name, commit, entries[name][1], MAX_FILE_BYTES), MAX_FILE_BYTES)

    return Opened(files=checked(manifest, read, folder), folder=folder, source=f"{session.name}@{commit}")


def _forget(folder: Path) -> None:
    """Remove a commit's files from the cache, and the blobs that they link to."""
    for name in (*NAMES, MANIFEST):
        path = folder / name
        if path.is_symlink() and path.resolve().is_relative_to(cache()):  # a link may lead anywhere
            path.resolve().unlink(missing_ok=True)
        path.unlink(missing_ok=True)


def bundled() -> dict[str, Path]:
    """The initializations that come with the package, by name."""
    folders = (_PACKAGE / "models", _PACKAGE.parent / "models")  # in a wheel, in a checkout
    home = next((folder for folder in folders if folder.is_dir()), folders[0])
    return {config.parent.name: config.parent for config in sorted(home.glob("*/config.json"))}


def locate(name: str | Path) -> Path:
    """The folder of a bundled initialization, or the folder at a path; a bundled name comes first.

    Raises BundleError, listing the bundled names, if there is neither.
    """
    known = bundled()
    if str(name) in known:
        return known[str(name)]
    if not Path(name).is_dir():
        raise BundleError(
            f"no initialization {str(name)!r}: it is not a folder, not a bundled name "
            f"({', '.join(known) or 'none is bundled'}), and not a name on the Hub, user/repo"
        )
    return Path(name)
