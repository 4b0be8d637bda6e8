"""Clients of `fewshot serve` that ask for one picture, as a binary tensor, on at most a given number of connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib import import_module

from benchmarks.serving_requests import binary_tensor
from fewshot_sdk.config.onnx_file import INPUT
from fewshot_sdk.errors import MissingExtra
from fewshot_sdk.images.preprocessing import Pixels

Asking = Callable[[], Awaitable[str | None]]  # asks once; the kind of error, or None for an answer
UNCONNECTED = "no connection"  # the kind of error of a request that was never sent
_MODULES = {"tritonclient": "tritonclient.http.aio", "kserve": "kserve"}
_UNCONNECTED = ("ClientConnectorError", "ConnectError", "ConnectionRefusedError")  # aiohttp's, httpx's, Python's


@asynccontextmanager
async def tritonclient(port: int, name: str, picture: Pixels, connections: int) -> AsyncIterator[Asking]:
    """NVIDIA's client of the protocol, in its asyncio form."""
    http, aio = import_module("tritonclient.http"), import_module(_MODULES["tritonclient"])
    client = aio.InferenceServerClient(f"127.0.0.1:{port}", conn_limit=connections)
    tensor = http.InferInput(INPUT, list(picture.shape), "UINT8")
    tensor.set_data_from_numpy(picture, binary_data=True)

    async def ask() -> str | None:
        try:
            await client.infer(name, [tensor])
        except Exception as error:  # aiohttp's, and its own
            status = getattr(error, "status", None)
            return _kind(error, status() if callable(status) else None)
        return None

    try:
        yield ask
    finally:
        await client.close()


@asynccontextmanager
async def kserve(port: int, name: str, picture: Pixels, connections: int) -> AsyncIterator[Asking]:
    """KServe's own client, with as many connections as asked for."""
    library, httpx = import_module(_MODULES["kserve"]), import_module("httpx")
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    config = library.RESTConfig(protocol="v2", transport=httpx.AsyncHTTPTransport(limits=limits))
    client = library.InferenceRESTClient(config)

    async def ask() -> str | None:
        tensor = library.InferInput(INPUT, list(picture.shape), "UINT8")
        tensor.set_data_from_numpy(picture, binary_data=True)
        try:
            await client.infer(f"http://127.0.0.1:{port}", library.InferRequest(name, [tensor]), model_name=name)
        except Exception as error:  # httpx's
            return _kind(error, getattr(getattr(error, "response", None), "status_code", None))
        return None

    try:
        yield ask
    finally:
        await client.close()


@asynccontextmanager
async def plain(port: int, name: str, picture: Pixels, connections: int) -> AsyncIterator[Asking]:  # noqa: ARG001
    """No library: bytes that are made once, and answers whose status alone is read."""
    path, body, headers = binary_tensor(name, picture)
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", *(f"{key}: {value}" for key, value in headers.items())]
    request = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body
    free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask() -> str | None:
        try:
            reader, writer = free.pop() if free else await asyncio.open_connection("127.0.0.1", port)
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            await reader.readexactly(int(head.partition("\r\ncontent-length:")[2].split()[0]))
        except (OSError, asyncio.IncompleteReadError) as error:
            return _kind(error)
        if "connection: close" in head:
            writer.close()
        else:
            free.append((reader, writer))
        status = head.split()[1]
        return None if status == "200" else f"HTTP {status}"

    try:
        yield ask
    finally:
        for _, writer in free:
            writer.close()


CLIENTS: dict[str, Callable[[int, str, Pixels, int], AbstractAsyncContextManager[Asking]]] = {
    "tritonclient": tritonclient,
    "kserve": kserve,
    "plain": plain,
}


def _kind(error: Exception, status: object = None) -> str:
    name = type(error).__name__
    return UNCONNECTED if name in _UNCONNECTED else f"{name} {'' if status is None else status}".strip()


def check(client: str) -> None:
    """Raises MissingExtra, saying how to install it, if the library of that name is needed and not installed."""
    package = {"tritonclient": "tritonclient[http]", "kserve": "kserve"}.get(client)
    try:
        if package:
            import_module(_MODULES[client])
    except ImportError:
        raise MissingExtra(
            f"--client {client} needs that library: pip install '{package}', or take --client plain"
        ) from None
