"""The small server behind LocalHub, over raw sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from fewshot_sdk.testing.http import Answer, Request, Server


def echo(request: Request) -> Answer:
    return Answer(200, request.body or b"nothing")


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(echo, max_bytes=1000)
    yield server
    server.close()


def exchange(server: Server, sent: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=30) as wire:
        wire.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\n" + sent)
        received = b""
        while part := wire.recv(4096):
            received += part
        return received


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"Content-Length: 1001\r\n\r\n", b"413"),
        (b"Content-Length: 100000000000\r\n\r\n", b"413"),
        (b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", b"413"),
        (b"Content-Length: abc\r\n\r\n", b"400"),
        (b"Content-Length: -1\r\n\r\n", b"400"),
        (b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", b"400"),
        (b"Transfer-Encoding: chunked\r\n\r\n-1\r\n", b"400"),
        (b"Transfer-Encoding: chunked\r\n\r\n\r\n", b"400"),
        (b"Transfer-Encoding: chunked\r\n\r\n3e9\r\n", b"413"),
        (b"Transfer-Encoding: chunked\r\n\r\n1f4\r\n" + b"x" * 500 + b"\r\n1F5\r\n", b"413"),
        (b"Connection: close\r\nRange: bytes=abc-\r\n\r\n", b"200"),
        (b"Connection: close\r\nRange: bytes=2-\r\n\r\n", b"206"),
        (b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", b"200"),
    ],
    ids=lambda it: it[:60],
)
def test_a_body_is_read_up_to_its_limit_and_a_bad_length_is_refused(
    server: Server, capfd: pytest.CaptureFixture[str], sent: bytes, status: bytes
) -> None:
    assert exchange(server, sent).startswith(b"HTTP/1.1 " + status)
    assert capfd.readouterr().err == ""


def test_a_client_that_stops_sending_is_disconnected() -> None:
    server = Server(echo, seconds=0.2)
    try:
        assert exchange(server, b"Content-Length: 5\r\n\r\nx") == b""
    finally:
        server.close()
