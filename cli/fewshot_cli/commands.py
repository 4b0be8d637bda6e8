"""What each command does, once its words are parsed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from fewshot_cli.output import emit, emit_json, progress, say
from fewshot_cli.signals import stoppable
from fewshot_sdk.errors import OutputExists, SaveError
from fewshot_sdk.files import check_free, check_free_file, replace_folder

if TYPE_CHECKING:
    from fewshot_sdk import Initialization


def meta_train(
    name: str, output: Path, root: Path | None, meta_steps: int | None, seed: int, checkpoint_every: int, resume: bool
) -> None:
    """`fewshot meta-train`."""
    checkpoint = output.with_name(f"{output.name}.checkpoint")
    check_free(output)
    if checkpoint.exists() and not resume:
        raise OutputExists(f"{checkpoint} holds an unfinished training; continue it with --resume, or remove it")
    import fewshot_sdk as sdk
    from fewshot_sdk.checkpoint import load_checkpoint, save_checkpoint

    recipe = sdk.preset(name)
    if meta_steps is not None:
        recipe = recipe.replace(meta=recipe.meta.replace(meta_steps=meta_steps))
    start = load_checkpoint(checkpoint) if resume else None
    say(f"reading {recipe.data.name}")
    data = sdk.open_dataset(recipe.data, recipe.preprocessing, "train", root)
    tasks = sdk.TaskSampler(data=data, n_way=recipe.meta.n_way, k_shot=recipe.meta.k_shot, seed=seed)
    total = recipe.meta.meta_steps
    command = f"fewshot meta-train --preset {name} --meta-steps {total} --seed {seed}"
    steps = sdk.meta_train(recipe, tasks, start=start, command=command)
    done = start.provenance.meta_steps_done if start else 0
    with stoppable() as signals:
        for step in progress(steps, total, "meta-training", lambda s: f"loss {s.loss:.3f}", done):
            if signals and step.done < total:
                break
            if step.done % checkpoint_every == 0 and step.done < total:
                _save_checkpoint_if_it_can(save_checkpoint, step.initialization, checkpoint)
    if step.done < total:
        save_checkpoint(step.initialization, checkpoint)
        say(f"stopped after {step.done} of {total} outer steps, kept in {checkpoint}; --resume continues")
        raise SystemExit(128 + signals[0])
    _save_or_rescue(step.initialization, output)
    checkpoint.unlink(missing_ok=True)
    say(f"wrote {output}; next: fewshot adapt --init {output} --support DIR --output MODEL")


def _save_checkpoint_if_it_can(save: Callable[[Initialization, Path], Path], init: Initialization, path: Path) -> None:
    try:
        save(init, path)
    except SaveError as error:
        say(f"warning: {error}; training goes on")


def _save_or_rescue(init: Initialization, output: Path) -> None:
    """Save; if that disk refuses, keep the hours of training in the temporary folder instead."""
    import fewshot_sdk as sdk

    try:
        sdk.save(init, output)
    except (OutputExists, SaveError) as error:
        elsewhere = Path(tempfile.mkdtemp(prefix="fewshot-")) / output.name
        sdk.save(init, elsewhere)
        raise SaveError(f"{error}; what was trained is kept in {elsewhere}") from None


def evaluate(
    name: str,
    data_name: str | None,
    root: Path | None,
    ways: int,
    shots: int,
    n_tasks: int,
    transductive: bool,
    seed: int,
    record: bool,
    json: bool,
) -> None:
    """`fewshot evaluate`."""
    import fewshot_sdk as sdk
    from fewshot_sdk.datasets import data_source
    from fewshot_sdk.evaluation import Mode, accuracies, summarize
    from fewshot_sdk.zoo import locate

    init = sdk.load(name)
    source = init.recipe.data if data_name in (None, init.recipe.data.name) else data_source(data_name)
    data = sdk.open_dataset(source, init.recipe.preprocessing, "test", root)
    sampler = sdk.TaskSampler(data=data, n_way=ways, k_shot=shots, n_query=1, seed=seed)

    mode: Mode = "transductive" if transductive else "inductive"
    right: list[float] = []
    values = accuracies(init, sampler, n_tasks=n_tasks, mode=mode)
    for value in progress(values, n_tasks, "evaluating", lambda _: f"{sum(right) / max(len(right), 1):.1%}"):
        right.append(value)  # noqa: PERF402 (the bar shows the mean as it grows)
    result = summarize(right, sampler, mode)
    if json:
        emit_json({k: v for k, v in result.model_dump().items() if not k.startswith("data")})
    else:
        emit(
            f"{100 * result.accuracy:.2f} ± {100 * result.ci95:.2f} % "
            f"({ways}-way {shots}-shot {mode}, {n_tasks} tasks, seed {seed})"
        )
    if record:
        folder = locate(name)
        replace_folder(folder, init.with_evaluation(result).files())
        say(f"added to the card in {folder}")


def adapt(support: Path, output: Path, init_name: str, steps: int | None, seed: int, json: bool) -> None:
    """`fewshot adapt`."""
    from fewshot_sdk.support import class_folders

    check_free(output)
    class_folders(support)  # a wrong folder is told before PyTorch is loaded
    import fewshot_sdk as sdk

    init = sdk.load(init_name)
    classifier = sdk.adapt(init, support, steps=steps, seed=seed)
    images, targets = classifier.support.images, classifier.support.targets
    right = int((classifier.probabilities(images).argmax(1) == targets).sum())
    sdk.save(classifier, output)
    if json:
        emit_json(
            {
                "output": str(output),
                "initialization": init_name,
                "labels": list(classifier.labels),
                "images": len(targets),
                "steps": classifier.config.adaptation.steps,
                "support_accuracy": right / len(targets),
            }
        )
    say(
        f"adapted {init_name} to {len(classifier.labels)} classes in {classifier.config.adaptation.steps} steps; "
        f"{right} of its {len(targets)} support pictures are recognized"
    )
    say(f"wrote {output}; next: fewshot export {output} --output {output}.onnx")


def export(model: Path, output: Path, json: bool) -> None:
    """`fewshot export`."""
    check_free_file(output)
    import fewshot_sdk as sdk

    made = sdk.export_onnx(sdk.load_classifier(model), output)
    parity = made.metadata.parity
    if json:
        emit_json({"output": str(output), "bytes": made.size, **made.metadata.model_dump(mode="json")})
    say(
        f"wrote {output}, {made.size / 1000:,.0f} kB; onnxruntime and PyTorch differ by at most "
        f"{parity.max_difference:.1e} on {parity.images} support pictures"
    )
    say(f"next: fewshot predict {output} PICTURE")


def predict(model: Path, images: list[Path], json: bool) -> None:
    """`fewshot predict`: a folder is run by PyTorch, a file by onnxruntime."""
    import fewshot_sdk as sdk

    classifier = sdk.load_classifier(model) if model.is_dir() else sdk.Predictor(model)
    found = classifier.predict(images)
    if json:
        emit_json([{"image": str(image), **asdict(said)} for image, said in zip(images, found, strict=True)])
        return
    width = max(len(str(image)) for image in images)
    for image, said in zip(images, found, strict=True):
        emit(f"{image!s:<{width}}  {said.label}  {said.probability:.1%}")
