"""A port that is listened on, and connections that are not waited for for ever."""

from __future__ import annotations

import asyncio
import socket

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from fewshot_sdk.errors import ConfigError
from fewshot_sdk.web.gatekeeping import App

AT_ONCE = 64  # connections


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 is any. Raises ConfigError if that cannot be had."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=2048)
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (")[0].lower()  # asyncio and socket add the address
        raise ConfigError(f"cannot listen on {host}, port {port}: {reason}; name another --port or --host") from None


def run(app: App, listener: socket.socket, seconds: float) -> None:
    """Answer requests on the socket until SIGINT or SIGTERM; those under way are answered first.

    seconds: in which a request's headers must have come, and in which the last requests may end.
    """

    class Patience(Impatient):
        patience = seconds

    config = uvicorn.Config(
        app, http=Patience, ws="none", lifespan="off", log_level="warning", access_log=False,
        server_header=False, proxy_headers=False, limit_concurrency=AT_ONCE, timeout_graceful_shutdown=int(seconds),
    )  # fmt: skip
    uvicorn.Server(config).run(sockets=[listener])


class Impatient(H11Protocol):
    """uvicorn's HTTP, but who takes too long to send a whole request line and headers is cut off.

    The time counts from the connection's beginning, and from the first byte of each later request on it.
    """

    patience = 20.0
    _clock: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts the clock."""
        super().connection_made(transport)
        self._clock = self.loop.call_later(self.patience, transport.close)

    def data_received(self, data: bytes) -> None:
        """Starts the clock with a request, and stops it when its headers are there."""
        if self._clock is None and self.conn.their_state is h11.IDLE:
            self._clock = self.loop.call_later(self.patience, self.transport.close)
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops the clock, which would keep the connection in memory."""
        self._stop()
        super().connection_lost(exc)

    def _stop(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None
