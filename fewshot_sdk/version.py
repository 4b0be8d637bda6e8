"""The library's version, and the versions that its numbers depend on."""

from __future__ import annotations

import platform
from importlib import metadata

__version__ = "0.1.0"


def versions() -> dict[str, str]:
    """What a result depends on besides its settings and seed: name -> version, and the machine's architecture."""
    installed = {name: metadata.version(name) for name in ("torch", "numpy", "pillow")}
    return {
        "fewshot-sdk": __version__,
        "python": platform.python_version(),
        **installed,
        "machine": platform.machine(),
    }
