"""The server in its own process, over a real socket."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fewshot_sdk import Predictor, adapt, export_onnx
from fewshot_sdk.artifacts.initialization import Initialization
from tests.conftest import REPOSITORY, Run, draw_folder

START = "import sys, fewshot_sdk.web.server as s; s.SECONDS = {}; from fewshot_cli.main import app; app(sys.argv[1:])"


@dataclass(frozen=True)
class Server:
    process: subprocess.Popen[str]
    port: int

    def ask(self, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as refusal:
            return refusal.code, refusal.read()

    def json(self, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
        status, data = self.ask(path, body, **headers)
        return status, json.loads(data)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, init: Initialization) -> Path:
    folder = tmp_path_factory.mktemp("served")
    export_onnx(
        adapt(init, draw_folder(folder / "drawings"), method="reptile", reject_rate=None), folder / "shapes.onnx"
    )
    return folder / "shapes.onnx"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def up(server: Server) -> None:
    """Returns once the server listens, or after 20 seconds."""
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", server.port), timeout=1).close()
            break
        except OSError:
            time.sleep(0.1)


def start(model: Path, *words: str, seconds: float = 20.0) -> Iterator[Server]:
    port = free_port()
    command = [sys.executable, "-c", START.format(seconds), "serve", str(model), "--port", str(port), *words]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "cli")])}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        server = Server(process, port)
        try:
            up(server)
            yield server
        finally:
            process.kill()


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[Server]:
    yield from start(model, "--max-mib", "1")


@pytest.fixture(scope="module")
def guarded(model: Path) -> Iterator[Server]:
    yield from start(model, "--token", "s3cret")


@pytest.fixture
def drawing(model: Path) -> bytes:
    return (model.parent / "drawings" / "bee" / "0.png").read_bytes()


def inference(pixels: np.ndarray[Any, Any], **changes: object) -> bytes:
    tensor = {"name": "images", "shape": list(pixels.shape), "datatype": "UINT8", "data": pixels.ravel().tolist()}
    return json.dumps({"id": "7", "inputs": [{**tensor, **changes}]}).encode()


def test_a_picture_gets_the_predictors_answer(server: Server, model: Path, drawing: bytes) -> None:
    status, answer = server.json("/predict", drawing)
    (expected,) = Predictor(model).predict([drawing])
    assert status == 200
    assert answer["label"] == expected.label
    assert answer["probabilities"] == pytest.approx(expected.probabilities)


def test_the_open_inference_protocol(server: Server, model: Path) -> None:
    assert server.json("/v2/health/live")[0] == server.json("/v2/models/shapes/ready")[0] == 200
    assert server.json("/v2")[1]["name"] == "fewshot"
    described = server.json("/v2/models/shapes")[1]
    assert described["parameters"]["labels"] == ["ant", "bee", "cat"]
    assert described["inputs"][0]["shape"] == [-1, -1, -1, 3]
    shape = [3, 24, 19, 3]
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    status, found = server.json("/v2/models/shapes/infer", inference(pixels))
    assert status == 200
    assert found["id"] == "7"
    probabilities, labels, known = found["outputs"]
    expected = Predictor(model).probabilities(pixels)
    assert np.reshape(probabilities["data"], probabilities["shape"]) == pytest.approx(expected, abs=1e-6)
    assert labels["data"] == [("ant", "bee", "cat")[i] for i in expected.argmax(1)]
    assert known["data"] == (expected.max(1) >= Predictor(model).metadata.threshold).tolist()
    assert [output["name"] for output in described["outputs"]] == [output["name"] for output in found["outputs"]]
    one = {**json.loads(inference(pixels)), "outputs": [{"name": "known"}]}
    assert server.json("/v2/models/shapes/versions/1/infer", json.dumps(one).encode())[1]["outputs"] == [known]
    odd = {**one, "outputs": [{"name": "x"}]}
    assert "no output 'x'" in server.json("/v2/models/shapes/infer", json.dumps(odd).encode())[1]["error"]
    limit = float(np.median(expected.max(1)))
    strict = json.loads(inference(pixels))
    strict["inputs"].append({"name": "threshold", "datatype": "FP32", "shape": [1], "data": [limit]})
    answer = server.json("/v2/models/shapes/infer", json.dumps(strict).encode())[1]["outputs"]
    assert answer[:2] == found["outputs"][:2]
    assert answer[2]["data"] == Predictor(model, threshold=limit).answers(pixels)[1].tolist() != known["data"]
    nested = inference(pixels, data=pixels.tolist())
    assert server.json("/v2/models/shapes/infer", nested)[1]["outputs"] == found["outputs"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"shape": [1, 2, 3]}, "expected shape [n, 1 to 16384, 1 to 16384, 3], found [1, 2, 3]"),
        ({"shape": [1, 16, 16, 1]}, "found [1, 16, 16, 1]"),
        ({"shape": [1, 0, 16, 3]}, "found [1, 0, 16, 3]"),
        ({"shape": [1, 1, 16385, 3]}, "found [1, 1, 16385, 3]"),
        ({"datatype": "FP32"}, "expected one input 'images' of datatype UINT8"),
        ({"name": "x"}, "expected one input 'images'"),
        ({"data": [1, 2]}, "expected 768 whole numbers from 0 to 255"),
        ({"data": [256] * 768}, "expected 768 whole numbers from 0 to 255"),
        ({"data": [0.5] * 768}, "expected 768 whole numbers from 0 to 255"),
        ({"data": ["a"] * 256}, "expected numbers"),
        ({"data": ["1"] * 768}, "expected numbers"),
        ({"data": [True] * 768}, "expected numbers"),
        ({"data": [10**400] * 768}, "expected numbers"),
        ({"data": [1e300] * 768}, "expected 768 whole numbers from 0 to 255"),
        ({"shape": [1025, 1, 1, 3]}, "expected at most 1,024 pictures at once, found 1,025; send them in parts"),
        ({"data": [[1], [1, 2]]}, "expected numbers"),
        ({"data": None}, "not an inference request"),
    ],
)
def test_a_wrong_tensor_is_refused_with_a_sentence(server: Server, changes: dict[str, object], reason: str) -> None:
    status, answer = server.json("/v2/models/shapes/infer", inference(np.zeros((1, 16, 16, 3), np.uint8), **changes))
    assert status == 400
    assert reason in answer["error"]


def test_a_body_that_is_not_a_picture_or_json_is_refused(server: Server) -> None:
    assert server.json("/predict", b"nonsense")[0] == 400
    assert "not a picture" in server.json("/predict", b"nonsense")[1]["error"]
    assert "body is empty" in server.json("/predict", b"")[1]["error"]
    assert "not an inference request" in server.json("/v2/models/shapes/infer", b"{")[1]["error"]
    assert server.json("/nowhere")[0] == 404
    assert server.ask("/predict")[0] == 405


def test_a_foreign_host_gets_403(server: Server) -> None:
    assert server.json("/", Host="evil.example")[0] == 403
    assert server.ask("/", Host="localhost:1")[0] == 200


def test_a_body_that_is_too_large_gets_413_announced_or_not(server: Server) -> None:
    status, answer = server.json("/predict", bytes(2**20 + 1))
    assert status == 413
    assert "at most 1 MiB" in answer["error"]
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        client.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 314572800\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 413")
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        client.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(20):
            client.sendall(b"10000\r\n" + bytes(2**16) + b"\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize("mebibytes", [2, 20])
def test_a_refused_client_that_is_still_sending_gets_its_answer(server: Server, mebibytes: int) -> None:
    for _ in range(5):
        assert server.json("/predict", bytes(mebibytes * 2**20))[0] == 413
        assert server.json("/nowhere", bytes(mebibytes * 2**20))[0] == 413
        assert server.json("/predict", bytes(mebibytes * 2**20), Host="evil.example")[0] == 403


@pytest.mark.parametrize(
    "sent", [b"", b"POST /pre", b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nx"]
)
def test_a_slow_client_is_not_waited_for(model: Path, sent: bytes) -> None:
    for server in start(model, seconds=1.0):
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
            client.sendall(sent)
            answer = client.recv(100)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 408")


def test_a_connection_in_use_is_kept_open(model: Path) -> None:
    for server in start(model, seconds=1.0):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        for _ in range(5):
            connection.request("GET", "/v2")
            assert connection.getresponse().read()
            time.sleep(0.4)
        connection.close()


@pytest.mark.parametrize("path", ["/nothing", "/v2"])
def test_a_body_that_no_endpoint_reads_is_not_waited_for(server: Server, path: str) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as wire:
        wire.sendall(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n".encode())
        began = time.monotonic()
        with suppress(OSError):
            while time.monotonic() - began < 9:
                wire.sendall(b"x")
                wire.settimeout(0.3)
                with suppress(TimeoutError):
                    if not wire.recv(4096):
                        break
        assert time.monotonic() - began < 8


def test_a_port_in_use_is_an_error(run: Run, model: Path, server: Server) -> None:
    code, _, err = run("serve", model, "--port", server.port)
    assert code == 1
    assert f"cannot listen on 127.0.0.1, port {server.port}: address already in use; name another --port" in err
    assert "serving" not in err


def test_a_token_guards_all_but_the_page_and_the_health_checks(guarded: Server, drawing: bytes) -> None:
    assert guarded.json("/predict", drawing)[0] == 401
    assert guarded.json("/metrics")[0] == 401
    assert guarded.json("/predict", drawing, Authorization="Bearer wrong")[0] == 401
    assert guarded.json("/predict", drawing, Authorization="Bearer s3cret")[0] == 200
    assert guarded.ask("/")[0] == guarded.ask("/v2/health/ready")[0] == 200


def test_requests_are_counted_without_paths_that_clients_make_up(server: Server) -> None:
    server.ask("/made/up")
    server.ask("/v2")
    text = server.ask("/metrics")[1].decode()
    assert re.search(r'fewshot_requests_total\{path="/v2",status="200"\} [1-9]', text)
    assert "/made/up" not in text
    assert "fewshot_request_seconds_count" in text


def test_other_machines_are_let_in_only_with_a_token(model: Path) -> None:
    command = [sys.executable, "-m", "fewshot_cli.main", "serve", str(model), "--host", "0.0.0.0"]
    done = subprocess.run(command, cwd=REPOSITORY / "cli", capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "set a --token" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_after_answering_requests_under_way(
    model: Path, drawing: bytes, number: signal.Signals
) -> None:
    for server in start(model):
        assert server.ask("/predict", drawing)[0] == 200
        server.process.send_signal(number)
        server.process.wait(timeout=20)
        assert server.process.stderr is not None
        assert "Traceback" not in server.process.stderr.read()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_memory_stays_flat_over_many_requests(server: Server, drawing: bytes) -> None:
    def resident() -> int:
        status = Path(f"/proc/{server.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1])  # type: ignore[index]

    def many(n: int) -> None:
        for _ in range(n):
            assert server.ask("/predict", drawing)[0] == 200

    many(10_000)
    before = resident()
    many(90_000)
    assert resident() < before + 5_000
