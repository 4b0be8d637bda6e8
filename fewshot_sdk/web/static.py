"""Serves a folder of static files on the loopback interface, with the standard library's server."""

from __future__ import annotations

import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from urllib.parse import unquote

HOSTS = ("127.0.0.1", "localhost")


def static_server(folder: Path, port: int = 0) -> ThreadingHTTPServer:
    """A server for the files in a folder, at 127.0.0.1; `serve_forever` starts it.

    port: 0 takes a free one; `server_port` says which. It answers GET and HEAD, lists no folders, and refuses requests
    for any other Host, which another site's page might send.
    Raises OSError if another program has the port.
    """
    return _Server(("127.0.0.1", port), partial(_Files, directory=str(folder)))


class _Server(ThreadingHTTPServer):
    block_on_close = False  # a page that keeps its connection open does not delay shutdown

    def handle_error(self, request: object, client_address: object) -> None:
        """Says nothing of a page that was closed before it had its answer."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Files(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # which holds a file back until the client has acknowledged its headers
    timeout = 20  # seconds a client may neither send nor read
    extensions_map = {  # noqa: RUF012 - the name that http.server reads
        **SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript",
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def parse_request(self) -> bool:
        """Accepts only requests to this machine by name, without a body."""
        if not super().parse_request():
            return False
        refusal = None
        if self.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in self.headers:
            refusal = 413, "Requests with a body are refused"
        elif self.headers.get("Host", "").partition(":")[0].lower() not in HOSTS:
            refusal = 403, "This Host is not allowed"
        elif "\0" in unquote(self.path):  # which the system would not even look up
            refusal = 404, "File not found"
        if refusal:
            self.close_connection = True
            self.send_error(*refusal)
        return refusal is None

    def end_headers(self) -> None:
        """Turns caching off, so that an old site at the same address does not hide a new one."""
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def list_directory(self, path: object) -> BytesIO | None:  # noqa: ARG002
        """Refuses to list folders."""
        self.send_error(404)
        return None

    def log_message(self, format: str, *args: object) -> None:
        """Logs nothing."""
