from __future__ import annotations

from pathlib import Path

import pytest

from fewshot_sdk.storage.locks import alone_at
from tests.conftest import Run


@pytest.mark.parametrize(
    "words",
    [
        ["meta-train", "--preset", "glyphs"],
        ["meta-train", "--preset", "glyphs", "--resume"],
        ["meta-train", "--preset", "sine"],
        ["meta-train", "--preset", "omniglot-5way", "--pretrain", 2, "--meta-steps", 0],
        ["reproduce", "taylor"],
        ["reproduce", "taylor", "--resume"],
    ],
)
def test_a_second_one_at_the_same_output_is_refused_at_once(
    run: Run, words: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("training", "reproduction"):
        monkeypatch.setattr(f"fewshot_cli.{module}.check_free", lambda _: pytest.fail("it went on"))
    with alone_at(tmp_path / "run", tmp_path / "run.checkpoint"):
        code, _, err = run(*words, "--output", tmp_path / "run")
    assert code == 1
    assert err == (
        f"error: another process is making {tmp_path / 'run'} at this moment; wait until it ends, or name another "
        "--output\n"
    )
    assert not list(tmp_path.iterdir())
