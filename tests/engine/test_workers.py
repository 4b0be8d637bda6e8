from __future__ import annotations

import ctypes
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from fewshot_cli.commands.evaluate import EvaluateOptions, measure
from fewshot_cli.jobs import n_workers, run_job
from fewshot_sdk import save
from fewshot_sdk.algorithms import Algorithm
from fewshot_sdk.artifacts.initialization import Initialization
from fewshot_sdk.config.presets import with_algorithm
from fewshot_sdk.config.recipe import Recipe
from fewshot_sdk.config.records import Evaluation
from fewshot_sdk.data.class_images import ClassImages
from fewshot_sdk.data.tasks import TaskSampler
from fewshot_sdk.engine import workers
from fewshot_sdk.engine.processors import cores
from fewshot_sdk.engine.workers import Workers, run_workers
from fewshot_sdk.errors import ConfigError, TrainingDiverged, WorkersError
from fewshot_sdk.meta.training import meta_train
from tests.conftest import drawn_glyphs, tiny_recipe
from tests.meta.test_own_networks import weights_at_the_end
from tests.meta.test_tail import weights_of_each_step

SUMS = [(5, 7), (4, 10), (3, 2)]  # numbers of vectors, and their lengths


@dataclass(frozen=True, kw_only=True)
class Done:
    """The first worker's results."""

    sums: list[list[float]]
    sums_through_sockets: list[list[float]]
    turns: list[float]
    shares_memory: bool
    trained: dict[str, list[str]]
    own_network: list[list[float]]
    tail: list[str]
    evaluated: list[Evaluation]
    death_signal: int


def everything(workers: Workers, job: EvaluateOptions) -> Done:
    """Everything that is tested, by one start of the workers."""
    return Done(
        sums=[summed(workers, n, length) for n, length in SUMS],
        sums_through_sockets=[summed(replace(workers, board=None), n, length) for n, length in SUMS],
        turns=[summed(workers, 5, 10_000 + turn % 3)[turn] for turn in range(50)],
        shares_memory=workers.board is not None and workers.board.rows(1, torch.zeros(3)) is not None,
        trained={
            "reptile": trained(workers, "reptile"),
            "meta-sgd": trained(workers, "meta-sgd"),
        },
        own_network=weights_at_the_end(workers),
        tail=weights_of_each_step(workers),
        evaluated=measure(workers, job),
        death_signal=death_signal(),
    )


def five_tasks(algorithm: Algorithm = "reptile", rate: float | None = None) -> tuple[Recipe, ClassImages]:
    """A recipe with five tasks per step, which neither two nor three workers share evenly, and its data."""
    small = with_algorithm(tiny_recipe(), algorithm)
    recipe = small.replace(
        meta=small.meta.replace(meta_steps=3, tasks_per_step=5),
        inner=small.inner.replace(learning_rate=rate or small.inner.learning_rate),
    )
    return recipe, drawn_glyphs(recipe)


def trained(workers: Workers, algorithm: Algorithm, rate: float | None = None) -> list[str]:
    """Each step's weights by their hash."""
    recipe, data = five_tasks(algorithm, rate)
    tasks = TaskSampler(data=data, n_way=5, k_shot=3)
    return [step.initialization.sha256 for step in meta_train(recipe, tasks, workers=workers)]


def killed(workers: Workers) -> None:
    if workers.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    threading.Event().wait()


def death_signal() -> int:
    """The signal that Linux sends this process when its parent has ended."""
    if sys.platform != "linux":
        return 0
    found = ctypes.c_int()
    ctypes.CDLL(None).prctl(2, ctypes.byref(found))
    return found.value


def summed(workers: Workers, n: int, length: int) -> list[float]:
    """A sum that depends on its order."""
    total: list[float] = workers.total([vector(i, length) for i in workers.share(n)], n).tolist()
    return total


def vector(i: int, length: int) -> torch.Tensor:
    scale = (-1.0 if i % 2 else 1.0) * 3.0 ** (10 - i)
    return torch.linspace(0.1, 1, length) * scale


@pytest.fixture(scope="module")
def job(init: Initialization, omniglot_root: Path, tmp_path_factory: pytest.TempPathFactory) -> EvaluateOptions:
    folder = save(init, tmp_path_factory.mktemp("evaluated") / "init")
    return EvaluateOptions(init=str(folder), data="omniglot", root=omniglot_root, tasks=7, mode="all", seed=2)


