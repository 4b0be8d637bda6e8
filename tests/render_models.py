"""Renders models/README.md and every card in models/: `make models`."""

from __future__ import annotations

from fewshot_sdk import load
from fewshot_sdk.cards import zoo_card
from fewshot_sdk.files import replace_folder
from fewshot_sdk.zoo import bundled
from tests.conftest import REPOSITORY


def rendered() -> str:
    """The text that models/README.md must be."""
    found = {name: load(name) for name in bundled()}
    return zoo_card({name: (init.recipe, init.evaluations) for name, init in found.items()})


if __name__ == "__main__":
    for name, folder in bundled().items():
        replace_folder(folder, load(name).files())
    (REPOSITORY / "models" / "README.md").write_text(rendered(), encoding="utf-8")
