"""`adapt`, `export`, `predict` and `evaluate` of numbers in place of pictures, once their words are parsed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fewshot_cli.output import emit, emit_json, progress, say
from fewshot_sdk.errors import ConfigError, MissingExtra, SupportError
from fewshot_sdk.storage.files import check_free, check_free_file, write_folder

if TYPE_CHECKING:
    from fewshot_cli.adapting import AdaptJob
    from fewshot_cli.evaluation import Job
    from fewshot_sdk.artifacts.initialization import NumberInitialization
    from fewshot_sdk.artifacts.regressor import Regressor
    from fewshot_sdk.runtime.regressor import NumberPredictor


def adapts_to_numbers(job: AdaptJob) -> NumberInitialization | None:
    """The initialization for numbers that a job names, or whose columns its table has. Only a CSV can hold them."""
    if job.support.suffix.lower() != ".csv":
        return None
    from fewshot_sdk.artifacts.initialization import of_numbers
    from fewshot_sdk.artifacts.opening import load_any

    init = _of_its_columns(job.support) if job.init == "auto" else load_any(job.init)
    return init if of_numbers(init) else None


def _of_its_columns(table: Path) -> NumberInitialization | None:
    """The bundled initialization whose columns a table's header names, if it does not name pictures."""
    from fewshot_sdk.artifacts.initialization import of_numbers
    from fewshot_sdk.artifacts.opening import load_any
    from fewshot_sdk.config.regression import PRESETS
    from fewshot_sdk.images.tables import read_cells
    from fewshot_sdk.storage.repositories import bundled

    for name in sorted(bundled().keys() & PRESETS.keys()):
        init = load_any(name)
        assert of_numbers(init)
        columns = (*init.recipe.inputs, init.recipe.output)
        try:
            header = read_cells(table, columns).header
        except SupportError:
            continue
        if not {"path", "label"} <= set(header):
            say(f"numbers in the columns {', '.join(columns)}: taking the initialization {name}")
            return init
    return None


def adapt(job: AdaptJob, init: NumberInitialization, json: bool) -> None:
    """`fewshot adapt` of an initialization for numbers."""
    from fewshot_sdk.adaptation.regressor import adapt_regressor

    check_free(job.output)
    given = (job.method not in (None, "reptile"), job.reject_rate is not None, job.extend, job.delta)
    if any(given) or job.label_from != "folder" or not job.keep_pictures:
        raise ConfigError(
            f"{init.recipe.preset} is for numbers: of adapt's options it takes --steps and --seed; leave out others"
        )
    made = adapt_regressor(init, job.support, steps=job.steps, seed=job.seed)
    config = made.config
    contents = made.files()
    if picture := _picture(init, made):
        contents["fit.png"] = picture
        contents["README.md"] += b"\n![before any step, and after all](fit.png)\n"
    write_folder(job.output, contents)
    if json:
        errors = {"before": config.before, "after": config.after, "held_out": config.held_out}
        emit_json(
            {
                "output": str(job.output),
                "initialization": config.initialization.name,
                "inputs": list(config.inputs),
                "predicts": config.output,
                "points": config.points,
                "steps": config.adaptation.steps,
                "mean_squared_error": errors,
            }
        )
    say(
        f"adapted {config.initialization.name} to {config.points} points by {config.adaptation.steps} steps: mean "
        f"squared error {config.before:.4g} before, {config.after:.4g} after, {config.held_out:.4g} on points left out"
    )
    if picture:
        say(f"{job.output / 'fit.png'} shows it")
    say(f"wrote {job.output}; next: fewshot export {job.output} --output {job.output}.onnx")


def _picture(init: NumberInitialization, made: Regressor) -> bytes | None:
    from dataclasses import replace

    from fewshot_sdk.storage.plots import across, picture

    config = made.config
    if len(config.inputs) > 1:
        return None
    x, before = across(made.points), replace(made, params=init.state.params)
    curves = {"before any step": before.predict(x), f"after {config.adaptation.steps} steps": made.predict(x)}
    try:
        return picture(made.points, curves, (config.inputs[0], config.output))
    except MissingExtra as error:
        say(f"no fit.png: {error}")
        return None


