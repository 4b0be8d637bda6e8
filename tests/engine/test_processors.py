from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fewshot_sdk.engine.processors import usable_gpu
from tests.conftest import Run

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="here is a GPU that works")


def test_without_a_gpu_the_reason_is_given() -> None:
    assert usable_gpu() == (None, "PyTorch finds no GPU here")


def test_a_gpu_that_cannot_be_used_is_not_used(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    device, reason = usable_gpu()
    assert device is None
    assert reason.startswith("PyTorch finds a GPU and cannot use it (")
    arguments = ("meta-train", "--preset", "glyphs", "--meta-steps", 1, "--evaluate-every", 0, "--workers", 1)
    code, _, err = run(*arguments, "--output", tmp_path / "init")
    assert code == 0, err
    assert f"{reason}; using the processor" in err
    code, _, err = run(*arguments, "--device", "cuda", "--output", tmp_path / "other")
    assert (code, err) == (1, f"error: --device cuda: {reason}; leave the option out to use the processor\n")
