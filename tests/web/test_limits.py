"""Who is let in, and what waits for what; the application runs in this process."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import MutableMapping
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from fewshot_sdk.runtime.predictions import Prediction
from fewshot_sdk.runtime.predictor import Predictor
from fewshot_sdk.web import server as serving
from fewshot_sdk.web.access import App
from fewshot_sdk.web.inference import InferenceRequest, inference_request

INFER, OURS = "/v2/models/m/infer", {"host": "localhost:8000"}
BODY = b'{"inputs": [{"name": "images", "shape": [1, 1, 1, 3], "datatype": "UINT8", "data": [0, 0, 0]}]}'


class Judge:
    """A predictor that calls everything a cat."""

    labels = ("ant", "cat")
    metadata = SimpleNamespace(raw=False, preprocessing=SimpleNamespace())

    asked: float | None = None  # the last threshold

    def predict(self, pictures: list[bytes], *, threshold: float | None = None) -> list[Prediction]:
        self.asked = threshold
        prediction = Prediction(label="cat", nearest="cat", probability=0.75, probabilities={"ant": 0.25, "cat": 0.75})
        return [prediction for _ in pictures]

    def answers(
        self, pictures: NDArray[np.uint8], *, threshold: float | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        self.asked = threshold
        return np.tile(np.array([0.25, 0.75], np.float32), (len(pictures), 1)), np.full(len(pictures), True)


class Exhausted(Judge):
    def answers(
        self, pictures: NDArray[np.uint8], *, threshold: float | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        assert threshold is None
        raise MemoryError(len(pictures))


def served(predictor: object = None, **limits: Any) -> App:
    return serving.application(cast(Predictor, predictor or Judge()), "m", **limits)


async def ask(app: App, path: str, sent: bytes = b"", headers: dict[str, str] = OURS) -> tuple[int, bytes]:
    """The status and body of the answer; GET without a body, else POST."""
    status, body, _ = await exchanged(app, path, sent, headers)
    return status, body


async def exchanged(
    app: App, target: str, sent: bytes = b"", headers: dict[str, str] = OURS
) -> tuple[int, bytes, dict[str, str]]:
    """The same, with the answer's headers."""
    path, _, query = target.partition("?")
    messages: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": sent, "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        messages.append(message)

    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    await app(
        {
            "type": "http", "method": "POST" if sent else "GET", "path": path, "raw_path": path.encode(),
            "query_string": query.encode(), "root_path": "", "scheme": "http", "headers": named,
        },
        receive, send,
    )  # fmt: skip
    body = b"".join(message.get("body", b"") for message in messages[1:])
    return messages[0]["status"], body, {name.decode(): value.decode() for name, value in messages[0]["headers"]}


def status(path: str, sent: bytes = b"", **headers: str) -> int:
    return asyncio.run(ask(served(), path, sent, {**OURS, **headers}))[0]


