"""Request ids and the access log; the application runs in this process."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from fewshot_sdk.errors import ConfigError
from fewshot_sdk.web.access import STDERR, access_log
from tests.web.test_limits import BODY, INFER, OURS, exchanged, served

NASTY = '"><img src=x onerror=alert(1)>\x1b[2J`$(reboot)`'


def ids(path: str, sent: bytes = b"", **headers: str) -> tuple[str, str | None]:
    """The id in the answer's header, and in the body of an error."""
    status, body, given = asyncio.run(exchanged(served(token="s3cret"), path, sent, {**OURS, **headers}))
    return given["x-request-id"], json.loads(body)["request_id"] if status >= 400 else None


@pytest.mark.parametrize("path", ["/labels", "/v2", INFER, "/v2/health/live"])
def test_a_harmless_request_id_comes_back_also_in_errors(path: str) -> None:
    header, error = ids(path, x_request_id="a-1.b:c_D")
    assert header == "a-1.b:c_D"
    assert error in (None, header)


@pytest.mark.parametrize("bad", ["", NASTY, "a" * 65, "a b", "ä", "a\tb"])
def test_another_request_id_is_not_repeated(bad: str) -> None:
    header, error = ids("/labels", x_request_id=bad)
    assert re.fullmatch("[0-9a-f]{32}", header)
    assert error == header


@pytest.mark.parametrize(("sent", "path"), [(b"", "/nowhere"), (b"x", "/v2"), (b"x", INFER), (b"x", "/predict?a=b")])
def test_every_error_names_the_request(sent: bytes, path: str) -> None:
    status, body, headers = asyncio.run(exchanged(served(), path, sent))
    assert status in (400, 404, 405)
    assert json.loads(body)["request_id"] == headers["x-request-id"]


def logged(tmp_path: Path, *requests: tuple[str, bytes, dict[str, str]], **limits: Any) -> list[dict[str, Any]]:
    with access_log(tmp_path / "log") as note:
        app = served(note=note, **limits)
        for path, sent, headers in requests:
            asyncio.run(exchanged(app, path, sent, {**OURS, **headers}))
    return [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]


def test_each_request_is_a_line_of_json(tmp_path: Path) -> None:
    found = logged(tmp_path, (INFER, BODY, {"x_request_id": "r1"}), ("/v2/health/live", b"", {}))
    assert [list(line) for line in found] == [
        ["time", "request_id", "method", "path", "status", "bytes", "milliseconds", "client"]
    ] * 2
    (first, second) = found
    assert (first["request_id"], first["method"], first["path"], first["status"]) == ("r1", "POST", INFER, 200)
    assert (second["method"], second["path"], second["bytes"]) == ("GET", "/v2/health/live", 26)


def test_nothing_secret_and_nothing_that_a_client_made_up_is_logged(tmp_path: Path) -> None:
    headers = {"x_request_id": NASTY, "user_agent": NASTY, "authorization": "Bearer s3cret"}
    logged(tmp_path, (f"/{NASTY}", b"", headers), ("/predict?threshold=<img>", b"x", headers), token="s3cret")
    text = (tmp_path / "log").read_text()
    assert text.count("\n") == 2
    for part in ("img", "reboot", "s3cret", "\x1b", "threshold"):
        assert part not in text


def test_a_log_is_added_to_and_dash_is_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert logged(tmp_path, ("/v2", b"", {}))
    assert len((tmp_path / "log").read_text().splitlines()) == 2
    with access_log(STDERR) as note:
        asyncio.run(exchanged(served(note=note), "/v2"))
    assert json.loads(capsys.readouterr().err)["path"] == "/v2"


def test_a_log_that_cannot_be_written_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--access-log .*: is a directory; name another"), access_log(tmp_path):
        pass


def test_a_full_disk_does_not_cost_the_answer() -> None:
    with access_log(Path("/dev/full")) as note:
        assert asyncio.run(exchanged(served(note=note), "/v2"))[0] == 200
