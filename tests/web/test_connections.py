"""Who keeps a connection when there are too many; over real sockets, with the server's bound made small."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import cast

import pytest
import uvicorn
from uvicorn.server import ServerState

from fewshot_sdk.runtime.predictor import Predictor
from fewshot_sdk.web.connections import Connection, Grouping, listening
from fewshot_sdk.web.server import application
from tests.conftest import REPOSITORY
from tests.web.test_limits import Judge

# a server whose /predict answers only once this process says so; 4 connections and one spare
SERVER = """
import asyncio, sys
import fewshot_sdk.web.connections as connections
from fewshot_sdk.web import limits, server
from tests.web.test_limits import Judge

connections.AT_ONCE, connections.SPARE, limits.PATIENCE, limits.LINGER = 4, 1, float(sys.argv[1]), 0.1

class Held(Judge):
    def predict(self, pictures, *, threshold=None):
        print("begun", flush=True)
        sys.stdin.readline()
        return super().predict(pictures, threshold=threshold)

with server.listening("127.0.0.1", 0) as listener:
    print(listener.getsockname()[1], flush=True)
    server.run(server.application(Held(), "m"), listener, 60.0)
"""
BOUND = 60.0  # seconds, against hanging
POST = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n"


class Server:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.port = int(self.heard())

    def heard(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def release(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def connect(self, sent: bytes = b"") -> socket.socket:
        wire = socket.create_connection(("127.0.0.1", self.port), timeout=BOUND)
        wire.sendall(sent)
        return wire

    def get(self, path: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=BOUND)
        connection.request("GET", path)
        status = connection.getresponse().status
        connection.close()
        return status


@contextmanager
def started(patience: float = BOUND) -> Iterator[Server]:
    command = [sys.executable, "-c", textwrap.dedent(SERVER), str(patience)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "cli")])}
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Server(process)
        finally:
            process.kill()


def answered(wire: socket.socket) -> bytes:
    response = http.client.HTTPResponse(wire)
    response.begin()
    assert response.status == 200
    return response.read()


def dropped(wire: socket.socket) -> bool:
    try:
        return wire.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize(
    "sent", [b"", b"POST /pre", POST, b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999\r\n\r\nx"]
)
def test_connections_that_ask_nothing_do_not_keep_others_out(sent: bytes) -> None:
    with started() as server, ExitStack() as stack:
        lazy = [stack.enter_context(server.connect(sent)) for _ in range(20)]
        assert server.get("/v2/health/live") == 200
        with server.connect(POST + b"x") as client:
            assert server.heard() == "begun"
            server.release()
            assert b"cat" in answered(client)
        assert dropped(lazy[0]), "the oldest was not dropped"


def test_a_connection_whose_request_has_arrived_is_not_dropped_for_idle_ones() -> None:
    with started() as server, ExitStack() as stack:
        client = stack.enter_context(server.connect(POST + b"x"))
        assert server.heard() == "begun"
        for _ in range(20):
            stack.enter_context(server.connect())
        assert server.get("/v2/health/live") == 200
        server.release()
        assert b"cat" in answered(client)


def test_when_all_are_at_work_probes_are_answered_and_others_are_told_to_come_again() -> None:
    with started() as server, ExitStack() as stack:
        clients = [stack.enter_context(server.connect(POST + b"x")) for _ in range(4)]
        assert server.heard() == "begun"
        assert server.get("/v2/health/live") == 200
        wire = stack.enter_context(server.connect(b"GET /v2 HTTP/1.1\r\nHost: localhost\r\n\r\n"))
        response = http.client.HTTPResponse(wire)
        response.begin()
        assert (response.status, response.headers["Retry-After"], response.headers["Connection"]) == (503, "1", "close")
        for client in clients:
            server.release()
            assert b"cat" in answered(client)


def test_a_request_waits_its_turn_and_if_that_does_not_come_its_connection_is_kept() -> None:
    with started(patience=0.0) as server, server.connect(POST + b"x") as first:
        assert server.heard() == "begun"
        second = http.client.HTTPConnection("127.0.0.1", server.port, timeout=BOUND)
        for _ in range(3):
            second.request("POST", "/predict", b"x")
            answer = second.getresponse()
            assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
            assert "busy" in json.loads(answer.read())["error"]
            assert second.sock is not None, "the connection was closed"
        second.close()
        server.release()
        assert b"cat" in answered(first)


def test_what_is_under_way_and_what_waits_is_answered_after_sigterm() -> None:
    with started() as server, ExitStack() as stack:
        clients = [stack.enter_context(server.connect(POST + b"x")) for _ in range(3)]
        assert server.heard() == "begun"
        assert server.get("/v2/health/live") == 200  # the others' requests have arrived, too
        server.process.send_signal(signal.SIGTERM)
        for client in clients:
            server.release()
            assert b"cat" in answered(client)
        assert server.process.wait(BOUND) == -signal.SIGTERM


def test_many_refusals_are_one_line_of_the_log() -> None:
    with started(patience=0.0) as server, server.connect(POST + b"x"):
        assert server.heard() == "begun"
        client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=BOUND)
        for _ in range(20):
            client.request("POST", "/predict", b"x")
            client.getresponse().read()
        client.close()
        server.process.kill()
        assert server.process.stderr is not None
        assert server.process.stderr.read().count("503") == 1


def test_what_is_not_http_is_answered_in_json() -> None:
    with started() as server, server.connect(b"\x16\x03\x01 hello\r\n\r\n") as wire:
        response = http.client.HTTPResponse(wire)
        response.begin()
        assert response.status == 400
        assert {"error", "request_id"} == json.loads(response.read()).keys()


def test_equal_warnings_are_counted_and_errors_are_not_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    grouping, now = Grouping(), 0.0
    monkeypatch.setattr("fewshot_sdk.web.connections.time.monotonic", lambda: now)

    def passed(text: str, level: int = logging.WARNING) -> str | None:
        record = logging.LogRecord("x", level, "", 0, text, None, None)
        return record.getMessage() if grouping.filter(record) else None

    assert passed("busy") == "busy"
    assert [passed("busy") for _ in range(3)] == [None] * 3
    assert passed("other") == "other"
    assert passed("busy", logging.ERROR) == "busy"
    now = 61.0
    assert passed("busy") == "busy (3 more since the last such line)"


def test_an_answer_is_sent_at_once_and_does_not_wait_for_an_acknowledgement() -> None:
    async def delays() -> list[int]:
        state = ServerState()
        config = uvicorn.Config(application(cast(Predictor, Judge()), "m"), lifespan="off")
        config.load()
        with listening("127.0.0.1", 0) as listener:
            server = await asyncio.get_running_loop().create_server(
                lambda: Connection(config=config, server_state=state, app_state={}), sock=listener
            )
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            writer.write(b"GET /v2 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await reader.readline()).split()[1] == b"200"
            sockets = [it.transport.get_extra_info("socket") for it in state.connections]
            found = [it.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for it in sockets]
            writer.close()
            server.close()
            return found

    assert [bool(off) for off in asyncio.run(asyncio.wait_for(delays(), BOUND))] == [True]


def test_port_0_is_a_free_one() -> None:
    with listening("127.0.0.1", 0) as listener:
        assert listener.getsockname()[1] > 0
