"""`fewshot reproduce`: the paper's figures, each by one command."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fewshot_cli.output import emit, emit_json, say
from fewshot_sdk.files import check_free, write_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fewshot_sdk.figures import Figure

Name = Literal["taylor", "sine", "gradient-combinations", "overlap", "table1", "table2"]
Size = Literal["small", "paper"]


def reproduce(name: Name, scale: Size, n_seeds: int, output: Path, json: bool) -> None:
    """Makes one figure, and writes its data, pictures and verdict."""
    from fewshot_sdk.figures import SEEDS, check_can_draw

    check_free(output)
    check_can_draw()
    more = f" --seeds {n_seeds}" if n_seeds != len(SEEDS) else ""
    for part in _parts(name, scale, f"fewshot reproduce {name} --scale {scale}{more}", range(n_seeds)):
        if isinstance(part, str):
            say(part)
            continue
        write_folder(output, part.files())
        say(f"wrote {output}, after {time.process_time():.0f} seconds of processor time")
        if json:
            emit_json(part.model_dump(mode="json"))
        else:
            emit(part.verdict)


def _parts(name: Name, scale: Size, command: str, seeds: range) -> Iterator[Figure | str]:
    if name == "taylor":
        from fewshot_sdk.taylor import taylor

        return taylor(command, seeds)
    if name == "sine":
        from fewshot_sdk.sine_waves import sine

        return sine(scale, command, seeds)
    if name == "gradient-combinations":
        from fewshot_sdk.combinations import gradient_combinations

        return gradient_combinations(scale, command, seeds)
    if name == "overlap":
        from fewshot_sdk.overlaps import overlap

        return overlap(scale, command, seeds)
    from fewshot_sdk.paper_tables import table

    return table(name, scale, command, seeds)
