"""The command group: known failures become one line and an exit code."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

import fewshot_sdk
from fewshot_cli.output import say
from fewshot_cli.streams import open_closed_streams
from fewshot_sdk.errors import MissingExtra, ParityError
from fewshot_sdk.extras import missing

# Without name resolution each worker would print a warning; torch reads this when it is loaded.
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

F = TypeVar("F", bound=Callable[..., Any])
DEBUG = "--debug"
OF_ONNX_FILES = "an .onnx file, made by `fewshot export`, needs none"
INSTEAD = {  # what works without PyTorch
    "adapt": "without it: fewshot adapt --engine onnx --init photo, or omniglot for drawings",
    "edit": OF_ONNX_FILES,
    "predict": OF_ONNX_FILES,
    "test": OF_ONNX_FILES,
}
WIDEST = 30  # columns for option names; a longer one has its help on the next line


class Command(TyperCommand):
    """A command whose `--help` lists options by panel, those without a panel first."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments and the options."""
        arguments: list[tuple[str, str]] = []
        panels: dict[str, list[tuple[str, str]]] = {"Options": []}
        for parameter in self.get_params(ctx):
            if record := parameter.get_help_record(ctx):
                panel = getattr(parameter, "rich_help_panel", None) or "Options"
                rows = arguments if parameter.param_type_name == "argument" else panels.setdefault(panel, [])
                rows.append(record)
        if arguments:
            with formatter.section("Arguments"):
                formatter.write_dl(arguments)
        width = min(WIDEST, max(len(name) for records in panels.values() for name, _ in records))
        for title, records in panels.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), text) for name, text in records], col_max=WIDEST)


class Group(TyperGroup):
    """A group that turns known failures into one line and an exit code; `--debug` anywhere shows the traceback."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **settings: Any) -> Any:
        """Run a command. Exit codes: 0 done, 1 known failure, 2 wrong usage, 3 export disagrees, 130 Ctrl-C."""
        arguments = list(sys.argv[1:] if args is None else args)
        debug = DEBUG in arguments
        arguments = [argument for argument in arguments if argument != DEBUG]
        open_closed_streams()
        try:
            return super().main(arguments, *rest, **settings)
        except fewshot_sdk.FewshotError as error:
            if debug:
                raise
            say("\n".join(f"error: {_indented(message)}" for message in error.messages), failure=True)
            sys.exit(3 if isinstance(error, ParityError) else 1)
        except OSError as error:  # of a path that no command expected to fail
            if debug or isinstance(error, BrokenPipeError):
                raise
            say(f"error: {_indented(_described(error))}", failure=True)
            sys.exit(1)
        except UnicodeEncodeError:  # a name that the locale cannot give to the system
            if debug or (encoding := sys.getfilesystemencoding()) == "utf-8":
                raise
            say(f"error: this locale has no letters for a name ({encoding}); set PYTHONUTF8=1", failure=True)
            sys.exit(1)
        except (MemoryError, RuntimeError) as error:
            if debug or not (_lacks_memory(error) or _is_loop(error)):
                raise
            reason = str(error).lower() if _is_loop(error) else "there is not enough memory"
            advice = "name another path" if _is_loop(error) else "close other programs, or give fewer or smaller files"
            say(f"error: {_indented(reason)}; {advice}", failure=True)
            sys.exit(1)
        except KeyboardInterrupt:
            say("interrupted")
            sys.exit(130)

    def invoke(self, ctx: Any) -> Any:
        """Run the group as typer does, but let Ctrl-C reach `main` instead of becoming click's exit code 1.

        Raises MissingExtra if the command needs an optional package that is not installed.
        """
        try:
            return super().invoke(ctx)
        except (ModuleNotFoundError, MissingExtra) as error:
            name, cause = ctx.invoked_subcommand, error.__cause__ or error
            known = isinstance(cause, ModuleNotFoundError) and missing(f"fewshot {name}", cause, INSTEAD.get(name, ""))
            if known:
                raise known from cause
            raise
        except KeyboardInterrupt:
            say("interrupted")
            raise typer.Exit(130) from None


def _lacks_memory(error: Exception) -> bool:
    """Whether Python, numpy, PyTorch or onnxruntime could not get memory; the last two say so in a RuntimeError."""
    return isinstance(error, MemoryError) or "allocate memory" in str(error)


def _is_loop(error: Exception) -> bool:
    """Whether a link leads to itself, which `Path.resolve` says in a RuntimeError until Python 3.12."""
    return isinstance(error, RuntimeError) and str(error).startswith("Symlink loop")


def _indented(message: str) -> str:
    """The message, whose further lines cannot be taken for messages of their own: a name in it may have line ends."""
    return message.replace("\n", "\n  ")


def _described(error: OSError) -> str:
    """What the system refused, and for which path, in one sentence."""
    path, reason = error.filename, (error.strerror or str(error) or type(error).__name__).lower()
    if path is None and "usable temporary" in reason:  # Python's tempfile found none
        return "no temporary folder can be written to; set TMPDIR to one that can"
    if path is None and error.errno in (errno.ENOSPC, errno.EDQUOT):  # Python names no path when it writes
        return f"{reason}; free some there, or set TMPDIR to a folder on another disk if it is the temporary one"
    if path is None:
        return f"the system refused something: {reason}; --debug shows where"
    return (
        f"{os.fsdecode(path) if isinstance(path, str | bytes) else path!s:.200}: {reason}; name a path that you may use"
    )


class App(typer.Typer):
    """An application whose commands list their options in panels."""

    def command(self, name: str | None = None, **settings: Any) -> Callable[[F], F]:
        """A decorator as in typer, for a `Command`."""
        return super().command(name, **{"cls": Command, **settings})


app = App(
    cls=Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
