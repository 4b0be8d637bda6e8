"""A folder of static files on the loopback interface, by the standard library's server."""

from __future__ import annotations

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

HOSTS = ("127.0.0.1", "localhost")


def static_server(folder: Path, port: int = 0) -> ThreadingHTTPServer:
    """A server of the files in a folder at 127.0.0.1; `serve_forever` starts it.

    port: 0 takes a free one; `server_port` says which. It answers GET and HEAD, lists no folders, and refuses requests
    whose Host is another name, as a page of another site would have it.
    Raises OSError if another program has the port.
    """
    server = ThreadingHTTPServer(("127.0.0.1", port), partial(_Files, directory=str(folder)))
    server.block_on_close = False  # a page that keeps its connection does not delay the end
    return server


class _Files(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 20  # seconds in which a client must send or take something
    extensions_map = {  # noqa: RUF012 - the name that http.server reads
        **SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript",
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def parse_request(self) -> bool:
        """Only requests for this machine by name, and without a body."""
        if not super().parse_request():
            return False
        refusal = None
        if self.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in self.headers:
            refusal = 413, "No body is read here"
        elif self.headers.get("Host", "").partition(":")[0].lower() not in HOSTS:
            refusal = 403, "This Host is not served here"
        if refusal:
            self.close_connection = True
            self.send_error(*refusal)
        return refusal is None

    def end_headers(self) -> None:
        """A new site at the same address is not hidden by an old one."""
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def list_directory(self, path: object) -> BytesIO | None:  # noqa: ARG002
        """No lists of what there is."""
        self.send_error(404)
        return None

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""
