"""The server's limits: hosts and origins, the token, sizes, times, and the number of connections."""

from __future__ import annotations

import asyncio
import hmac
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from contextlib import suppress
from typing import Any

import h11
import uvicorn
from prometheus_client import CollectorRegistry, Counter, Histogram
from uvicorn.protocols.http.h11_impl import H11Protocol

from fewshot_sdk.errors import ConfigError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_BODY, SECONDS, LOOPBACK = 20 * 2**20, 20.0, ("127.0.0.1", "localhost", "[::1]")  # serve --max-mib says 20, too
HEALTH = ("/v2/health/live", "/v2/health/ready")
PAGE = ("/", "/page.css", "/bundle.css", "/pictures.js", "/answers.js", "/serve.js")  # nothing that a token protects
LINGER = 2.0  # seconds to read what a refused client still sends: cut off at once, it would miss the answer
LONGEST = 600  # characters of a reason, which may repeat what the client sent
NEEDS_TOKEN = "a token is needed: Authorization: Bearer TOKEN"
FOREIGN = "requests from pages of other sites are refused; use this server's own page, or send no Origin header"
AT_ONCE = 64  # connections


class Refused(Exception):
    """A request that is refused with an HTTP `status` and a sentence."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason if len(reason) <= LONGEST else f"{reason[:LONGEST]}..."


class Gatekeeper:
    """An ASGI application around another: checks the Host, Origin, token, size and time of requests, and counts them.

    hosts: names allowed in a Host header; if empty, any. token: if not empty, all but the page and the probes need it.
    max_bytes: the largest body; seconds: how long it may take to arrive. probes: paths that tell whether the server is
    up and nothing else, and so answer anybody: an orchestrator's probe names the server by its address.
    """

    def __init__(
        self, app: App, registry: CollectorRegistry, *, hosts: Sequence[str], token: str, max_bytes: int,
        seconds: float, probes: Sequence[str] = HEALTH,
    ) -> None:  # fmt: skip
        self._app, self._hosts, self._token = app, tuple(hosts), token.encode()
        self._probes, self._open = frozenset(probes), frozenset((*PAGE, *probes))
        self._max_bytes, self._seconds = max_bytes, seconds
        self._requests = Counter(
            "fewshot_requests", "Requests by path and status.", ("path", "status"), registry=registry
        )
        self._duration = Histogram("fewshot_request_seconds", "Time to answer.", registry=registry)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses a request, or passes it on to the application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status, more = time.perf_counter(), 500, _has_body(scope)

        async def noting() -> Message:
            nonlocal more
            message = await receive()
            more = bool(message.get("more_body"))
            return message

        async def counting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
                if more:  # its body was not read to the end, so this connection cannot be used again
                    named = [pair for pair in message.get("headers", []) if pair[0].lower() != b"connection"]
                    message = {**message, "headers": [*named, (b"connection", b"close")]}
            elif status >= 400 and more and not message.get("more_body"):
                await send({**message, "more_body": True})
                await drain(noting)
                message = {"type": "http.response.body"}
            await send(message)

        try:
            self._check(scope)
            await self._app(scope, self._limited(noting), counting)
        except Refused as refusal:
            await answer(counting, refusal.status, refusal.reason)
        finally:
            route = scope.get("route")
            path = getattr(route, "path", "other")  # never a path that a client made up
            self._requests.labels(path, status).inc()
            self._duration.observe(time.perf_counter() - began)

    def _check(self, scope: Scope) -> None:
        headers = {name.lower(): value for name, value in scope["headers"]}
        host = headers.get(b"host", b"").decode("latin-1").rsplit(":", 1)[0].lower()
        if self._hosts and host not in self._hosts and scope["path"] not in self._probes:
            raise Refused(403, "this Host is not allowed")
        if scope["path"] not in self._open and _foreign(headers):
            raise Refused(403, FOREIGN)
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        known = scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(), self._token)
        if self._token and scope["path"] not in self._open and not known:
            raise Refused(401, NEEDS_TOKEN)
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self._max_bytes:
            raise Refused(413, self._too_large)

    @property
    def _too_large(self) -> str:
        return f"expected a body of at most {self._max_bytes / 2**20:g} MiB; send a smaller picture"

    def _limited(self, receive: Receive) -> Receive:
        """`receive`, which raises Refused once the body is too large or too slow."""
        left, deadline = self._max_bytes, time.monotonic() + self._seconds

        async def limited() -> Message:
            nonlocal left
            try:
                message = await asyncio.wait_for(receive(), max(deadline - time.monotonic(), 0.001))
            except TimeoutError:
                raise Refused(408, f"the request took longer than {self._seconds:g} seconds to arrive") from None
            left -= len(message.get("body", b""))
            if left < 0:
                raise Refused(413, self._too_large)
            return message

        return limited


def _foreign(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a browser's headers say that the request comes from another site's page; programs do not send them."""
    origin, host = headers.get(b"origin"), headers.get(b"host", b"").lower()
    elsewhere = origin is not None and origin.lower().partition(b"://")[2] != host
    return elsewhere or headers.get(b"sec-fetch-site", b"none") not in (b"none", b"same-origin")


def _has_body(scope: Scope) -> bool:
    headers = {name.lower(): value for name, value in scope["headers"]}
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"


async def drain(receive: Receive) -> None:
    """Read the rest of a request, for at most LINGER seconds."""

    async def read() -> None:
        while (await receive()).get("more_body"):
            pass

    with suppress(TimeoutError):
        await asyncio.wait_for(read(), LINGER)


async def answer(send: Send, status: int, reason: str) -> None:
    """Send a refusal as JSON and close the connection, as the request's body may not have been read."""
    import json

    body = json.dumps({"error": reason}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens on host and port; port 0 takes a free one. Raises ConfigError if it cannot."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=2048)
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (")[0].lower()  # asyncio and socket add the address
        raise ConfigError(f"cannot listen on {host}, port {port}: {reason}; name another --port or --host") from None


def run(app: App, listener: socket.socket, seconds: float) -> None:
    """Answer requests on the socket until SIGINT or SIGTERM, and then those under way.

    seconds: how long a request's headers may take to arrive, and the last requests to end.
    """

    class Patience(Impatient):
        patience = seconds

    config = uvicorn.Config(
        app, http=Patience, ws="none", lifespan="off", log_level="warning", access_log=False,
        server_header=False, proxy_headers=False, limit_concurrency=AT_ONCE, timeout_graceful_shutdown=int(seconds),
    )  # fmt: skip
    uvicorn.Server(config).run(sockets=[listener])


class Impatient(H11Protocol):
    """uvicorn's HTTP, but a client that takes too long to send a request's line and headers is cut off.

    The time counts from the start of the connection, and from the first byte of each later request on it.
    """

    patience = 20.0
    _clock: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts the clock."""
        super().connection_made(transport)
        self._clock = self.loop.call_later(self.patience, transport.close)

    def data_received(self, data: bytes) -> None:
        """Starts the clock with a request and stops it when its headers have arrived."""
        if self._clock is None and self.conn.their_state is h11.IDLE:
            self._clock = self.loop.call_later(self.patience, self.transport.close)
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops the clock, which would otherwise keep the connection in memory."""
        self._stop()
        super().connection_lost(exc)

    def _stop(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None
