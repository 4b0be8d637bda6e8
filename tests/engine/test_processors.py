from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fewshot_sdk.engine import inner_loop
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


def test_a_gpu_without_enough_memory_is_not_used(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore words")

    ones = torch.ones
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "ones", lambda *sizes, **_: ones(*sizes))
    monkeypatch.setattr(inner_loop, "fine_tune_together", full)
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, _: self)
    arguments = ("meta-train", "--preset", "glyphs", "--meta-steps", 1, "--evaluate-every", 0, "--workers", 1)
    code, _, err = run(*arguments, "--output", tmp_path / "init")
    assert code == 0, err
    assert "cannot use it (CUDA out of memory. Tried to allocate 2.00 GiB.); using the processor" in err
    code, _, err = run(*arguments, "--device", "cuda", "--output", tmp_path / "other")
    assert code == 1
    assert "CUDA out of memory" in err
    assert not (tmp_path / "other").exists()
