from __future__ import annotations

from pathlib import Path

from tests.conftest import Run, draw_folder


def test_control_characters_in_names_are_shown_escaped(run: Run, tmp_path: Path) -> None:
    folder = draw_folder(tmp_path / "set")
    (folder / "ant" / "no\x1b[31m.png").write_bytes(b"none")
    code, out, _ = run("doctor", folder)
    assert code == 1
    assert "no\\x1b[31m.png is not a picture" in out
    (folder / "ant" / "no\x1b[31m.png").unlink()
    (folder / "cat").rename(folder / "ca\nt")
    code, _, err = run("doctor", folder)
    assert code == 1
    assert "class 'ca\\nt': expected a name without control characters" in err
