"""The `fewshot` command: parses, calls the library's public names, prints what comes back."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

import fewshot_sdk
from fewshot_cli.output import emit, say

# Workers on a machine without name resolution would each print a warning; read when torch is loaded.
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

DEBUG = "--debug"
OPTIONAL = ("torch", "safetensors", "onnx", "onnxscript")  # what `predict` on an ONNX file does without


class Group(TyperGroup):
    """Turns known failures into one line and an exit code; `--debug` anywhere shows the traceback."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **settings: Any) -> Any:
        """Runs the command. Exit codes: 0 done, 1 a known failure, 2 wrong usage, 130 Ctrl-C."""
        words = list(sys.argv[1:] if args is None else args)
        debug = DEBUG in words
        words = [word for word in words if word != DEBUG]
        try:
            return super().main(words, *rest, **settings)
        except fewshot_sdk.FewshotError as error:
            if debug:
                raise
            say(f"error: {error}")
            sys.exit(1)
        except ModuleNotFoundError as error:
            if debug or error.name not in OPTIONAL:
                raise
            say(f"error: this command needs {error.name}, which is not installed here; pip install {error.name}")
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


app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Processes that share the tasks. Default: one per core, one alone if the job is short.",
        show_default=False,
    ),
]
EvaluationMode = Literal["transductive", "inductive", "frozen", "all"]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
Root = Annotated[
    Path | None,
    typer.Option(help="Folder of the data set's zips. Default: FEWSHOT_DATA, else a download.", show_default=False),
]
Init = Annotated[str, typer.Argument(help="A bundled initialization's name, or a folder.", metavar="INIT")]
Seed = Annotated[int, typer.Option(min=0, help="What all random choices come from.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        emit(fewshot_sdk.__version__)
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and stop.")
    ] = False,
    debug: Annotated[bool, typer.Option(DEBUG, help="Show the traceback of a failure.")] = False,
) -> None:
    """Few-shot adaptation: meta-train or take an initialization, adapt it to your images, export, predict."""


@app.command("meta-train")
def meta_train(
    preset: Annotated[str, typer.Option(help="omniglot, omniglot-5way, omniglot-20way, mini-imagenet-5way or glyphs.")],
    output: Annotated[Path, typer.Option(help="Folder to write the initialization to.")],
    root: Root = None,
    meta_steps: Annotated[
        int | None, typer.Option(min=1, help="Outer steps. Default: the preset's.", show_default=False)
    ] = None,
    seed: Seed = 0,
    workers: Workers = None,
    checkpoint_every: Annotated[
        int, typer.Option(min=1, help="Outer steps between two saves to OUTPUT.checkpoint.")
    ] = 200,
    evaluate_every: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Outer steps between two points of curve.png, each 200 tasks; 0: none. Default: a 20th of all.",
            show_default=False,
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from OUTPUT.checkpoint, bit for bit.")] = False,
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option(help="auto is a GPU if there is one, which needs no workers.")
    ] = "auto",
) -> None:
    """Meta-train an initialization with Reptile. Ctrl-C saves; --resume continues."""
    from fewshot_cli import training

    job = training.Job(
        preset=preset,
        output=output,
        root=root,
        meta_steps=meta_steps,
        seed=seed,
        checkpoint_every=checkpoint_every,
        evaluate_every=evaluate_every,
        resume=resume,
        device=device,
    )
    training.meta_train(job, workers)


@app.command()
def evaluate(
    init: Init,
    data: Annotated[
        str | None,
        typer.Option(help="omniglot, mini-imagenet or glyphs. Default: what it was trained on.", show_default=False),
    ] = None,
    part: Annotated[
        Literal["test", "val", "train"], typer.Option(help="Which classes of its split; only mini-imagenet has val.")
    ] = "test",
    root: Root = None,
    ways: Annotated[int, typer.Option(min=2, help="Classes in a task.")] = 5,
    shots: Annotated[int, typer.Option(min=1, help="Support images of each class.")] = 1,
    tasks: Annotated[int, typer.Option(min=1, help="How many tasks.")] = 1000,
    transductive: Annotated[
        bool | None,
        typer.Option(
            "--transductive/--inductive",
            help="Queries of a task together, or each alone with the support set (the default).",
            show_default=False,
        ),
    ] = None,
    mode: Annotated[
        EvaluationMode | None,
        typer.Option(help="The same by name; frozen is what an exported file does.", show_default=False),
    ] = None,
    seed: Seed = 0,
    workers: Workers = None,
    record: Annotated[bool, typer.Option(help="Add the result to the initialization's card.")] = False,
    json: Json = False,
) -> None:
    """Measure an initialization on tasks of classes it was not trained on."""
    from fewshot_cli import evaluation

    named: EvaluationMode | None = None
    if transductive is not None:
        named = "transductive" if transductive else "inductive"
    if named and mode and mode != named:
        raise typer.BadParameter(f"--{named} and --mode {mode} contradict each other")
    chosen: EvaluationMode = mode or named or "inductive"
    job = evaluation.Job(
        init=init,
        data=data,
        part=part,
        root=root,
        ways=ways,
        shots=shots,
        n_tasks=tasks,
        modes=("transductive", "inductive", "frozen") if chosen == "all" else (chosen,),
        seed=seed,
    )
    evaluation.evaluate(job, workers, record=record, json=json)


@app.command()
def adapt(
    support: Annotated[Path, typer.Option(help="Folder with a folder of pictures for each class.")],
    output: Annotated[Path, typer.Option(help="Folder to write the classifier to; with --engine onnx an ONNX file.")],
    init: Annotated[
        str, typer.Option(help="A bundled initialization's name, or a folder; with --engine onnx a learner file.")
    ] = "omniglot",
    steps: Annotated[
        int | None,
        typer.Option(min=0, help="Gradient steps. Default: the initialization's.", show_default=False),
    ] = None,
    engine: Annotated[
        Literal["torch", "onnx"], typer.Option(help="onnx needs no PyTorch: see `fewshot export-learner`.")
    ] = "torch",
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Adapt an initialization to a few pictures of your own."""
    if engine == "onnx":
        from fewshot_cli import learner

        learner.adapt(support, output, init, steps, seed, json)
        return
    from fewshot_cli import commands

    commands.adapt(support, output, init, steps, seed, json)


@app.command()
def export(
    model: Annotated[Path, typer.Argument(help="Folder made by `fewshot adapt`.", metavar="MODEL")],
    output: Annotated[Path, typer.Option(help="The ONNX file to write.")],
    json: Json = False,
) -> None:
    """Export an adapted classifier to one ONNX file, checked against PyTorch."""
    from fewshot_cli import commands

    commands.export(model, output, json)


@app.command("export-learner")
def export_learner(
    init: Init,
    output: Annotated[Path, typer.Option(help="The ONNX file to write.")],
    json: Json = False,
) -> None:
    """Export an initialization to one ONNX file that adapts and classifies, checked against PyTorch."""
    from fewshot_cli import learner

    learner.export_learner(init, output, json)


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="An exported .onnx file, or a folder made by `fewshot adapt`.")],
    images: Annotated[list[Path], typer.Argument(help="Pictures to classify.", metavar="IMAGE...")],
    json: Json = False,
) -> None:
    """Say what is in pictures. An .onnx file needs no PyTorch."""
    from fewshot_cli import commands

    commands.predict(model, images, json)


if __name__ == "__main__":
    app()
