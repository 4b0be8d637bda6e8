"""HTTP on the loopback interface for LocalHub, with answers that can be spoilt on the way."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from string import digits, hexdigits

MAX_BYTES = 2**30  # more than any upload to a Hub for tests
LINE = 100  # bytes of the line that says how long a chunk is


@dataclass(frozen=True)
class Request:
    """What a client asks for; `path` is with its query, header names are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """What it gets. cut: send only half the body, then close the connection."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False

    def with_a_flipped_bit(self) -> Answer:
        """The same length, other bytes."""
        middle = len(self.body) // 2
        flipped = bytes([self.body[middle] ^ 1]) if self.body else b""
        return replace(self, body=self.body[:middle] + flipped + self.body[middle + 1 :])


def as_json(value: object, status: int = 200) -> Answer:
    """An answer in JSON."""
    return Answer(status, json.dumps(value).encode(), {"Content-Type": "application/json"})


class Server(ThreadingHTTPServer):
    """Gives what `respond` says of each request; None closes the connection without a word.

    port: 0 takes a free one; `server_port` says which. max_bytes: of a request's body; larger ones get 413.
    seconds: in which a client must send or take something.
    Raises OSError if another program has it.
    """

    request_queue_size = 256  # many clients may begin at the same moment
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
        """No more requests."""
        self.shutdown()
        self.server_close()


class _Refused(Exception):
    """A request whose body cannot be read, and the status that says so."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def setup(self) -> None:
        """Nobody is waited for for ever."""
        super().setup()
        self.connection.settimeout(self.server.seconds)

    def _serve(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer: Answer | None
        try:
            answer = self.server.respond(Request(self.command, self.path, headers, self._body()))
        except _Refused as refusal:  # what is left of the body is not read
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

    def _size(self, said: str, base: int) -> int:
        """A length that a client says, at most `max_bytes`."""
        if not said or not set(said) <= set(hexdigits if base == 16 else digits):
            raise _Refused(400)
        if len(said) > 20 or int(said, base) > self.server.max_bytes:
            raise _Refused(413)
        return int(said, base)

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
        """Says nothing."""
