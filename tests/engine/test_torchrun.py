from __future__ import annotations

import socket
import sys

import pytest

from fewshot_cli.output import emit, say
from fewshot_sdk.engine import torchrun
from fewshot_sdk.errors import ConfigError, WorkersError


@pytest.fixture
def _rank_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables of a rank whose store is nowhere."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    given = {"RANK": "1", "WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "none", "TORCHELASTIC_USE_AGENT_STORE": "True"}
    for name, value in {**given, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(torchrun.INTERFACE, "lo")
    monkeypatch.setattr(torchrun, "stop_with_parent", lambda: None)


def test_without_torchruns_variables_this_is_no_rank() -> None:
    assert not torchrun.launched()
    assert torchrun.rank() == 0


@pytest.mark.usefixtures("_rank_1")
def test_its_variables_name_rank_job_and_restarts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert torchrun.launched()
    assert torchrun.rank() == 1
    assert torchrun.job() == ""
    assert not torchrun.restarted()
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job 7")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "2")
    assert torchrun.job() == "job 7"
    assert torchrun.restarted()


@pytest.mark.usefixtures("_rank_1")
def test_all_ranks_print_failures_and_only_the_first_anything_else(capsys: pytest.CaptureFixture[str]) -> None:
    emit("data")
    say("a message")
    say("error: it failed", failure=True)
    assert capsys.readouterr() == ("", "error: it failed\n")


@pytest.mark.usefixtures("_rank_1")
def test_others_that_do_not_come_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(torchrun.LOST_AFTER, "1")
    with (
        pytest.raises(WorkersError, match=r"^rank 1 lost the connection to another one \(.*--resume$"),
        torchrun.joined(),
    ):
        pass


@pytest.mark.parametrize("text", ["", "0", "soon", "-3"])
@pytest.mark.usefixtures("_rank_1")
def test_seconds_that_are_none_are_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(torchrun.LOST_AFTER, text)
    with pytest.raises(ConfigError, match="FEWSHOT_LOST_AFTER: expected a number of seconds"), torchrun.joined():
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")
def test_the_interface_towards_a_machine_is_found() -> None:
    assert torchrun.interface_towards("127.0.0.1") == "lo"
    assert torchrun.interface_towards("") is None
    assert torchrun.interface_towards("no.such.machine.invalid") is None
