"""Training in ranks that torchrun starts, on one machine and on two "hosts": always the bits of one process."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.hosts import BOUND, GLYPHS, WORDS, Hosts, alone, bits, errors, namespaces_work, two_hosts, two_ranks

pytestmark = pytest.mark.timeout(600)
needs_namespaces = pytest.mark.skipif(not namespaces_work(), reason="network namespaces need root and iproute2")
PRETRAINED = (*WORDS, "--preset", "omniglot-protonet")


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The bits of one process."""
    folder = tmp_path_factory.mktemp("alone")
    alone(folder, *GLYPHS)
    return bits(folder)


def inside(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_rank_is_killed_and_the_restarted_ranks_end_in_the_bits_of_one_process(
    tmp_path: Path, expected: dict[str, bytes]
) -> None:
    done = two_ranks(tmp_path, *GLYPHS, restarts=1, KILLED="1:7")
    assert done.returncode == 0, done.stderr
    assert bits(tmp_path) == expected
    assert inside(tmp_path) == ["init"]
    assert "saved in init.checkpoint" in done.stderr
    assert done.stderr.count("wrote init;") == 1
    assert "rank 0 lost the connection to another one" in errors(done.stderr)[0]


@pytest.mark.slow
def test_so_they_do_if_it_is_the_first_one(tmp_path: Path, expected: dict[str, bytes]) -> None:
    done = two_ranks(tmp_path, *GLYPHS, restarts=1, KILLED="0:7")
    assert done.returncode == 0, done.stderr
    assert bits(tmp_path) == expected
    assert inside(tmp_path) == ["init"]


def test_ranks_with_different_recipes_end_with_a_sentence_and_write_nothing(tmp_path: Path) -> None:
    done = two_ranks(tmp_path, *GLYPHS, OTHER="1:--step-size 0.5")
    assert done.returncode == 1
    assert errors(done.stderr) == 2 * [
        "error: rank 1 has meta.step_size 0.5, where rank 0 has 1.0; start all ranks with the same options, data and "
        "versions, on machines of one kind"
    ]
    assert not inside(tmp_path)


@pytest.mark.slow
def test_pre_training_is_done_by_one_rank_and_its_result_sent_to_all(tmp_path: Path) -> None:
    alone(tmp_path / "alone", *PRETRAINED)
    done = two_ranks(tmp_path / "ranks", *PRETRAINED)
    assert done.returncode == 0, done.stderr
    assert bits(tmp_path / "ranks") == bits(tmp_path / "alone")


@pytest.mark.slow
def test_unfinished_work_is_continued_by_the_same_job_or_on_request_and_by_no_other(
    tmp_path: Path, expected: dict[str, bytes]
) -> None:
    unfinished = two_ranks(tmp_path, *GLYPHS, job="first", KILLED="1:7")
    assert unfinished.returncode == 1
    assert inside(tmp_path) == ["init.checkpoint", "init.job"]
    refused = two_ranks(tmp_path, *GLYPHS, job="second")
    assert [error.partition(";")[0] for error in errors(refused.stderr)] == 2 * [
        "error: rank 0: init.checkpoint holds an unfinished training run"
    ]
    continued = two_ranks(tmp_path, *GLYPHS, job="first", KILLED="1:9")
    assert "stopped after 9 of 20" in continued.stderr
    done = two_ranks(tmp_path, *GLYPHS, "--resume", job="second")
    assert done.returncode == 0, done.stderr
    assert bits(tmp_path) == expected
    assert inside(tmp_path) == ["init"]


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    with two_hosts(tmp_path) as made:
        yield made


def wait_until(happened: Callable[[], bool], processes: dict[int, subprocess.Popen[bytes]]) -> None:
    until = time.monotonic() + BOUND
    while not happened():
        assert time.monotonic() < until, "it did not happen"
        assert all(process.poll() is None for process in processes.values()), "a host gave up"
        time.sleep(0.05)


def ended(processes: dict[int, subprocess.Popen[bytes]]) -> list[int]:
    return [process.wait(timeout=BOUND) for process in processes.values()]


def held(hosts: Hosts, **more: str) -> tuple[dict[int, subprocess.Popen[bytes]], Path]:
    """Both hosts, waiting before outer step 7 for a file."""
    go = hosts.folder / "go"
    started = {n: hosts.start(n, *GLYPHS, HELD=str(go), HELD_AT="7", **more) for n in (0, 1)}
    wait_until(lambda: all(Path(f"{go}.{rank}").exists() for rank in (0, 1)), started)
    return started, go


@needs_namespaces
@pytest.mark.slow
def test_two_hosts_without_a_shared_disk_end_in_the_bits_of_one_process(
    hosts: Hosts, expected: dict[str, bytes]
) -> None:
    assert ended({n: hosts.start(n, *GLYPHS) for n in (0, 1)}) == [0, 0], hosts.said()
    assert bits(hosts.folder_of(0)) == expected
    assert inside(hosts.folder_of(0)) == ["cache", "init"]
    assert inside(hosts.folder_of(1)) == ["cache"]


@needs_namespaces
@pytest.mark.slow
def test_a_host_that_is_cut_off_for_seconds_goes_on_where_it_was(hosts: Hosts, expected: dict[str, bytes]) -> None:
    started, go = held(hosts)
    hosts.cable(plugged=False)
    go.touch()
    time.sleep(4)  # how long the cable is out, while both try to exchange their results
    assert not bits(hosts.folder_of(0))
    hosts.cable(plugged=True)
    assert ended(started) == [0, 0], hosts.said()
    assert not errors(hosts.said())
    assert bits(hosts.folder_of(0)) == expected


@needs_namespaces
@pytest.mark.slow
def test_a_host_that_is_lost_and_comes_back_ends_in_the_same_bits(hosts: Hosts, expected: dict[str, bytes]) -> None:
    started, go = held(hosts, FEWSHOT_LOST_AFTER="5")
    hosts.cable(plugged=False)
    go.touch()
    wait_until(lambda: "lost the connection" in hosts.said(), started)
    hosts.cable(plugged=True)
    assert ended(started) == [0, 0], hosts.said()
    assert bits(hosts.folder_of(0)) == expected


@needs_namespaces
@pytest.mark.slow
@pytest.mark.parametrize("nodes", ["2", "1:2"])
def test_a_host_that_dies_is_replaced_by_an_empty_one(hosts: Hosts, expected: dict[str, bytes], nodes: str) -> None:
    more = {"HELD": str(hosts.folder / "go"), "HELD_AT": "7", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    started = {n: hosts.start(n, *GLYPHS, nodes=nodes, **more) for n in (0, 1)}
    wait_until(lambda: all((hosts.folder / f"go.{rank}").exists() for rank in (0, 1)), started)
    hosts.kill(1)
    started[1].wait()
    shutil.rmtree(hosts.folder_of(1))
    (hosts.folder / "go").touch()
    started[1] = hosts.start(1, *GLYPHS, nodes=nodes, TORCH_DISABLE_SHARE_RDZV_TCP_STORE="1")
    assert ended(started) == [0, 0], hosts.said()
    found = [bits(hosts.folder_of(number)) for number in (0, 1)]
    assert expected in found