FOREIGN: list[dict[str, str]] = [
    {"origin": "http://evil.example"},
    {"origin": "https://evil.example:8000", "content_type": "application/json"},
    {"origin": "http://localhost:3000"},
    {"origin": "http://localhost"},
    {"origin": "http://127.0.0.1:8000"},
    {"origin": "null"},
    {"origin": ""},
    {"sec_fetch_site": "cross-site"},
    {"sec_fetch_site": "same-site"},
    {"origin": "http://localhost:8000", "sec_fetch_site": "cross-site"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
@pytest.mark.parametrize(
    ("path", "sent"), [(INFER, BODY), ("/predict", b"picture"), ("/metrics", b""), ("/v2/models/m", b"")]
)
def test_pages_of_other_sites_get_403(path: str, sent: bytes, headers: dict[str, str]) -> None:
    assert status(path, sent, **headers) == 403


PROBES = ("/v2/health/live", "/v2/health/ready", "/v2/models/m/ready", "/v2/models/m/versions/1/ready")


@pytest.mark.parametrize("path", PROBES)
@pytest.mark.parametrize("limits", [{}, {"token": "s3cret"}, {"token": "s3cret", "hosts": ["example.org"]}], ids=str)
def test_a_probe_by_address_is_told_that_the_server_is_up_and_nothing_else(path: str, limits: dict[str, Any]) -> None:
    for host in ("10.1.2.3:8000", "[fd00::7]:8000", "pod.cluster.local"):
        found = asyncio.run(ask(served(**limits), path, headers={"host": host}))
        assert found == (200, b'{"live":true,"ready":true}')


@pytest.mark.parametrize(
    "path",
    ["/", "/labels", "/v2", "/v2/models/m", "/v2/models/n/ready", "/v2/models/m/ready/", "/metrics", "/v2/health"],
)
def test_by_another_host_nothing_but_a_probe_is_answered(path: str) -> None:
    assert asyncio.run(ask(served(), path, headers={"host": "10.1.2.3:8000"}))[0] == 403


@pytest.mark.parametrize("path", ["/labels", "/v2", "/v2/models/m", "/v2/models/n/ready", "/metrics"])
def test_a_token_guards_what_tells_of_the_model(path: str) -> None:
    assert asyncio.run(ask(served(token="s3cret"), path))[0] == 401
    given = {**OURS, "authorization": "Bearer s3cret"}
    assert asyncio.run(ask(served(token="s3cret"), path, headers=given))[0] == (404 if "/n/" in path else 200)


def test_the_page_and_its_parts_name_only_what_is_served() -> None:
    page = asyncio.run(ask(served(token="s3cret"), "/"))[1].decode()
    parts = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert {"page.css", "pictures.js", "serve.js"} <= set(parts)
    for part in (part for part in parts if part != "data:,"):
        code, body, headers = asyncio.run(exchanged(served(token="s3cret"), f"/{part}"))
        assert code == 200
        assert body
        assert headers["content-type"].startswith("text/javascript" if part.endswith(".js") else "text/css")


@pytest.mark.parametrize(("query", "expected"), [("", None), ("?threshold=0.6", 0.6), ("?threshold=0", 0.0)])
def test_a_picture_may_be_judged_at_another_threshold(query: str, expected: float | None) -> None:
    judge = Judge()
    assert asyncio.run(ask(served(judge), f"/predict{query}", b"picture"))[0] == 200
    assert judge.asked == expected


@pytest.mark.parametrize(
    "query",
    [
        "threshold=1.5",
        "threshold=-0.1",
        "threshold=nan",
        "threshold=inf",
        "threshold=",
        "threshold=0,5",
        "threshold=0.5&threshold=0.6",
        "threshold=0.5&x=1",
        "limit=0.5",
    ],
)
def test_another_query_is_refused(query: str) -> None:
    code, answer = asyncio.run(ask(served(), f"/predict?{query}", b"picture"))
    assert code == 400
    assert "expected no query, or ?threshold= and one number from 0 to 1" in json.loads(answer)["error"]


def test_a_compressed_body_is_refused() -> None:
    assert status(INFER, BODY, content_encoding="gzip") == status("/predict", b"picture", content_encoding="br") == 415
    assert status(INFER, BODY, content_encoding="identity") == 200


@pytest.mark.parametrize("path", ["/", "/serve.js", "/v2/health/live"])
def test_a_link_from_another_site_leads_to_the_page(path: str) -> None:
    assert status(path, sec_fetch_site="cross-site") == 200


def test_the_servers_own_page_and_programs_are_answered() -> None:
    ours = {"origin": "http://localhost:8000", "sec_fetch_site": "same-origin"}
    assert status("/predict", b"picture", content_type="application/octet-stream", **ours) == 200
    assert status("/predict", b"picture") == status(INFER, BODY) == 200
    assert status("/predict", b"picture", sec_fetch_site="none") == 200


@pytest.mark.parametrize(
    ("path", "kind", "expected"),
    [
        (INFER, "application/json", 200),
        (INFER, "Application/JSON; charset=utf-8", 200),
        (INFER, "text/plain;charset=UTF-8", 415),
        (INFER, "application/jsonp", 415),
        (INFER, "application/octet-stream", 415),
        (INFER, "multipart/form-data; boundary=x", 415),
        ("/predict", "image/png", 200),
        ("/predict", "application/octet-stream", 200),
        ("/predict", "application/json", 415),
        ("/predict", "text/plain", 415),
        ("/predict", "multipart/form-data; boundary=x", 415),
    ],
)
def test_a_route_refuses_content_types_that_it_does_not_read(path: str, kind: str, expected: int) -> None:
    assert status(path, BODY, content_type=kind) == expected


@pytest.mark.parametrize("path", [INFER, "/predict"])
def test_curls_default_content_type_is_accepted(path: str) -> None:
    assert status(path, BODY, content_type="application/x-www-form-urlencoded") == 200


def test_too_little_memory_gets_a_sentence() -> None:
    found, answer = asyncio.run(ask(served(Exhausted()), INFER, BODY))
    assert found == 503
    assert "not enough memory" in json.loads(answer)["error"]


def test_requests_are_read_one_at_a_time_and_health_checks_do_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go, lock = threading.Event(), threading.Event(), threading.Lock()
    inside: list[int] = []
    reading = 0

    def slow(body: bytes, json_size: int | None) -> InferenceRequest:
        nonlocal reading
        with lock:
            reading += 1
            inside.append(reading)
        begun.set()
        answered = go.wait(30)
        with lock:
            reading -= 1
        assert answered, "the health check waited for a request to be read"
        return inference_request(body, json_size)

    async def scene() -> list[int]:
        app = served()
        requests = [asyncio.ensure_future(ask(app, INFER, BODY)) for _ in range(4)]
        assert await asyncio.to_thread(begun.wait, 30)
        assert (await ask(app, "/v2/health/live"))[0] == 200
        go.set()
        return [code for code, _ in await asyncio.gather(*requests)]

    monkeypatch.setattr(serving, "inference_request", slow)
    assert asyncio.run(scene()) == [200] * 4
    assert inside == [1] * 4
