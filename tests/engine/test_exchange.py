from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from fewshot_sdk.engine.exchange import agreed, awaited, check_alike, sent, texts
from fewshot_sdk.engine.workers import Workers, run_workers
from fewshot_sdk.errors import ConfigError, DataError, FewshotError, SupportError

ALONE = Workers()


def of_rank(workers: Workers, failing: int | None, error: FewshotError) -> Callable[[], int]:
    def work() -> int:
        if failing in (None, workers.rank):
            raise error
        return workers.rank

    return work


def message(call: Callable[[], object]) -> tuple[str, list[str]]:
    """The class and the arguments of what is raised."""
    try:
        call()
    except FewshotError as error:
        return type(error).__name__, [str(argument) for argument in error.args]
    return "", []


def everything(workers: Workers) -> dict[str, list[str]]:
    """What each rank found, as text."""
    settings = {"inner.learning_rate": 0.003 if workers.rank == 0 else 0.002, "seed": 4}

    def slow() -> str:
        time.sleep(0.3 * workers.rank)
        return f"after {workers.rank}"

    found = {
        "texts": texts(workers, "ä" * 3 * workers.rank),
        "sent": sent(workers, b"\0of one" if workers.rank == 1 else b"of another", 1),
        "nothing sent": sent(workers, b"", 0),
        "agreed": agreed(workers, lambda: workers.rank),
        "awaited": awaited(workers, slow),
        "one fails": message(lambda: agreed(workers, of_rank(workers, 1, DataError("no data")))),
        "all fail": message(lambda: awaited(workers, of_rank(workers, None, SupportError("no a", "no b")))),
        "alike": message(lambda: check_alike(workers, {"seed": 4})),
        "unlike": message(lambda: check_alike(workers, settings)),
    }
    return {name: texts(workers, str(value)) for name, value in found.items()}


@pytest.fixture(scope="module")
def found() -> dict[str, list[str]]:
    return run_workers(2, everything)


def test_texts_come_in_the_order_of_ranks(found: dict[str, list[str]]) -> None:
    assert found["texts"] == 2 * [str(["", "äää"])]


def test_bytes_come_from_the_rank_that_has_them(found: dict[str, list[str]]) -> None:
    assert found["sent"] == 2 * [str(b"\0of one")]
    assert found["nothing sent"] == 2 * [str(b"")]


def test_each_rank_gets_its_own_result(found: dict[str, list[str]]) -> None:
    assert found["agreed"] == ["0", "1"]
    assert found["awaited"] == ["after 0", "after 1"]


def test_a_failure_of_one_rank_is_raised_in_all_and_names_it(found: dict[str, list[str]]) -> None:
    assert found["one fails"] == 2 * [str(("DataError", ["rank 1: no data"]))]


def test_a_failure_that_all_ranks_have_is_raised_as_it_is(found: dict[str, list[str]]) -> None:
    assert found["all fail"] == 2 * [str(("SupportError", ["no a", "no b"]))]


def test_different_settings_are_named(found: dict[str, list[str]]) -> None:
    assert found["alike"] == 2 * [str(("", []))]
    assert "rank 1 has inner.learning_rate 0.002, where rank 0 has 0.003; start all" in found["unlike"][0]
    assert found["unlike"][0] == found["unlike"][1]


def test_alone_everything_is_as_without_other_ranks() -> None:
    assert texts(ALONE, "mine") == ["mine"]
    assert sent(ALONE, b"mine", 0) == b"mine"
    check_alike(ALONE, {"seed": 1})
    error = ConfigError("wrong")
    for call in (agreed, awaited):
        assert call(ALONE, lambda: 3) == 3
        with pytest.raises(ConfigError) as raised:
            call(ALONE, of_rank(ALONE, 0, error))
        assert raised.value is error


def test_work_that_fails_unexpectedly_ends_its_rank() -> None:
    with pytest.raises(ZeroDivisionError):
        awaited(ALONE, lambda: 1 // 0)
