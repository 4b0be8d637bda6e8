from __future__ import annotations

import pytest


def test_progress_elsewhere_than_on_a_terminal_is_plain_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fewshot_cli import output

    monkeypatch.setattr(output, "PLAIN_SECONDS", 0.0)
    assert list(output.progress(iter("abc"), 3, "spelling", str.upper)) == ["a", "b", "c"]
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(",")[0] for line in lines] == [f"spelling: {i} of 3" for i in (1, 2, 3)]
    assert not any("\x1b" in line or "\r" in line for line in lines)
