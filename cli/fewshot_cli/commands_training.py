"""`fewshot meta-train`, `evaluate`, `compare` and `reproduce`: what makes and judges initializations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fewshot_cli.group import app
from fewshot_cli.options import INIT_HELP, EvaluationMode, Init, Json, Root, Seed, Trainable, WorkerCount
from fewshot_sdk.algorithms import ALGORITHMS, Outer

if TYPE_CHECKING:
    AlgorithmName = str
else:
    AlgorithmName = Literal[tuple(ALGORITHMS)]


@app.command("meta-train")
def meta_train(
    preset: Annotated[
        str,
        typer.Option(
            help="omniglot, photo, glyphs, omniglot-5way, omniglot-20way, mini-imagenet-5way, omniglot-protonet; of "
            "numbers sine."
        ),
    ],
    output: Annotated[Path, typer.Option(help="Folder to write the initialization to.")],
    root: Root = None,
    algorithm: Annotated[
        AlgorithmName | None,
        typer.Option(
            help="In place of the preset's, reptile. All but reptile and fomaml have SGD inside and Adam outside.",
            show_default=False,
        ),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            help="In place of the preset's network: timm:NAME or timm:user/repo, a model of the timm library with its "
            "weights from the Hub and pictures as it expects them; needs fewshot-sdk[timm].",
            show_default=False,
        ),
    ] = None,
    trainable: Trainable = None,
    tail_shots: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Pictures of each class kept for the last mini-batch of a task; 0: it draws like the others. "
            "Default: 0 for fomaml, half for maml and its kin.",
            show_default=False,
        ),
    ] = None,
    replacement: Annotated[
        bool,
        typer.Option(
            "--replacement",
            help="Draw each mini-batch from all pictures of a task anew, in place of passes over them, "
            "where one is not all of them.",
        ),
    ] = False,
    pretrain: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Epochs of supervised training, to tell all training classes apart, before the outer steps; 0: none. "
            "Default: the preset's.",
            show_default=False,
        ),
    ] = None,
    outer: Annotated[
        Outer | None,
        typer.Option(
            help="What takes the outer steps: sgd goes a part of the way; the others are PyTorch's, momentum 0.9. "
            "Default: the preset's or the algorithm's.",
            show_default=False,
        ),
    ] = None,
    step_size: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="The first outer step's: a part of the way, or a rate. Default: the preset's or the optimizer's.",
            show_default=False,
        ),
    ] = None,
    tasks_per_step: Annotated[
        int | None, typer.Option(min=1, help="1 is serial Reptile. Default: the preset's.", show_default=False)
    ] = None,
    meta_steps: Annotated[
        int | None,
        typer.Option(
            min=0, help="Outer steps. Default: the preset's. 0: pre-training alone, as a baseline.", show_default=False
        ),
    ] = None,
    seed: Seed = 0,
    workers: WorkerCount = None,
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
    """Meta-train an initialization, with Reptile unless told otherwise. Ctrl-C saves; --resume continues."""
    from fewshot_cli import training
    from fewshot_cli.training_job import Job

    if backbone is not None and not backbone.startswith("timm:"):
        raise typer.BadParameter("--backbone takes timm:NAME")
    if step_size == 0:
        raise typer.BadParameter("--step-size takes more than 0, at most 1: with 0 nothing is learned")
    job = Job(
        preset=preset,
        output=output,
        root=root,
        algorithm=algorithm,
        backbone=backbone,
        trainable=trainable,
        tail_shots=tail_shots,
        replacement=replacement,
        pretrain=pretrain,
        outer=outer,
        step_size=step_size,
        tasks_per_step=tasks_per_step,
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
