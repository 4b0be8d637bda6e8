"""`fewshot meta-train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fewshot_cli.group import app
from fewshot_cli.options import Root, Seed, Trainable, WorkerCount
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
