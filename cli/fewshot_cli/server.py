"""`fewshot serve`."""

from __future__ import annotations

from pathlib import Path

from fewshot_cli.output import say


def serve(model: Path, host: str, port: int, token: str, allowed: list[str], max_mib: float) -> None:
    """Serves until a signal; behind a token any Host is answered unless some are named."""
    from fewshot_sdk.web.server import LOOPBACK, serve

    hosts = tuple(name.lower() for name in allowed) or (() if token else LOOPBACK)

    def ready(port: int) -> None:
        name = f"[{host}]" if ":" in host else host
        say(f"serving {model} at http://{name}:{port}/ and /v2/models/{model.stem}; Ctrl-C stops")

    serve(model, host=host, port=port, token=token, allowed=hosts, max_bytes=int(max_mib * 2**20), ready=ready)
