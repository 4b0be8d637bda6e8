"""The server's connections: how many there are, which are dropped when room is needed, and how long they may take."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from contextlib import suppress

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from fewshot_sdk.errors import ConfigError
from fewshot_sdk.web.access import App, request_id
from fewshot_sdk.web.limits import BEYOND, LOG, refusal

AT_ONCE, SPARE = 512, 32  # connections; and those beyond, on which nothing but probes is answered
KEPT = 75  # seconds for which a connection is kept between two requests, unless its room is needed
BACKLOG = 128  # connections that the system holds for us, and hands over at once: more could use up the open files
QUIET = 60.0  # seconds between two equal lines of the log


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens on host and port; port 0 takes a free one. Raises ConfigError if it cannot."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (")[0].lower()  # asyncio and socket add the address
        raise ConfigError(f"cannot listen on {host}, port {port}: {reason}; name another --port or --host") from None


def run(app: App, listener: socket.socket, seconds: float) -> None:
    """Answer requests on the socket until SIGINT or SIGTERM, and then those under way.

    seconds: how long a request's headers may take to arrive, and the last requests to end.
    """
    most = _most()

    class Bounded(Connection):
        patience, at_once = seconds, most

    config = uvicorn.Config(
        app, http=Bounded, ws="none", lifespan="off", log_level="warning", access_log=False, backlog=BACKLOG,
        server_header=False, proxy_headers=False, timeout_keep_alive=KEPT, timeout_graceful_shutdown=int(seconds),
    )  # fmt: skip
    logging.getLogger(LOG).addFilter(Grouping())
    uvicorn.Server(config).run(sockets=[listener])


def _most() -> int:
    """AT_ONCE, or fewer where this process may open few files."""
    try:
        import resource
    except ImportError:  # Windows
        return AT_ONCE
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return AT_ONCE if soft == resource.RLIM_INFINITY else min(AT_ONCE, max(16, soft // 2 - SPARE))


class Grouping(logging.Filter):
    """Lets one of equal warnings through every QUIET seconds, with the number of those that were held back."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[str, tuple[float, int]] = {}  # few: uvicorn's and ours, with no words of a client

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is written."""
        if record.levelno != logging.WARNING:
            return True
        message = record.getMessage()
        when, held = self._last.get(message, (-QUIET, 0))
        now = time.monotonic()
        if now - when < QUIET:
            self._last[message] = when, held + 1
            return False
        self._last[message] = now, 0
        if held:
            record.msg, record.args = f"{message} ({held} more since the last such line)", None
        return True


class Connection(H11Protocol):
    """uvicorn's HTTP, but connections have no more than their room, and only some time.

    A client that takes too long to send a request's line and headers is cut off. The time counts from the start of the
    connection, and from the first byte of each later request on it. When there are too many connections, those that
    wait for a request are dropped, longest first, then those whose request is still arriving.
    """

    patience = 20.0
    at_once = AT_ONCE
    dropped = False
    since = 0.0  # when it was made, or answered last
    _clock: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Makes room and starts the clock."""
        super().connection_made(transport)
        if socket_ := transport.get_extra_info("socket"):  # asyncio does not, as `create_server` names no protocol
            socket_.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.since = self.loop.time()
        alive = [it for it in self.connections if isinstance(it, Connection) and not it.dropped]
        if len(alive) > self.at_once:
            others = [it for it in alive if it is not self and not it.busy]
            if others:
                min(others, key=lambda it: (not it.transport.is_closing(), it.asking, it.since)).drop()
            elif len(alive) > self.at_once + SPARE:
                self.drop()
            else:
                self.app_state = {**self.app_state, BEYOND: True}
        self._clock = self.loop.call_later(self.patience, transport.close)

    @property
    def asking(self) -> bool:
        """Whether a request began that is not answered yet."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    @property
    def busy(self) -> bool:
        """Whether a request has arrived whose answer is being made."""
        return self.asking and not (self.cycle.more_body or self.cycle.response_started)

    def drop(self) -> None:
        """Ends the connection at once."""
        self.dropped = True
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Starts the clock with a request and stops it when its headers have arrived."""
        if self._clock is None and self.conn.their_state is h11.IDLE:
            self._clock = self.loop.call_later(self.patience, self.transport.close)
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop()

    def on_response_complete(self) -> None:
        """Begins the time between two requests."""
        self.since = self.loop.time()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002
        """Answers what is not HTTP as everything else is answered, in JSON, and ends the connection."""
        body, headers = refusal(400, "this is not a valid HTTP request", request_id(b""))
        pairs = [*headers.items(), ("content-length", str(len(body))), ("connection", "close")]
        with suppress(h11.LocalProtocolError):  # an answer is under way
            for event in (h11.Response(status_code=400, headers=pairs), h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops the clock, which would otherwise keep the connection in memory."""
        self._stop()
        super().connection_lost(exc)

    def _stop(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None
