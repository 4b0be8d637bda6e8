"""The command's frame: known failures become one line and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

import fewshot_sdk
from fewshot_cli.output import say
from fewshot_cli.streams import open_closed_streams
from fewshot_sdk.errors import ParityError

# Workers on a machine without name resolution would each print a warning; read when torch is loaded.
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

F = TypeVar("F", bound=Callable[..., Any])
DEBUG = "--debug"
OPTIONAL = ("torch", "safetensors", "onnx")  # what `predict` on an ONNX file does without
EXTRAS = {"starlette": "serve", "uvicorn": "serve", "prometheus_client": "serve"}


WIDEST = 30  # of the names of options; what they do stands to the right of it, or below


class Command(TyperCommand):
    """Its `--help` lists the options under the panels that they name; those that name none come first."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes arguments and options."""
        arguments: list[tuple[str, str]] = []
        panels: dict[str, list[tuple[str, str]]] = {"Options": []}
        for parameter in self.get_params(ctx):
            if record := parameter.get_help_record(ctx):
                panel = getattr(parameter, "rich_help_panel", None) or "Options"
                its = arguments if parameter.param_type_name == "argument" else panels.setdefault(panel, [])
                its.append(record)
        if arguments:
            with formatter.section("Arguments"):
                formatter.write_dl(arguments)
        width = min(WIDEST, max(len(name) for records in panels.values() for name, _ in records))
        for title, records in panels.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), said) for name, said in records], col_max=WIDEST)


class Group(TyperGroup):
    """Turns known failures into one line and an exit code; `--debug` anywhere shows the traceback."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **settings: Any) -> Any:
        """Runs the command. Exit codes: 0 done, 1 a known failure, 2 wrong usage, 3 no parity, 130 Ctrl-C."""
        words = list(sys.argv[1:] if args is None else args)
        debug = DEBUG in words
        words = [word for word in words if word != DEBUG]
        open_closed_streams()
        try:
            return super().main(words, *rest, **settings)
        except fewshot_sdk.FewshotError as error:
            if debug:
                raise
            say("\n".join(f"error: {said}" for said in error.args))
            sys.exit(3 if isinstance(error, ParityError) else 1)
        except ModuleNotFoundError as error:
            if debug or error.name not in (*OPTIONAL, *EXTRAS):
                raise
            wanted = f"'fewshot-sdk[{EXTRAS[error.name]}]'" if error.name in EXTRAS else error.name
            say(f"error: this command needs {error.name}, which is not installed here; pip install {wanted}")
            sys.exit(1)
        except KeyboardInterrupt:
            say("interrupted")
            sys.exit(130)

    def invoke(self, ctx: Any) -> Any:
        """As its parent, but Ctrl-C leaves through `main`, not as click's exit code 1."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            say("interrupted")
            raise typer.Exit(130) from None


class App(typer.Typer):
    """An application whose commands have their options in panels."""

    def command(self, name: str | None = None, **settings: Any) -> Callable[[F], F]:
        """As its parent."""
        return super().command(name, **{"cls": Command, **settings})


app = App(
    cls=Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
