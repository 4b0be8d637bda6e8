from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer

from fewshot_cli.group import App
from fewshot_cli.options import RUNNING, Seed, options


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The options of a command."""

    name: Annotated[str, typer.Argument(help="Whom to greet.")]
    seed: Seed = 7
    shots: Annotated[list[int] | None, typer.Option(min=1, help="Some numbers.")] = None
    loud: Annotated[bool, typer.Option("--loud", help="In capitals.")] = False


@pytest.fixture
def asked() -> list[Wanted]:
    return []


@pytest.fixture
def app(asked: list[Wanted]) -> App:
    app = App(rich_markup_mode=None, add_completion=False)

    @app.command()
    @options(Wanted)
    def greet(given: Wanted) -> None:
        """Greet somebody."""
        asked.append(given)

    return app


def test_a_dataclass_gives_the_options_of_a_command(app: App, asked: list[Wanted]) -> None:
    for words in (["ada"], ["ada", "--shots", "1", "--shots", "5", "--loud", "--seed", "2"]):
        with pytest.raises(SystemExit, match="0"):
            app(words)
    assert asked == [Wanted(name="ada"), Wanted(name="ada", shots=[1, 5], loud=True, seed=2)]


def test_a_value_that_a_field_forbids_is_wrong_usage(app: App, asked: list[Wanted]) -> None:
    for words in ([], ["ada", "--shots", "0"], ["ada", "--given", "x"]):
        with pytest.raises(SystemExit, match="2"):
            app(words)
    assert not asked


def test_help_lists_options_in_panels_those_without_one_first(app: App, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        app(["--help"])
    shown = capsys.readouterr().out
    assert "  Greet somebody.\n" in shown
    titles = [line for line in shown.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert titles == ["Arguments:", "Options:", f"{RUNNING}:"]
    first, _, last = shown.partition(f"{RUNNING}:")
    assert ("--loud" in first, "--help" in first, "--seed" in first, "--seed" in last) == (True, True, False, True)
    texts = (("--loud", "In capitals."), ("--help", "Show this"), ("--seed", "Random seed"))
    lines = {word: next(line for line in shown.splitlines() if word in line) for word, _ in texts}
    assert len({lines[word].index(text) for word, text in texts}) == 1  # one column through all panels
