"""What a request must keep to: hosts and origins, the token, sizes and times; and how it waits for its turn."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

from prometheus_client import CollectorRegistry, Counter, Histogram

from fewshot_sdk.web.access import CLIENT, ID, App, Message, Receive, Scope, Send, Visit, headers_of, request_id

MAX_BODY, SECONDS, LOOPBACK = 20 * 2**20, 20.0, ("127.0.0.1", "localhost", "[::1]")  # serve --max-mib says 20, too
HEALTH = ("/v2/health/live", "/v2/health/ready")
PAGE = ("/", "/page.css", "/bundle.css", "/pictures.js", "/answers.js", "/serve.js")  # nothing that a token protects
LINGER = 2.0  # seconds to read what a refused client still sends: cut off at once, it would miss the answer
LONGEST = 600  # characters of a reason, which may repeat what the client sent
NEEDS_TOKEN = "a token is needed: Authorization: Bearer TOKEN"
FOREIGN = "requests from pages of other sites are refused; use this server's own page, or send no Origin header"
HELD = 32  # times the largest body: what all requests together may hold in memory
PATIENCE = 10.0  # seconds that a request waits for those before it
SMALL = 2**16  # bytes of a body that is read to its end before a refusal, so that the connection can be used again
AGAIN = "1"  # seconds after which a client that found the server busy may ask again
LOG = "uvicorn.error"  # the one log there is
BEYOND = "beyond"  # in the state of a request on a connection beyond the bound: only probes are answered
BUSY = "the server is busy; ask again in a second"


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
        seconds: float, probes: Sequence[str] = HEALTH, note: Callable[[Visit], None] | None = None,
    ) -> None:  # fmt: skip
        self._app, self._hosts, self._token = app, tuple(hosts), token.encode()
        self._probes, self._open = frozenset(probes), frozenset((*PAGE, *probes))
        self._max_bytes, self._seconds, self._note = max_bytes, seconds, note
        self._held = 0  # bytes of bodies in memory
        self._requests = Counter(
            "fewshot_requests", "Requests by path and status.", ("path", "status"), registry=registry
        )
        self._duration = Histogram("fewshot_request_seconds", "Time to answer.", registry=registry)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses a request, or passes it on to the application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status, more, held, sent = time.perf_counter(), 500, _has_body(scope), 0, 0
        name = request_id(headers_of(scope).get(ID, b""))
        scope.setdefault("state", {})["request_id"] = name

        async def noting() -> Message:
            nonlocal more, held
            message = await receive()
            more = bool(message.get("more_body"))
            held += len(message.get("body", b""))
            self._held += len(message.get("body", b""))
            return message

        async def counting(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = int(message["status"])
                if more and 0 < _length(scope) <= SMALL:
                    await drain(noting)
                named = [*message.get("headers", []), (ID, name.encode())]
                unread = more  # then this connection cannot be used again
                if unread or scope["state"].get(BEYOND):
                    named = [*(pair for pair in named if pair[0].lower() != b"connection"), (b"connection", b"close")]
                message = {**message, "headers": named}
            else:
                sent += len(message.get("body", b""))
                if status >= 400 and more and not message.get("more_body"):
                    await send({**message, "more_body": True})
                    await drain(noting)
                    message = {"type": "http.response.body"}
            await send(message)

        try:
            self._check(scope)
            await self._app(scope, self._limited(noting), counting)
        except Refused as refusal:
            await answer(counting, refusal.status, refusal.reason, name)
        finally:
            self._held -= held
            route = scope.get("route")
            path = getattr(route, "path", "other")  # never a path that a client made up
            seconds = time.perf_counter() - began
            self._requests.labels(path, status).inc()
            self._duration.observe(seconds)
            if status == 503:
                logging.getLogger(LOG).warning("too much at once: requests are refused with 503")
            if self._note is not None:
                self._note(
                    Visit(name, scope["method"], path, status, sent, seconds, (scope.get("client") or CLIENT)[0])
                )

    def _check(self, scope: Scope) -> None:
        headers = headers_of(scope)
        if scope["state"].get(BEYOND) and scope["path"] not in self._probes:
            raise Refused(503, BUSY)
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
                async with asyncio.timeout(max(deadline - time.monotonic(), 0.001)):
                    message = await receive()
            except TimeoutError:
                raise Refused(408, f"the request took longer than {self._seconds:g} seconds to arrive") from None
            left -= len(message.get("body", b""))
            if left < 0:
                raise Refused(413, self._too_large)
            if self._held > HELD * self._max_bytes:
                raise Refused(503, BUSY)
            return message

        return limited


def _foreign(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a browser's headers say that the request comes from another site's page; programs do not send them."""
    origin, host = headers.get(b"origin"), headers.get(b"host", b"").lower()
    elsewhere = origin is not None and origin.lower().partition(b"://")[2] != host
    return elsewhere or headers.get(b"sec-fetch-site", b"none") not in (b"none", b"same-origin")


def _has_body(scope: Scope) -> bool:
    headers = headers_of(scope)
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"


def _length(scope: Scope) -> int:
    """The announced length of a body; 0 if there is none."""
    length = headers_of(scope).get(b"content-length", b"")
    return int(length) if length.isdigit() and len(length) < 20 else 0


class Queue:
    """Lets requests through one at a time, in their order; one that waits longer than `patience` seconds is refused."""

    def __init__(self, patience: float | None = None) -> None:
        self._turn, self._patience = asyncio.Semaphore(1), PATIENCE if patience is None else patience

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[bool]:
        """A request's turn, and whether it had to wait. Raises Refused with 503 if it does not come in time."""
        waits = self._turn.locked()
        try:
            async with asyncio.timeout(self._patience):
                await self._turn.acquire()
        except TimeoutError:
            raise Refused(503, BUSY) from None
        try:
            yield waits
        finally:
            self._turn.release()


async def drain(receive: Receive) -> None:
    """Read the rest of a request, for at most LINGER seconds."""

    async def read() -> None:
        while (await receive()).get("more_body"):
            pass

    with suppress(TimeoutError):
        await asyncio.wait_for(read(), LINGER)


def refusal(status: int, reason: str, name: str) -> tuple[bytes, dict[str, str]]:
    """The body, JSON with the reason and the request's id, and the headers of an answer that refuses a request."""
    headers = {"content-type": "application/json"}
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    if status == 503:
        headers["retry-after"] = AGAIN
    return json.dumps({"error": reason, "request_id": name}).encode(), headers


async def answer(send: Send, status: int, reason: str, name: str) -> None:
    """Send a refusal of the request with this id."""
    body, headers = refusal(status, reason, name)
    pairs = [(key.encode(), value.encode()) for key, value in headers.items()]
    pairs.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})
