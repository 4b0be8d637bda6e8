"""`fewshot evaluate`, `compare` and `reproduce`: what judges initializations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from fewshot_cli.group import app
from fewshot_cli.options import INIT_HELP, EvaluationMode, Init, Json, Root, Seed, WorkerCount


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
    ways: Annotated[int | None, typer.Option(min=2, help="Classes in a task. Default: 5.", show_default=False)] = None,
    shots: Annotated[
        int | None,
        typer.Option(
            min=1, help="Support images of each class; of numbers, points. Default: 1; 10.", show_default=False
        ),
    ] = None,
    tasks: Annotated[int, typer.Option(min=2, help="How many tasks; an interval takes two.")] = 1000,
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
    baseline: Annotated[
        Literal["prototypes", "probe", "random", "all"] | None,
        typer.Option(
            help="Measure, on the same tasks, what the initialization is worth: class means of its features without "
            "a gradient step, a linear probe on them, or the same steps from random weights.",
            show_default=False,
        ),
    ] = None,
    seed: Seed = 0,
    workers: WorkerCount = None,
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
        baselines=("prototypes", "probe", "random") if baseline == "all" else (baseline,) if baseline else (),
    )
    evaluation.evaluate(job, workers, record=record, json=json)


@app.command()
def compare(
    inits: Annotated[list[str], typer.Argument(help=f"Two or more. {INIT_HELP}", metavar="INIT INIT...")],
    data: Annotated[
        str | None,
        typer.Option(help="omniglot, mini-imagenet or glyphs. Default: the first one's own.", show_default=False),
    ] = None,
    part: Annotated[
        Literal["test", "val", "train"], typer.Option(help="Which classes of its split; only mini-imagenet has val.")
    ] = "test",
    root: Root = None,
    ways: Annotated[int, typer.Option(min=2, help="Classes in a task.")] = 5,
    shots: Annotated[
        list[int] | None, typer.Option(min=1, help="Support images of each class; repeatable. Default: 1 and 5.")
    ] = None,
    tasks: Annotated[int, typer.Option(min=2, help="How many tasks, the same for all.")] = 200,
    mode: Annotated[
        Literal["transductive", "inductive", "frozen"], typer.Option(help="As of `fewshot evaluate`.")
    ] = "inductive",
    seed: Seed = 0,
    plot: Annotated[
        Path | None,
        typer.Option(help="A .png or .svg to draw: accuracy against inner steps and shots.", show_default=False),
    ] = None,
    workers: WorkerCount = None,
    json: Json = False,
) -> None:
    """Compare initializations on the same tasks: paired differences with 95 % intervals, wins and losses."""
    from fewshot_cli import comparison

    job = comparison.Job(
        inits=tuple(inits),
        data=data,
        part=part,
        root=root,
        ways=ways,
        shots=tuple(sorted(set(shots or (1, 5)))),
        n_tasks=tasks,
        mode=mode,
        seed=seed,
        plot=plot,
    )
    comparison.compare(job, workers, json)


@app.command()
def reproduce(
    figure: Annotated[
        Literal["taylor", "sine", "gradient-combinations", "overlap", "table1", "table2"],
        typer.Argument(help="A figure or table of the Reptile paper.", show_default=False),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            help="Folder to write data.json, the pictures and README.md to. Default: one of the figure's name.",
            show_default=False,
        ),
    ] = None,
    scale: Annotated[
        Literal["small", "paper"],
        typer.Option(
            help="small: minutes; paper: the paper's settings, which take hours to weeks. taylor has but one."
        ),
    ] = "small",
    seeds: Annotated[
        int, typer.Option(min=3, max=30, help="How many trainings of each kind; more of them narrow the intervals.")
    ] = 3,
    workers: WorkerCount = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from OUTPUT.checkpoint; what was measured is kept.")
    ] = False,
    json: Json = False,
) -> None:
    """Repeat a figure or table of the Reptile paper over several seeds, and say whether its shape holds."""
    from fewshot_cli import reproduction

    folder = output or Path(figure)
    job = reproduction.Job(name=figure, scale=scale, n_seeds=seeds, output=folder, resume=resume)
    reproduction.reproduce(job, workers, json)
