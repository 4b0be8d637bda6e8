from __future__ import annotations

from pathlib import Path

import pytest

from fewshot_sdk.config import presets
from tests.conftest import Run, tiny_recipe


@pytest.fixture
def model(run: Run, saved: Path, drawings: Path, tmp_path: Path) -> Path:
    words = ("--support", drawings, "--init", saved, "--steps", 10, "--reject-rate", 0)
    assert run("adapt", *words, "--output", tmp_path / "model")[0] == 0
    return tmp_path / "model"


@pytest.fixture(autouse=True)
def _tiny_glyphs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(presets.PRESETS, "glyphs", tiny_recipe())
    monkeypatch.setattr("fewshot_sdk.data.glyphs.GLYPH_CLASSES", 40)
