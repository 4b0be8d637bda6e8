"""The library's version, and the versions that its numbers depend on."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib import metadata

__version__ = "0.1.0"


def versions(names: Sequence[str] = ("torch", "numpy", "pillow")) -> dict[str, str]:
    """What a result depends on besides its settings and seed: name -> version, and the machine's architecture.

    names: the packages that take part.
    """
    installed = {name: metadata.version(name) for name in names}
    return {
        "fewshot-sdk": __version__,
        "python": platform.python_version(),
        **installed,
        "machine": platform.machine(),
    }
