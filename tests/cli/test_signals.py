from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator

import pytest

from fewshot_cli.signals import stoppable

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGHUP")


@pytest.fixture
def hang_up() -> Iterator[Callable[[signal.Handlers], None]]:
    """Sets what SIGHUP does, whether or not the tests themselves run under nohup, and restores it."""
    before = signal.getsignal(signal.SIGHUP)

    def set_to(handler: signal.Handlers) -> None:
        signal.signal(signal.SIGHUP, handler)

    yield set_to
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_noted(number: signal.Signals, hang_up: Callable[[signal.Handlers], None]) -> None:
    hang_up(signal.SIG_DFL)
    with stoppable() as received:
        os.kill(os.getpid(), number)
    assert received == [number]


def test_what_nohup_ignores_stays_ignored(hang_up: Callable[[signal.Handlers], None]) -> None:
    hang_up(signal.SIG_IGN)
    with stoppable() as received:
        os.kill(os.getpid(), signal.SIGHUP)
    assert received == []
