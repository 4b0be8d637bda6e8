from __future__ import annotations

import math
import os
import sys
from pathlib import Path

import pytest
import torch

from fewshot_sdk.engine import inner_loop, processors
from fewshot_sdk.engine.processors import usable_gpu
from tests.conftest import Run

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="here is a GPU that works")


@no_gpu
def test_without_a_gpu_the_reason_is_given() -> None:
    assert usable_gpu() == (None, "PyTorch finds no GPU here")


@no_gpu
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


@no_gpu
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


def group(root: Path, limits: dict[str, str], own: str) -> tuple[Path, Path]:
    """Control groups with these contents of cpu.max by path, and the file that names a process's own."""
    for path, limit in limits.items():
        (root / "groups" / path).mkdir(parents=True, exist_ok=True)
        (root / "groups" / path / "cpu.max").write_text(limit)
    (root / "own").write_text(own)
    return root / "groups", root / "own"


@pytest.mark.parametrize(
    ("limits", "own", "granted"),
    [
        ({}, "", math.inf),
        ({"": "max 100000\n"}, "0::/\n", math.inf),
        ({"": "150000 100000\n"}, "0::/\n", 1.5),
        ({"a": "max 100000\n", "a/b": "50000 100000\n"}, "1:cpu:/\n0::/a/b\n", 0.5),
        ({"a": "300000 100000\n", "a/b": "max 100000\n"}, "0::/a/b\n", 3),
        ({"a": "150000 100000\n"}, "0::/../../gone\n", math.inf),
        ({"a": "150000 100000\n"}, "4:cpu:/a\n", math.inf),
        ({"": "nonsense"}, "0::/\n", math.inf),
        ({"": "100000 0\n"}, "0::/\n", math.inf),
    ],
)
def test_the_quota_is_the_least_of_the_groups_around_a_process(
    limits: dict[str, str], own: str, granted: float, tmp_path: Path
) -> None:
    assert processors._quota(*group(tmp_path, limits, own)) == granted


@pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")
@pytest.mark.parametrize(("limit", "expected"), [("50000 100000", 1), ("150000 100000", 2), ("max 100000", 64)])
def test_a_container_uses_as_many_cores_as_its_quota_is_worth(
    limit: str, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups, own = group(tmp_path, {"": limit}, "0::/\n")
    monkeypatch.setattr(processors, "_CGROUPS", groups)
    monkeypatch.setattr(processors, "_OWN_CGROUP", own)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    assert processors.cores() == expected
