"""`fewshot recipe`."""

from __future__ import annotations

from typing import Annotated

import typer

from fewshot_cli.group import app
from fewshot_cli.options import INIT_HELP, Changes
from fewshot_cli.output import emit, emit_json, emit_toml
from fewshot_cli.training import changed
from fewshot_sdk.errors import ConfigError


@app.command()
def recipe(
    name: Annotated[
        str | None, typer.Argument(help="A preset. Default: the list of all.", metavar="[PRESET]", show_default=False)
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(help=f"Instead of a preset, what made an initialization. {INIT_HELP}", show_default=False),
    ] = None,
    changes: Changes = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of all recipes instead.")] = False,
) -> None:
    """Print a recipe in TOML, with a comment on each setting.

    `fewshot recipe photo > recipe.toml` makes a file to edit; `fewshot meta-train --recipe recipe.toml` trains by it.
    """
    from fewshot_sdk.config.presets import PRESETS, preset
    from fewshot_sdk.config.recipe_files import recipe_schema, recipe_text
    from fewshot_sdk.config.regression import NUMBER_PRESETS
    from fewshot_sdk.storage.recipes import recipe_of

    if name is not None and init is not None:
        raise typer.BadParameter("a preset and --init each name a recipe; give one of them")
    if changes and name is None and init is None:
        raise typer.BadParameter("--set changes a recipe; name a preset, or an initialization with --init")
    if schema:
        emit_json(recipe_schema())
    elif init is not None:
        emit_toml(recipe_text(changed(recipe_of(init), changes)))
    elif name is not None:
        try:
            found = NUMBER_PRESETS[name] if name in NUMBER_PRESETS else preset(name)
        except ConfigError as error:
            raise ConfigError(f"{error}; name an initialization with --init") from None
        emit_toml(recipe_text(changed(found, changes)))
    else:
        width = max(map(len, (*PRESETS, *NUMBER_PRESETS)))
        for known, its in PRESETS.items():
            emit(f"{known:<{width}}  {its.meta.algorithm} on {its.data}: {its.backbone.described()}")
        for known, numbers in NUMBER_PRESETS.items():
            emit(f"{known:<{width}}  {numbers.meta.algorithm} on {numbers.data}, numbers")