@pytest.fixture(scope="module")
def alone(job: EvaluateOptions) -> Done:
    return everything(Workers(), job)


@pytest.fixture(scope="module")
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The temporary folder while workers run."""
    folder = tmp_path_factory.mktemp("temporary")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(folder))
        yield folder


@pytest.fixture(scope="module", params=[2, 3])
def together(request: pytest.FixtureRequest, job: EvaluateOptions, temporary: Path) -> Done:
    return run_workers(request.param, everything, job)


def test_a_sum_is_taken_in_task_order(alone: Done, together: Done) -> None:
    for (n, length), found in zip(SUMS, alone.sums, strict=True):
        in_order = vector(0, length)
        for i in range(1, n):
            in_order = in_order + vector(i, length)
        assert found == in_order.tolist()
    assert together.sums == together.sums_through_sockets == alone.sums
    assert together.turns == alone.turns


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere vectors go through sockets")
def test_workers_of_one_machine_share_memory(together: Done) -> None:
    assert together.shares_memory


@pytest.mark.parametrize("algorithm", ["reptile", "meta-sgd"])
def test_the_bits_do_not_depend_on_the_number_of_workers(alone: Done, together: Done, algorithm: str) -> None:
    assert len(set(alone.trained[algorithm])) == 3
    assert together.trained[algorithm] == alone.trained[algorithm]


def test_nor_do_those_of_a_network_of_ones_own(alone: Done, together: Done) -> None:
    assert together.own_network == alone.own_network


def test_nor_do_those_of_last_stages_on_several_domains(alone: Done, together: Done) -> None:
    assert len(set(alone.tail)) == 2
    assert together.tail == alone.tail


def test_nor_does_an_evaluation(alone: Done, together: Done) -> None:
    assert together.evaluated == alone.evaluated
    assert [result.tasks for result in alone.evaluated] == [7, 7, 7]


def test_a_known_failure_of_workers_is_raised_as_it_is_alone() -> None:
    with pytest.raises(TrainingDiverged) as alone:
        trained(Workers(), "reptile", 1e38)
    with pytest.raises(TrainingDiverged, match=re.escape(str(alone.value))):
        run_workers(2, trained, "reptile", 1e38)


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")
def test_a_worker_is_killed_when_its_parent_has_ended(together: Done) -> None:
    assert together.death_signal == signal.SIGKILL


def test_nothing_is_left_in_the_temporary_folder(together: Done, temporary: Path) -> None:
    assert not list(temporary.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_worker_that_dies_ends_the_others_and_is_reported() -> None:
    with pytest.raises(WorkersError, match=r"worker 1 of 2 died \(.*SIGKILL.*\); .*--resume"):
        run_workers(2, killed)


def fails(workers: Workers) -> None:
    raise LookupError("no such thing")


@pytest.mark.slow
def test_an_unexpected_exception_of_a_worker_is_one_line() -> None:
    with pytest.raises(WorkersError, match=r"died \(LookupError: no such thing\); run it again") as found:
        run_workers(1, fails)
    assert "\n" not in str(found.value)


def test_the_inner_loop_is_compiled_before_the_workers_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def compiles() -> None:
        raise InterruptedError

    monkeypatch.setattr(workers, "library", compiles)
    with pytest.raises(InterruptedError):
        run_workers(2, killed)


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
    assert n_workers(5, 10**6) == min(cores(), 5)
    assert n_workers(1, 10**6) == 1


@pytest.mark.parametrize(
    ("broken", "lacking"),
    [
        ("socket.create_connection", "127.0.0.1 to communicate"),
        ("_multiprocessing.SemLock", "shared memory"),
        ("tempfile.gettempdir", "a temporary folder"),
    ],
)
def test_where_processes_cannot_work_together_there_is_one_and_that_is_told(
    monkeypatch: pytest.MonkeyPatch, broken: str, lacking: str
) -> None:
    def refused(*_: object, **_settings: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(broken, refused)
    told: list[str] = []
    assert run_job(lambda workers, job: (workers.size, job), "job", 2, 5, 10**6, told.append) == (1, "job")
    assert f"several need {lacking}" in told[0]
    with pytest.raises(WorkersError, match=f"workers need {lacking}.*; use --workers 1"):
        run_workers(2, killed)