def export(regressor: Regressor, output: Path, opset: int, json: bool) -> None:
    """`fewshot export` of what was adapted to numbers."""
    check_free_file(output)
    from fewshot_sdk.export.regressor import export_regressor

    made = export_regressor(regressor, output, opset=opset)
    parity = made.metadata.parity
    if json:
        emit_json({"output": str(output), "bytes": made.size, **made.metadata.model_dump(mode="json")})
    say(
        f"wrote {output}, {made.size / 1000:,.0f} kB; onnxruntime and PyTorch differ by at most "
        f"{parity.max_difference:.1e} on its {parity.points} points and {parity.random:,} made-up ones"
    )
    say(f"next: fewshot predict {output} points.csv")


def are_numbers(words: Sequence[Path]) -> bool:
    """Whether all words are tables or numbers, none a picture."""
    return all(word.suffix.lower() == ".csv" or (_row(str(word)) is not None and not word.exists()) for word in words)


def predict(model: Regressor | NumberPredictor, name: Path, words: Sequence[Path], json: bool) -> None:
    """`fewshot predict` by the model in `name`: prints the inputs and what it says of them, as a CSV or as JSON."""
    import numpy as np

    from fewshot_sdk.images.tables import read_numbers

    inputs, output = model.inputs, model.output
    parts = []
    for word in words:
        row = _row(str(word))
        if row is None and word.suffix.lower() != ".csv":
            raise SupportError(
                f"{word}: expected a number or a .csv, for {name} predicts {output} from {', '.join(inputs)}"
            )
        if row is not None and len(row) != len(inputs):
            raise SupportError(f"{word}: expected {len(inputs)} numbers with commas between: {', '.join(inputs)}")
        parts.append(read_numbers(word, inputs) if row is None else np.array([row], np.float32))
    rows = np.concatenate(parts)
    found = [[*map(float, row), float(value)] for row, value in zip(rows, model.predict(rows), strict=True)]
    columns = (*inputs, output)
    if json:
        emit_json([dict(zip(columns, row, strict=True)) for row in found])
        return
    emit("\n".join([",".join(columns), *(",".join(f"{value:.7g}" for value in row) for row in found)]))


def _row(word: str) -> list[float] | None:
    """The numbers that a word is, with commas between; None if it is none."""
    from fewshot_sdk.images.tables import number

    try:
        return [number(part) for part in word.split(",")]
    except ValueError:
        return None


def evaluate(job: Job, init: NumberInitialization, record: bool, json: bool) -> None:
    """`fewshot evaluate` of an initialization for numbers."""
    from statistics import fmean

    from fewshot_cli.evaluation import replace_card
    from fewshot_sdk.meta.regression import POINTS, summarized, wave_errors

    if job.baselines or job.data or job.root or job.part != "test" or job.modes != ("inductive",) or job.ways:
        raise ConfigError(
            f"{job.init} is for numbers: of evaluate's options it takes --shots, --tasks, --seed, --record and --json; "
            "leave out others"
        )
    points, values = job.shots or POINTS, list[float]()
    errors = wave_errors(init, n_waves=job.n_tasks, n_points=points, seed=job.seed)
    for value in progress(errors, job.n_tasks, "evaluating", lambda _: f"{fmean(values):.4f}" if values else ""):
        values.append(value)
    found = summarized(values, init, points, job.seed)
    if json:
        emit_json(found.model_dump())
    else:
        emit(
            f"mean squared error {found.mean_squared_error:.4f} ± {found.ci95:.4f} ({found.data}, {found.steps} "
            f"steps on {found.points} points, {found.waves} waves, seed {found.seed})"
        )
    if record:
        replace_card(job.init, init.with_evaluation(found).files())
