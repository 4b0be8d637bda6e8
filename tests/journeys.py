"""How many modules five journeys enter, and how often they climb: `python -m tests.journeys`.

A module is entered when a function of it is called. In the order of first entries, a climb is a step to a module in a
folder further down the table of CONTRIBUTING.md, the command's being the last.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from itertools import pairwise
from types import FrameType

from tests.layout import REPOSITORY, folders

DRAWINGS = REPOSITORY / "examples" / "drawings"
JOURNEYS = {
    "meta-train": "meta-train --preset glyphs --meta-steps 3 --evaluate-every 0 --workers 1 --output init",
    "load": "load init",
    "adapt": f"adapt --support {DRAWINGS} --init init --output model",
    "export": "export model --output model.onnx",
    "predict": f"predict model.onnx {DRAWINGS / 'fish' / '1.png'}",
}
HOMES = {str(REPOSITORY / "fewshot_sdk"): "", str(REPOSITORY / "cli" / "fewshot_cli"): "cli"}


def module_of(file: str) -> str | None:
    """The module that a file holds, as `folder.module`; None outside the project."""
    for home, prefix in HOMES.items():
        if file.startswith(home + os.sep) and file.endswith(".py"):
            name = file[len(home) + 1 :].removesuffix(".py").replace(os.sep, ".")
            return f"{prefix}.{name}" if prefix else name
    return None


def entered(words: list[str]) -> list[str]:
    """The modules that a journey enters, in the order of their first entries."""
    found: dict[str, None] = {}

    def note(frame: FrameType, event: str, _: object) -> None:
        if event != "call" or frame.f_code.co_name == "<module>" or _being_imported(frame):
            return
        if (name := module_of(frame.f_code.co_filename)) is not None:
            found[name] = None

    import fewshot_sdk
    from fewshot_cli.main import app

    sys.setprofile(note)
    try:
        if words[0] == "load":
            fewshot_sdk.load(words[1])
        else:
            app(words)
    except SystemExit as end:
        if end.code:
            raise
    finally:
        sys.setprofile(None)
    return list(found)


def _being_imported(frame: FrameType) -> bool:
    """Whether this happens while a module is being imported: its constants, decorators and settings."""
    caller = frame.f_back
    while caller is not None and caller.f_code is not entered.__code__:
        if caller.f_code.co_name == "<module>":
            return True
        caller = caller.f_back
    return False


def climbs(modules: list[str]) -> int:
    """How often the next module that is entered lies in a folder further down the table."""
    order = {folder.name: place for place, folder in enumerate(folders())}
    places = [order.get(name.partition(".")[0] if "." in name else "", len(order)) for name in modules]
    return sum(after > before for before, after in pairwise(places))


def main() -> None:
    """Prints a row for each journey, each in a process and a temporary folder of its own."""
    if len(sys.argv) > 1:
        modules = entered(sys.argv[1:])
        print(f"{len(modules)} modules, {climbs(modules)} climbs: {' '.join(modules)}", file=sys.__stdout__)
        return
    with tempfile.TemporaryDirectory() as folder:
        paths = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "cli")])
        for name, words in JOURNEYS.items():
            done = subprocess.run(
                [sys.executable, "-m", "tests.journeys", *words.split()],
                cwd=folder, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=True,
            )  # fmt: skip
            print(f"{name:<11} {done.stdout.splitlines()[-1]}")


if __name__ == "__main__":
    main()
