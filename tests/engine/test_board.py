"""Memory shared by workers; that their sums are right is tested with the workers."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import torch.distributed as dist

from fewshot_sdk.engine import board
from fewshot_sdk.engine.board import Board
from fewshot_sdk.errors import WorkersError


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages of a single process to itself."""
    monkeypatch.setattr(dist, "broadcast", lambda *_: None)
    monkeypatch.setattr(dist, "all_reduce", lambda *_: None)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere vectors go through sockets")
@pytest.mark.usefixtures("alone")
def test_rows_keep_what_the_turn_before_wrote() -> None:
    mine = Board(0, 1)
    like = torch.zeros(7)
    first = mine.rows(2, like)
    assert first is not None
    first[:] = 3
    mine.meet()
    second = mine.rows(2, like)
    assert second is not None
    second[:] = 4
    mine.meet()
    assert first.eq(3).all()
    third = mine.rows(2, like)
    assert third is not None
    assert third.eq(3).all()  # the same memory again, which all have read by now


@pytest.mark.usefixtures("alone")
def test_vectors_too_long_or_memory_that_is_refused_are_left_to_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "LARGEST", 1000)
    assert Board(0, 1).rows(5, torch.zeros(26)) is None

    def refuse(_: str) -> int:
        raise PermissionError

    monkeypatch.setattr("os.memfd_create", refuse, raising=False)
    assert Board(0, 1).rows(1, torch.zeros(3)) is None


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere vectors go through sockets")
@pytest.mark.usefixtures("alone")
def test_a_worker_that_has_died_is_not_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "LOOK", 0.0)
    mine = Board(0, 2)
    assert mine.rows(2, torch.zeros(3)) is not None
    assert mine._meetings is not None
    other = subprocess.Popen([sys.executable, "-c", ""])
    other.wait()
    mine._meetings[board._APART + board._PROCESS] = other.pid
    with pytest.raises(RuntimeError, match="another worker has died"):
        mine.meet()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere vectors go through sockets")
@pytest.mark.usefixtures("alone")
def test_a_worker_that_never_comes_is_not_awaited_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "LONGEST", 0.0)
    mine = Board(0, 2)
    assert mine.rows(2, torch.zeros(3)) is not None
    with pytest.raises(WorkersError, match="has not finished its tasks"):
        mine.meet()
