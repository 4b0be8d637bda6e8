"""`fewshot adapt` to a few points."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from fewshot_cli.adapted import record_of_numbers
from fewshot_cli.output import emit_json, say
from fewshot_sdk.errors import ConfigError, MissingExtra
from fewshot_sdk.storage.files import write_folder

if TYPE_CHECKING:
    from fewshot_sdk.artifacts.initialization import NumberInitialization


def adapt(
    init: NumberInitialization, support: Path, output: Path, steps: int | None, seed: int, json: bool, *, unfit: bool
) -> None:
    """Adapt to the points in a CSV, and write and report the result.

    unfit: whether there are options that are for pictures. Raises ConfigError if there are.
    """
    if unfit:
        raise ConfigError(
            f"{init.recipe.preset} is for numbers: adapt takes only --steps and --seed with it; leave out other options"
        )
    from fewshot_sdk.adaptation.regressor import adapt_regressor, drawn

    made = adapt_regressor(init, support, steps=steps, seed=seed)
    config, files = made.config, made.files()
    try:
        if picture := drawn(init, made):
            files["fit.png"] = picture
            files["README.md"] += b"\n![before the steps and after them](fit.png)\n"
    except MissingExtra as error:
        say(f"no fit.png: {error}")
    write_folder(output, files)
    if json:
        emit_json(record_of_numbers(config, output))
    say(
        f"adapted {config.initialization.name} to {config.points} points in {config.adaptation.steps} steps: mean "
        f"squared error {config.before:.4g} before, {config.after:.4g} after, {config.held_out:.4g} on held-out points"
    )
    if "fit.png" in files:
        say(f"for a plot see {output / 'fit.png'}")
    say(f"wrote {output}; next: fewshot export {shlex.quote(str(output))} --output {shlex.quote(f'{output}.onnx')}")
