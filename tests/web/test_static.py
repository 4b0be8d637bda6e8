from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from fewshot_sdk.web.static import static_server

LARGE = 2**24  # bytes, more than a connection holds


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ThreadingHTTPServer]:
    (tmp_path / "index.html").write_text("hello")
    (tmp_path / "large").write_bytes(bytes(LARGE))
    server = static_server(tmp_path)
    server.daemon_threads = False  # so that the end waits until all of them have printed what they would
    server.block_on_close = True
    threading.Thread(target=server.serve_forever, args=(0.01,)).start()
    yield server
    server.shutdown()
    server.server_close()


def asked(server: ThreadingHTTPServer, path: str) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.server_port), timeout=60)
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    return connection


@pytest.mark.parametrize("path", ["/%00", "/index.html%00", "/\0", "/%ff", f"/{'a' * 300}"])
def test_a_path_that_no_file_can_have_is_not_found(
    path: str, server: ThreadingHTTPServer, capsys: pytest.CaptureFixture[str]
) -> None:
    with asked(server, path) as connection, connection.makefile("rb") as answer:
        assert answer.read().startswith(b"HTTP/1.1 404 ")
    server.shutdown()
    server.server_close()
    assert capsys.readouterr().err == ""


def test_a_page_that_is_closed_before_it_has_its_answer_is_no_news(
    server: ThreadingHTTPServer, capsys: pytest.CaptureFixture[str]
) -> None:
    with asked(server, "/large") as connection:
        assert connection.recv(1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closes it by a reset
    server.shutdown()
    server.server_close()
    assert capsys.readouterr().err == ""
