"""`fewshot demo`."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path

from fewshot_cli.output import say
from fewshot_sdk.errors import ConfigError
from fewshot_sdk.storage.files import MAX_FILE_BYTES, check_free, read_bounded, write_folder

TYPES = {"html": "text/html", "js": "text/javascript", "mjs": "text/javascript", "css": "text/css"}


def demo(init: str, output: Path | None, vendor: Path | None, port: int, browser: bool) -> None:
    """Writes the site, or serves it until Ctrl-C."""
    if output is not None:
        check_free(output)
    from fewshot_sdk.web.pages import demo_site

    site = demo_site(_learner(init), vendor)
    if output is None:
        _serve(site, port, browser)
        return
    write_folder(output, site)
    say(f"wrote {output}; any web host will do, or: python3 -m http.server --directory {output}")


def _learner(init: str) -> bytes:
    """A learner file's bytes, or those of one made of an initialization."""
    if Path(init).is_file():
        return read_bounded(Path(init), MAX_FILE_BYTES)
    import fewshot_sdk as sdk

    start = sdk.load(init)
    say(f"exporting the learner of {init}, which takes some seconds")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "learner.onnx"
        sdk.export_learner(start, path)
        return path.read_bytes()


def _serve(site: Mapping[str, bytes], port: int, browser: bool) -> None:
    from fewshot_sdk.testing.http import Answer, Request, Server

    def respond(request: Request) -> Answer:
        if request.headers.get("host", "").partition(":")[0].lower() not in ("127.0.0.1", "localhost"):
            return Answer(403, b"this Host is not served here\n", {"Content-Type": "text/plain"})
        name = request.path.partition("?")[0].removeprefix("/") or "index.html"
        if request.method not in ("GET", "HEAD") or name not in site:
            return Answer(404, b"not here\n", {"Content-Type": "text/plain"})
        kind = TYPES.get(name.rpartition(".")[2], "application/octet-stream")
        return Answer(200, site[name], {"Content-Type": kind, "Cache-Control": "no-cache"})

    try:
        server = Server(respond, port, max_bytes=0)
    except OSError as error:
        raise ConfigError(f"port {port}: {(error.strerror or str(error)).lower()}; name another --port") from None
    address = f"http://127.0.0.1:{server.server_port}/"
    say(f"draw at {address} (Ctrl-C stops)")
    if browser:
        import webbrowser

        webbrowser.open(address)
    try:
        threading.Event().wait()
    finally:
        server.close()
