"""Who asked what of the server, and what came of it: request ids and the access log, a line of JSON a request."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO
from uuid import uuid4

from fewshot_sdk.errors import ConfigError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

ID = b"x-request-id"
CLIENT = ("unknown", 0)  # of a connection without an address
STDERR = Path("-")
_HARMLESS = re.compile(rb"[A-Za-z0-9._:-]{1,64}")
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE")


@dataclass(frozen=True)
class Visit:
    """One request that was answered. path: of the route, or `other`; sent: bytes of the answer's body."""

    request_id: str
    method: str
    path: str
    status: int
    sent: int
    seconds: float
    client: str


def headers_of(scope: Scope) -> Mapping[bytes, bytes]:
    """A request's headers by their names in lower case; of several with one name the last."""
    return {name.lower(): value for name, value in scope["headers"]}


def request_id(given: bytes) -> str:
    """The id that the client gave, if it is one that may stand in a log and a header; else a new one."""
    return given.decode() if _HARMLESS.fullmatch(given) else uuid4().hex


@contextmanager
def access_log(path: Path | None) -> Iterator[Callable[[Visit], None] | None]:
    """A function that writes a visit to the end of a file, or to stderr for `-`; None if there is no path.

    What a client made up is not written: paths are the routes', other methods are `other`. A line that cannot be
    written is dropped, for requests matter more. Raises ConfigError if the file cannot be opened.
    """
    if path is None:
        yield None
    elif path == STDERR:
        yield lambda visit: _write(sys.stderr, visit)
    else:
        try:
            file = path.open("a", encoding="ascii", buffering=1)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise ConfigError(f"--access-log {path}: cannot be written: {reason}; name another file") from None
        try:
            yield lambda visit: _write(file, visit)
        finally:
            with suppress(OSError):
                file.close()


def _write(stream: TextIO | None, visit: Visit) -> None:
    line = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "request_id": visit.request_id,
        "method": visit.method if visit.method in _METHODS else "other",
        "path": visit.path,
        "status": visit.status,
        "bytes": visit.sent,
        "milliseconds": round(visit.seconds * 1000, 3),
        "client": visit.client,
    }
    if stream is not None:
        with suppress(OSError, ValueError):
            stream.write(json.dumps(line) + "\n")
            stream.flush()
