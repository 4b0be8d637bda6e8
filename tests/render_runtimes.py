"""Which onnxruntime runs the files that we write: the table in docs/deploying.md.

python -m tests.render_runtimes FOLDER [VERSION...]

Writes files of every kind to FOLDER, installs each version of onnxruntime into a folder of its own there, and compares
its answers with those of the installed one. What is there already, from an earlier run, is used again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import cast
from unittest.mock import patch

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from fewshot_sdk import adapt, export_learner, export_onnx, load
from fewshot_sdk.adaptation.regressor import adapt_regressor
from fewshot_sdk.artifacts.initialization import Initialization, NumberInitialization
from fewshot_sdk.artifacts.opening import load_any
from fewshot_sdk.config.recipe import Preprocessing
from fewshot_sdk.errors import FewshotError
from fewshot_sdk.export.checks import Precision
from fewshot_sdk.export.learner import made_up_task
from fewshot_sdk.export.regressor import export_regressor
from fewshot_sdk.testing.hub import LocalHub
from tests.conftest import REPOSITORY
from tests.images.test_decoding import photo
from tests.images.test_preprocessing import encoded

VERSIONS = (
    "1.15.1", "1.16.3", "1.17.3", "1.18.1", "1.19.2", "1.20.1", "1.21.1", "1.22.1", "1.23.2", "1.24.4", "1.25.1",
    "1.26.0", "1.27.0", "1.28.0", "1.29.0", "1.30.0", "1.31.1", "1.32.0",
)  # fmt: skip
DEFAULT, OPSETS = 20, (23, 20, 19, 18, 15)
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
Arrays = dict[str, NDArray[np.generic]]

_PROGRAM = """
import json, sys
import numpy as np
import onnxruntime
onnxruntime.set_default_logger_severity(4)
found = {}
for name in sys.argv[1:]:
    answers = {}
    try:
        session = onnxruntime.InferenceSession(name + ".onnx", providers=["CPUExecutionProvider"])
        feed = dict(np.load(name + ".npz"))
        for batch in sorted({key.partition("/")[0] for key in feed}):
            given = {key.partition("/")[2]: value for key, value in feed.items() if key.startswith(batch + "/")}
            for output, value in zip(session.get_outputs(), session.run(None, given)):
                answers[batch + "/" + output.name] = value
        np.savez(name + ".found.npz", **answers)
        found[name] = ""
    except Exception as error:
        found[name] = str(error).splitlines()[0]
print(json.dumps(found))
"""


@dataclass(frozen=True, kw_only=True)
class File:
    """A kind of file. feeds: the inputs of each call.

    allowed: how far apart two numbers that count as the same may be, as a part of the larger of 1 and the number.
    """

    kind: str
    opset: int
    path: Path
    feeds: tuple[Arrays, ...]
    allowed: float

    @property
    def stem(self) -> str:
        """Its path without the ending."""
        return str(self.path.with_suffix(""))


def pictures() -> tuple[Arrays, ...]:
    """Two sizes of pictures, and the first again with a threshold."""
    rng = np.random.default_rng(0)
    small, large = (rng.integers(0, 256, (2, *sides, 3), np.uint8) for sides in ((105, 105), (300, 200)))
    return {"images": small}, {"images": large}, {"images": small, "threshold": np.array(0.9, np.float32)}


def support(folder: Path) -> Path:
    """Made-up photographs in three class folders."""
    for seed, label in enumerate(("ant", "bee", "cat")):
        for shot in range(4):
            path = folder / label / f"{shot}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded(photo(120, 90, 10 * seed + shot), "PNG"))
    return folder


def files(folder: Path) -> Iterator[File]:
    """Every kind of file, in each opset in which it can be written."""
    drawings, photographs = REPOSITORY / "examples" / "drawings", support(folder / "photographs")
    for name, shown in (("omniglot", drawings), ("photo", photographs)):
        classifier = adapt(load(name), shown, reject_rate=0.05)
        for precision in PRECISIONS:
            for opset in OPSETS:
                path = folder / f"{name}-{precision}-{opset}.onnx"
                if not path.exists():
                    export_onnx(classifier, path, opset=opset, precision=precision, max_drop=1)
                allowed = 1e-6 if precision == "fp32" else 1e-3
                yield File(kind=f"{name} {precision}", opset=opset, path=path, feeds=pictures(), allowed=allowed)
        size = classifier.config.preprocessing
        pixels = np.random.default_rng(1).normal(0, 1, (2, size.channels, size.height, size.width)).astype(np.float32)
        for opset in OPSETS:
            path = folder / f"{name}-raw-{opset}.onnx"
            if not path.exists():
                export_onnx(classifier, path, opset=opset, raw=True)
            yield File(kind=f"{name} --raw", opset=opset, path=path, feeds=({"pixels": pixels},), allowed=1e-6)
        yield from learners(folder, name, size)
    yield from timm(folder, photographs)
    sine = cast("NumberInitialization", load_any("sine"))
    points = np.array([[-4, 1.5], [-2, -1.7], [0, 0.3], [1, 2.0], [3, 0.1]], np.float32)
    for opset in OPSETS:
        path = folder / f"numbers-{opset}.onnx"
        if not path.exists():
            export_regressor(adapt_regressor(sine, points), path, opset=opset)
        yield File(kind="numbers", opset=opset, path=path, feeds=({"x": points[:, :1]},), allowed=1e-6)


def learners(folder: Path, name: str, size: Preprocessing) -> Iterator[File]:
    """The learner of an initialization, with 5 steps on a made-up task; rounding grows from step to step."""
    images, targets, queries = made_up_task(size, 3, 2, 4, 0)
    feed: Arrays = {
        "support": images, "labels": targets, "queries": queries, "steps": np.array(5, np.int64),
        "learning_rate": np.array(0.001, np.float32),
    }  # fmt: skip
    init = load(name)
    assert isinstance(init, Initialization)
    for opset in OPSETS:
        path = folder / f"{name}-learner-{opset}.onnx"
        if not path.exists():
            export_learner(init, path, opset=opset)
        yield File(kind=f"{name} learner", opset=opset, path=path, feeds=(feed,), allowed=1e-4)


def timm(folder: Path, photographs: Path) -> Iterator[File]:
    """Two small timm networks, from a Hub on this machine, in the opsets that PyTorch's exporter can write."""
    from tests.artifacts.test_timm import CNN, CONFIGS, VIT, files_of, made

    with LocalHub() as hub, patch.dict(os.environ, {**hub.environment, "HF_HOME": str(folder / "timm")}):
        hub.commit("timm/test_resnet.r160_in1k", files_of(made("test_resnet"), CONFIGS[CNN]))
        hub.commit("user/small-vit", files_of(made("test_vit", img_size=32), CONFIGS[VIT]))
        for name, kind in ((CNN, "timm resnet"), (VIT, "timm vit")):
            classifier = adapt(load(name), photographs, reject_rate=0.05)
            for opset in OPSETS:
                path = folder / f"{kind.replace(' ', '-')}-{opset}.onnx"
                try:
                    if not path.exists():
                        export_onnx(classifier, path, opset=opset)
                except FewshotError as error:
                    print(f"{path.name}: {error}", file=sys.stderr)
                    continue
                yield File(kind=kind, opset=opset, path=path, feeds=pictures(), allowed=1e-6)


