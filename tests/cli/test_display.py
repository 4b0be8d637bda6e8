"""A training as it is shown."""

from __future__ import annotations

import io
import json
import math
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fewshot_cli import display, output
from fewshot_cli.display import Speed, Stream, send, watched
from fewshot_sdk.artifacts.initialization import Initialization
from fewshot_sdk.config.records import Metric
from fewshot_sdk.errors import SaveError
from fewshot_sdk.meta.events import Began, Best, Event, Kept, Reading, Tracked, Unsaved
from fewshot_sdk.meta.pretraining import Epoch
from fewshot_sdk.meta.training import MetaStep

CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
POINT = Metric(meta_steps=2, seconds=1.0, loss=1.25, accuracy=0.8125, ci95=0.0125, tasks=200, ways=5)


def steps(init: Initialization, total: int, seconds: float) -> Iterator[MetaStep]:
    """Steps of `seconds` each; the second has a point of the curve."""
    for done in range(1, total + 1):
        made = init.provenance.replace(meta_steps_done=done, seconds=round(done * seconds, 1))
        metrics = (POINT,) if done > 1 else ()
        yield MetaStep(
            done=done,
            meta_steps=total,
            loss=1.25,
            initialization=replace(init, provenance=made, metrics=metrics),
            line=POINT if done == 2 else None,
        )


def events(init: Initialization) -> list[Event]:
    reason = SaveError("no space left on device")
    return [
        Reading(data="glyphs"),
        Began(work="meta-training", done=0, total=4, by="C, avx2, gcc 12.2.0"),
        Tracked(tracker="wandb", where="wandb sync x"),
        *steps(init, 4, 2.0),
        Best(path=Path("init-best"), metric=POINT),
        Unsaved(path=Path("init.checkpoint"), reason=reason),
        Kept(checkpoint=Path("init.checkpoint"), done=3, meta_steps=4),
    ]


def test_the_speed_is_that_of_the_last_30_seconds_of_training(init: Initialization) -> None:
    speed, n_tasks = Speed(), init.recipe.meta.tasks_per_step
    assert [speed.after(step) for step in steps(init, 12, 0.1)][9] is None
    slow = [replace(step, done=step.done + 12) for step in steps(init, 100, 2.0)]
    assert [speed.after(step) for step in slow][-1] == pytest.approx(n_tasks / 2)


def test_elsewhere_than_on_a_terminal_a_point_of_the_curve_is_always_a_line(
    init: Initialization, capsys: pytest.CaptureFixture[str]
) -> None:
    with watched("meta-training", json=False) as listen:
        for event in events(init):
            listen(event)
    out, err = capsys.readouterr()
    assert out == ""
    assert [re.sub(r", \d+:\d\d left$", "", line) for line in err.splitlines()] == [
        "reading glyphs",
        "the inner loop runs in C, avx2, gcc 12.2.0",
        "wandb: wandb sync x",
        "meta-training: 2 of 4, loss 1.250, 1 tasks/s, test accuracy 81.2 ± 1.2 % (5-way) at step 2",
        "warning: no init.checkpoint: no space left on device; training continues",
        "stopped after 3 of 4 outer steps, saved in init.checkpoint; --resume continues",
    ]


@pytest.mark.parametrize("columns", [80, 40])
def test_on_a_terminal_there_are_two_lines_that_fit(
    columns: int, init: Initialization, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", shown := Terminal())
    with watched("meta-training", json=False) as listen:
        for event in events(init)[1:-3]:
            listen(event)
    text = CODES.sub("", shown.getvalue()).replace("\r", "\n")
    assert max(map(len, text.splitlines())) <= columns
    words = " ".join(text.split())
    assert "4/4" in words
    assert "loss 1.250, 1 tasks/s, test accuracy 81.2 ± 1.2 % (5-way) at step 2" in words
    assert ("━" in text) == (columns == 80)


def test_as_json_each_event_is_a_line(
    init: Initialization, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(display, "APART", math.inf)
    with watched("meta-training", json=True) as listen:
        for event in [*events(init), Epoch(done=1, epochs=2, loss=math.nan, seconds=1.5, tensors={})]:
            listen(event)
    out, err = capsys.readouterr()
    assert err == "warning: no init.checkpoint: no space left on device; training continues\n"
    found = [json.loads(line, parse_constant=lambda name: pytest.fail(name)) for line in out.splitlines()]
    names = ["reading", "began", "tracked", "step", "point", "step", "best", "unsaved", "kept", "epoch"]
    assert [line["event"] for line in found] == names
    point, last = found[4], found[5]
    assert (point["step"], point["accuracy"], point["ci95"], point["part"]) == (2, 0.8125, 0.0125, "test")
    numbers = {"total": 4, "loss": 1.25, "tasks_per_second": 1.0, "seconds": 8.0, "seconds_left": 0.0}
    assert last == {"event": "step", "step": 4, **numbers}
    assert found[-1] == {"event": "epoch", "done": 1, "total": 2, "loss": None, "seconds": 1.5}


def test_at_most_one_step_a_second_is_sent(
    init: Initialization, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "monotonic", iter(0.25 * i for i in range(100)).__next__)
    stream = Stream()
    for step in steps(init, 20, 0.25):
        stream(replace(step, initialization=init))
    sent = [json.loads(line)["step"] for line in capsys.readouterr().out.splitlines()]
    assert sent == [1, 5, 9, 13, 17, 20]


@pytest.mark.parametrize("refusal", [BrokenPipeError(), OSError(28, "No space left on device")])
def test_a_stream_that_nobody_takes_is_told_once(
    refusal: OSError, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refusing(io.StringIO):
        def write(self, _: str) -> int:
            raise refusal

    monkeypatch.setattr(output, "forget_stdout", lambda: setattr(sys, "stdout", None))
    monkeypatch.setattr(sys, "stdout", Refusing())
    send("reading", data="glyphs")
    send("reading", data="glyphs")
    said = "warning: standard output takes no more of the JSON stream; training continues without it\n"
    assert capsys.readouterr().err == said
