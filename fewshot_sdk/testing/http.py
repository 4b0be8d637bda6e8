"""An HTTP server on the loopback interface for LocalHub, whose answers can be damaged on purpose."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from string import digits, hexdigits

MAX_BYTES = 2**30  # more than any test uploads
LINE = 100  # bytes of the line with a chunk's length


@dataclass(frozen=True)
class Request:
    """A client's request; `path` includes the query, header names are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """The answer to a request. cut: send only half the body, then close the connection."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False

    def with_a_flipped_bit(self) -> Answer:
        """The same answer with one bit of the body flipped."""
        middle = len(self.body) // 2
        flipped = bytes([self.body[middle] ^ 1]) if self.body else b""
        return replace(self, body=self.body[:middle] + flipped + self.body[middle + 1 :])


def as_json(value: object, status: int = 200) -> Answer:
    """An answer whose body is `value` as JSON."""
    return Answer(status, json.dumps(value).encode(), {"Content-Type": "application/json"})


class Server(ThreadingHTTPServer):
    """Answers each request with what `respond` returns for it; None closes the connection without an answer.

    port: 0 takes a free one; `server_port` says which. max_bytes: the largest body of a request; larger ones get 413.
    seconds: how long a client may neither send nor read.
    Raises OSError if another program has the port.
    """

    request_queue_size = 256  # many clients may connect at the same moment
    daemon_threads = True
    block_on_close = False

    def __init__(
        self,
        respond: Callable[[Request], Answer | None],
        port: int = 0,
        *,
        max_bytes: int = MAX_BYTES,
        seconds: float = 20.0,
    ) -> None:
        self.respond, self.max_bytes, self.seconds = respond, max_bytes, seconds
        super().__init__(("127.0.0.1", port), _Handler)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self.shutdown()
        self.server_close()


class _Refused(Exception):
    """A request whose body cannot be read; `status` is the answer."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def setup(self) -> None:
        """Sets a time limit, so that no client is waited for for ever."""
        super().setup()
        self.connection.settimeout(self.server.seconds)

    def _serve(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer: Answer | None
        try:
            answer = self.server.respond(Request(self.command, self.path, headers, self._body()))
        except _Refused as refusal:  # the rest of the body is not read
            answer, self.close_connection = Answer(refusal.status), True
        if answer is None:
            self.close_connection = True
            return
        try:
            self._send(answer)
        except ConnectionError:  # the client has given up
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = _serve  # noqa: N815 - the names that http.server calls

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(self._size(self.headers.get("Content-Length") or "0", 10))
        parts: list[bytes] = []
        read = 0
        while size := self._size(self.rfile.readline(LINE).partition(b";")[0].decode("latin-1").strip(), 16):
            read += size
            if read > self.server.max_bytes:
                raise _Refused(413)
            parts.append(self.rfile.read(size))
            self.rfile.readline(LINE)
        self.rfile.readline(LINE)
        return b"".join(parts)

    def _size(self, written: str, base: int) -> int:
        """A length as the client wrote it, at most `max_bytes`."""
        if not written or not set(written) <= set(hexdigits if base == 16 else digits):
            raise _Refused(400)
        if len(written) > 20 or int(written, base) > self.server.max_bytes:
            raise _Refused(413)
        return int(written, base)

    def _send(self, answer: Answer) -> None:
        body, status, headers = answer.body, answer.status, dict(answer.headers)
        first = self.headers.get("Range", "").removeprefix("bytes=").partition("-")[0]
        if first.isdecimal() and len(first) < 20 and status == 200:
            headers["Content-Range"] = f"bytes {first}-{len(body) - 1}/{len(body)}"
            body, status = body[int(first) :], 206
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if answer.cut else body)
            self.close_connection |= answer.cut

    def log_message(self, format: str, *args: object) -> None:
        """Logs nothing."""
