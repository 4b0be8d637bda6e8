"""What docs/deploying.md promises of the files that we write."""

from __future__ import annotations

import json
import re
from pathlib import Path

import onnx
import onnxruntime
import pytest

from fewshot_sdk import adapt, export_learner, export_onnx
from fewshot_sdk.artifacts.initialization import Initialization
from fewshot_sdk.config.onnx_file import METADATA_KEY
from fewshot_sdk.graphs.versions import OPSET, OPSETS, lowest_ir_version
from tests import render_schema
from tests.conftest import REPOSITORY, draw_folder

PAGE = (REPOSITORY / "docs" / "deploying.md").read_text(encoding="utf-8")
Rows = dict[str, tuple[str, str]]


def table(heading: str) -> Rows:
    """The inputs and outputs of a table behind a line, by name: type and number of dimensions."""
    rows = re.findall(r"^\| (?:in|out)put[^|]* \| `([\w.]+)` \| (\w+) \| `\[(.*?)\]`", _behind(heading), re.MULTILINE)
    return {name: (kind, str(len([side for side in shape.split(",") if side]))) for name, kind, shape in rows}


def _behind(heading: str) -> str:
    return PAGE[PAGE.index(heading) :].partition("\n\n|")[2].partition("\n\n")[0]


def of_file(path: Path) -> Rows:
    session = onnxruntime.InferenceSession(path)
    named = {"float": "float32"}
    return {
        each.name: (named.get(kind := each.type[7:-1], kind), str(len(each.shape)))
        for each in (*session.get_inputs(), *session.get_overridable_initializers(), *session.get_outputs())
    }


@pytest.fixture(scope="module")
def files(init: Initialization, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("files")
    classifier = adapt(init, draw_folder(folder / "support"), method="reptile", reject_rate=None)
    export_onnx(classifier, folder / "classifier.onnx", heat_map=True)
    export_learner(init, folder / "learner.onnx")
    return {name: folder / f"{name}.onnx" for name in ("classifier", "learner")}


def test_a_classifiers_inputs_and_outputs_are_those_of_the_page(files: dict[str, Path]) -> None:
    promised = table("#### A classifier")
    assert promised.pop("pixels") == ("float32", "4")  # of --raw
    assert promised == of_file(files["classifier"])


def test_a_learners_inputs_and_outputs_are_those_of_the_page(files: dict[str, Path]) -> None:
    promised, found = table("#### A learner"), of_file(files["learner"])
    assert promised == {name: found[name] for name in promised}
    assert all(name.rpartition(".")[2] in ("weight", "bias", "mean", "var") for name in found.keys() - promised.keys())


def test_the_metadata_follow_the_schema(files: dict[str, Path]) -> None:
    text = render_schema.PAGE.read_text(encoding="utf-8")
    assert text == render_schema.rendered(), "run `python -m tests.render_schema`"
    schemas = json.loads(text)["$defs"]
    for name, kind in (("classifier", "OnnxMetadata"), ("learner", "LearnerMetadata")):
        (prop,) = onnx.load(files[name]).metadata_props
        assert prop.key == METADATA_KEY
        found = json.loads(prop.value)
        assert set(schemas[kind]["required"]) <= found.keys() <= set(schemas[kind]["properties"])
    rows = re.findall(r"^\| `(\w+)` \|", _behind("#### Metadata"), re.MULTILINE)
    assert set(rows) == set(schemas["OnnxMetadata"]["properties"])


def test_the_page_names_the_versions() -> None:
    assert f"`--opset` {OPSETS[0]} to {OPSETS[1]}" in PAGE
    for first, last, version in re.findall(r"(\d+) for opset (\d+)(?: (?:to|and) (\d+))?", PAGE):
        for opset in range(int(last), int(version or last) + 1):
            assert lowest_ir_version(opset) == int(first)
    assert f"default is opset {OPSET}" in PAGE
