"""The OpenAPI description says what the server does: real answers are checked against it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.web.test_limits import BODY, FOREIGN, INFER, OURS, Exhausted, exchanged, served

METHODS = ("get", "post")


def description() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(asyncio.run(exchanged(served(), "/openapi.json"))[1])
    return found


def resolved(part: Any) -> Any:
    """The part with its references followed."""
    if isinstance(part, dict) and "$ref" in part:
        found: Any = description()
        for name in part["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        return resolved(found)
    if isinstance(part, dict):
        return {name: resolved(value) for name, value in part.items()}
    return [resolved(value) for value in part] if isinstance(part, list) else part


NEEDED = ("401", {"token": "s3cret"}, OURS)
ELSEWHERE: tuple[str, dict[str, Any], dict[str, str]] = ("403", {}, {**OURS, **FOREIGN[0]})
LARGE = ("413", {"max_bytes": 10}, {**OURS, "content_length": "11"})
PATHS = [path for path, methods in description()["paths"].items() for _ in methods]
PROBES = [path for path in PATHS if "health" in path or path.endswith("/ready")]
ASKED = [
    *((path, "200", {}, OURS) for path in PATHS),
    *((path, *case) for path in PATHS if path not in PROBES for case in (NEEDED, ELSEWHERE)),
    *((path, *LARGE) for path in PATHS),
    *((path, "415", {}, {**OURS, "content_encoding": "gzip"}) for path in PATHS if path.endswith(("infer", "predict"))),
]


@pytest.mark.parametrize(("path", "expected", "limits", "headers"), ASKED)
def test_an_answer_is_as_described(path: str, expected: str, limits: dict[str, Any], headers: dict[str, str]) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    (method, operation), *_ = description()["paths"][path].items()
    sent = b"" if method == "get" else BODY if path.endswith("infer") else b"x"
    status, body, given = asyncio.run(exchanged(served(**limits), path, sent, headers))
    assert str(status) == expected
    content = resolved(operation["responses"][expected])["content"]
    kind = given["content-type"].partition(";")[0]
    assert kind in content
    if kind == "application/json":
        jsonschema.validate(json.loads(body), content[kind]["schema"])


def test_every_path_that_programs_use_is_described() -> None:
    app: Any = served()
    routes = {route.path: route.methods for route in app._app.routes}
    pages = {"/", "/page.css", "/bundle.css", "/pictures.js", "/answers.js", "/serve.js"}
    found = {path: {method.upper() for method in methods} for path, methods in description()["paths"].items()}
    assert found == {path: methods - {"HEAD"} for path, methods in routes.items() if path not in pages}


def test_too_little_memory_is_described() -> None:
    status, _, headers = asyncio.run(exchanged(served(Exhausted()), INFER, BODY))
    assert str(status) in description()["paths"][INFER]["post"]["responses"]
    assert headers["retry-after"] == "1"


def test_another_method_is_told_which_there_are() -> None:
    status, _, headers = asyncio.run(exchanged(served(), "/v2", b"x"))
    assert status == 405
    assert "GET" in headers["allow"]
