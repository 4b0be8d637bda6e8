from __future__ import annotations

import io
import json
import sys
import tomllib

import pytest

from fewshot_cli import output


def test_progress_elsewhere_than_on_a_terminal_is_plain_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "PLAIN_SECONDS", 0.0)
    assert list(output.progress(iter("abc"), 3, "spelling", str.upper)) == ["a", "b", "c"]
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(",")[0] for line in lines] == [f"spelling: {i} of 3" for i in (1, 2, 3)]
    assert not any("\x1b" in line or "\r" in line for line in lines)


@pytest.mark.parametrize("encoding", ["utf-8", "UTF-8", "ascii", "latin-1", "cp1252"])
def test_json_is_json_whatever_its_text_and_the_encoding(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    value = {"été 猫 😀": 'tab\t line\n DEL\x7f C1\x85 half\udce9 quote" back\\slash'}
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    output.emit_json(value)
    text = raw.getvalue().decode(encoding)
    assert json.loads(text) == value
    assert ("été" in text) == (encoding.lower() == "utf-8")
    assert not set(text) & {chr(code) for code in (*range(0x7F, 0xA0), *range(10), *range(11, 32))}


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii"])
def test_toml_is_valid_in_utf8_whatever_the_streams_encoding(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    output.emit_toml('# a comment\nname = "été 猫 😀"\n')
    assert tomllib.loads(raw.getvalue().decode()) == {"name": "été 猫 😀"}
    assert raw.getvalue().endswith(b'"\n')


@pytest.mark.parametrize("one_line", [False, True])
def test_a_number_that_is_not_finite_is_null_in_json(one_line: bool, capsys: pytest.CaptureFixture[str]) -> None:
    output.emit_json({"a": float("nan"), "b": [1.5, (float("inf"), "x")]}, one_line=one_line)
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [1.5, [None, "x"]]}