def answers(version: str, made: list[File], folder: Path) -> dict[str, str]:
    """For each file what a version of onnxruntime says instead of answering; empty if it answers."""
    packages = []
    if version:
        minor = int(version.split(".")[1])
        for package in (f"onnxruntime=={version}", f"numpy=={'1.26.4' if minor < 19 else '2.2.6'}"):
            packages.append(folder / package.removeprefix("onnxruntime==").replace("==", "-"))
            if not packages[-1].exists():
                command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(packages[-1])]
                subprocess.run([*command, package], check=True)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, packages))}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *(file.stem for file in made)],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


def apart(file: File) -> str:
    """How a version's answers differ from the installed one's; empty if they are the same."""
    found, wanted = np.load(f"{file.stem}.found.npz"), np.load(f"{file.stem}.wanted.npz")
    for name in wanted:
        if wanted[name].dtype.kind == "f":
            difference = float((np.abs(found[name] - wanted[name]) / np.maximum(1, np.abs(wanted[name]))).max())
            if not difference <= file.allowed:
                return f"{name} differs by {difference:.1e}"
        elif not np.array_equal(found[name], wanted[name]):
            return f"{name} differs"
    return ""


def cell(kind: list[File], refused: dict[str, str], differs: dict[str, str]) -> str:
    """A cell of the table: "same", or the highest opset whose file gives the same, and whether another one differs."""
    works = [file.opset for file in kind if not refused[file.stem] and not differs[file.stem]]
    if DEFAULT in works:
        return "same"
    if any(differs[file.stem] for file in kind):
        return "**differs**"
    return f"opset {max(works)}" if works else "no"


def main() -> None:
    """Try everything; print the table, and what did not work to standard error."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    made = list(files(folder))
    for file in made:
        feed = {f"{i}/{name}": array for i, each in enumerate(file.feeds) for name, array in each.items()}
        np.savez(f"{file.stem}.npz", **feed)  # type: ignore[arg-type] # numpy 2.0's stub for keywords
    failed = [name for name, reason in answers("", made, folder).items() if reason]
    assert not failed, failed
    for file in made:
        Path(f"{file.stem}.found.npz").replace(f"{file.stem}.wanted.npz")
    kinds = {kind: list(each) for kind, each in groupby(made, lambda file: file.kind)}
    rows: list[tuple[str, list[str]]] = []
    for version in sys.argv[2:] or VERSIONS:
        refused = answers(version, made, folder)
        differs = {file.stem: "" if refused[file.stem] else apart(file) for file in made}
        for file in made:
            if said := refused[file.stem] or differs[file.stem]:
                print(f"{version} {file.path.name}: {said[:300]}", file=sys.stderr)
        rows.append((version, [cell(kind, refused, differs) for kind in kinds.values()]))
    print(f"| onnxruntime | {' | '.join(kinds)} |\n|{'---|' * (len(kinds) + 1)}")
    for cells, alike in groupby(rows, lambda row: row[1]):
        versions = [version for version, _ in alike]
        print(f"| {', '.join(versions)} | {' | '.join(cells)} |")
    print(f"\nCompared with {onnxruntime.__version__}.")


if __name__ == "__main__":
    main()
