from __future__ import annotations

import ctypes
import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest
import torch

from fewshot_cli.commands.evaluate import EvaluateOptions, measure
from fewshot_cli.jobs import n_workers, run_job
from fewshot_sdk import save
from fewshot_sdk.artifacts.initialization import Initialization
from fewshot_sdk.config.recipe import Recipe
from fewshot_sdk.data.class_images import ClassImages
from fewshot_sdk.data.tasks import TaskSampler
from fewshot_sdk.engine.workers import Workers, run_workers
from fewshot_sdk.errors import ConfigError, TrainingDiverged, WorkersError
from fewshot_sdk.meta.training import meta_train
from tests.conftest import drawn_glyphs, tiny_recipe


def five_tasks(rate: float = 3e-3) -> tuple[Recipe, ClassImages]:
    """A recipe with five tasks per step, which neither two nor three workers share evenly, and its data."""
    small = tiny_recipe()
    recipe = small.replace(
        meta=small.meta.replace(meta_steps=3, tasks_per_step=5), inner=small.inner.replace(learning_rate=rate)
    )
    return recipe, drawn_glyphs(recipe)


def trained(workers: Workers, rate: float = 3e-3) -> list[str]:
    """Each step's weights by their hash, in a worker."""
    recipe, data = five_tasks(rate)
    tasks = TaskSampler(data=data, n_way=5, k_shot=3)
    return [step.initialization.sha256 for step in meta_train(recipe, tasks, workers=workers)]


def killed(workers: Workers) -> None:
    if workers.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def death_signal(workers: Workers) -> int:
    """The signal that Linux sends a worker when its parent has ended."""
    found = ctypes.c_int()
    ctypes.CDLL(None).prctl(2, ctypes.byref(found))
    return found.value


def summed(workers: Workers, n: int, length: int) -> list[float]:
    """A sum that depends on its order, in a worker."""
    total: list[float] = workers.total([vector(i, length) for i in workers.share(n)], n).tolist()
    return total


def vector(i: int, length: int) -> torch.Tensor:
    scale = (-1.0 if i % 2 else 1.0) * 3.0 ** (10 - i)
    return torch.linspace(0.1, 1, length) * scale


@pytest.mark.parametrize(("size", "n", "length"), [(2, 5, 7), (3, 4, 10), (3, 3, 2)])
def test_a_sum_is_taken_in_task_order(size: int, n: int, length: int) -> None:
    in_order = vector(0, length)
    for i in range(1, n):
        in_order = in_order + vector(i, length)
    assert summed(Workers(), n, length) == in_order.tolist()
    assert run_workers(size, summed, n, length) == in_order.tolist()


@pytest.mark.parametrize("size", [2, 3])
def test_the_bits_do_not_depend_on_the_number_of_workers(size: int) -> None:
    alone = trained(Workers())
    assert len(set(alone)) == 3
    assert run_workers(size, trained) == alone


def test_a_known_failure_of_workers_is_raised_as_it_is_alone() -> None:
    with pytest.raises(TrainingDiverged) as alone:
        trained(Workers(), 1e38)
    with pytest.raises(TrainingDiverged, match=re.escape(str(alone.value))):
        run_workers(2, trained, 1e38)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_worker_that_dies_ends_the_others_and_is_reported() -> None:
    began = time.monotonic()
    with pytest.raises(WorkersError, match=r"worker 1 of 2 died \(.*SIGKILL.*\); .*--resume"):
        run_workers(2, killed)
    assert time.monotonic() - began < 50


@pytest.fixture(scope="module")
def one_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, list[Path]]:
    """A worker's death signal, and the files left in the temporary folder."""
    folder = tmp_path_factory.mktemp("temporary")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(folder))
        found = run_workers(1, death_signal)
    return found, list(folder.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")
def test_a_worker_is_killed_when_its_parent_has_ended(one_run: tuple[int, list[Path]]) -> None:
    assert one_run[0] == signal.SIGKILL


def test_nothing_is_left_in_the_temporary_folder(one_run: tuple[int, list[Path]]) -> None:
    assert not one_run[1]


def test_shares_are_disjoint_and_together_everything() -> None:
    for size in range(1, 7):
        shares = [list(Workers(rank=rank, size=size).share(5)) for rank in range(size)]
        assert sorted(i for share in shares for i in share) == list(range(5))


def test_a_last_round_also_takes_the_cores_left_idle() -> None:
    assert [list(Workers(rank=rank, size=2).cores(5)) for rank in range(2)] == [[1, 1, 2], [1, 1]]
    assert [list(Workers(rank=rank, size=4).cores(6)) for rank in range(4)] == [[1, 2], [1, 2], [1], [1]]
    assert list(Workers().cores(3)) == [1, 1, 1]


def test_alone_nothing_is_sent() -> None:
    mine = [torch.ones(2), torch.zeros(2)]
    assert Workers().gather(mine, 2) is mine
    assert Workers().any(True)
    assert not Workers().any(False)


def test_more_workers_than_tasks_are_refused() -> None:
    recipe, data = five_tasks()
    with pytest.raises(ConfigError, match="6 workers cannot share 5 tasks"):
        next(meta_train(recipe, TaskSampler(data=data, n_way=5, k_shot=3), workers=Workers(rank=0, size=6)))


def test_auto_is_one_worker_for_a_short_job_and_one_per_core_for_a_long_one() -> None:
    assert n_workers(5, 100) == 1
    assert n_workers(5, 10**6) == min(len(os.sched_getaffinity(0)), 5)
    assert n_workers(1, 10**6) == 1


def test_without_a_loopback_network_there_is_one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **_settings: object) -> None:
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr("socket.create_connection", unreachable)
    assert n_workers(5, 10**6) == 1
    with pytest.raises(WorkersError, match=r"127\.0\.0\.1, which does not work on this machine; use --workers 1"):
        run_workers(2, trained)


def test_evaluation_by_several_workers_gives_the_same_result(init: Initialization, tmp_path: Path) -> None:
    job = EvaluateOptions(init=str(save(init, tmp_path / "init")), tasks=7, mode="all", seed=2)
    alone = measure(Workers(), job)
    assert run_job(measure, job, 2, 7, 0) == alone
    assert [result.tasks for result in alone] == [7, 7, 7]
