"""The bundled initializations: from a name or a path to a folder."""

from __future__ import annotations

from pathlib import Path

from fewshot_sdk.errors import BundleError

_PACKAGE = Path(__file__).parents[1]


def bundled() -> dict[str, Path]:
    """The initializations that come with the package, by name."""
    folders = (_PACKAGE / "models", _PACKAGE.parent / "models")  # in a wheel, in a checkout
    home = next((folder for folder in folders if folder.is_dir()), folders[0])
    return {config.parent.name: config.parent for config in sorted(home.glob("*/config.json"))}


def locate(name: str | Path) -> Path:
    """The folder of a bundled initialization, or the one at a path; the bundled name wins.

    Raises BundleError, listing the bundled names, if there is neither.
    """
    known = bundled()
    if str(name) in known:
        return known[str(name)]
    if not Path(name).is_dir():
        raise BundleError(
            f"no initialization {str(name)!r}: it is neither a folder nor a bundled name "
            f"({', '.join(known) or 'none is bundled'}), nor user/repo as on the Hub"
        )
    return Path(name)
