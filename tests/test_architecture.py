"""The layer table: a module imports only strictly lower layers; `*` never leads to torch or onnx."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import fewshot_sdk
from tests.conftest import REPOSITORY

LAYERS = """
15  cli
14  regression_training combinations overlaps paper_tables
13  extension sine_waves trials
12  training adaptation own_networks regressor_export
11  taylor rejection onnx_export comparison outer_loop
10  sharing regressor learner_export choice evaluation parity precision fast_weights meta_gradients
9   pretraining learner_graph methods classifier regression_init
8   onnx_adaptation lineage datasets* demo* trajectories delta_runtime checkpoint
7   serving* report* doctor* forward omniglot* mini_imagenet* glyphs* regressor_runtime* deployment* inner_loop
7   learner* classifier_graph regression_cards paper_cells residual_learner timm_graph timm_weights
7   layered_learner
6   listening* presets* tasks class_cache* support* heads conv4 cards* runtime* perceptrons states conv4_learner
5   deltas* curves* experiments conv4_nodes class_images* bundles* sources* thumbnails* backbones results* metadata*
5   regression*
4   catalogue meta images* records* conv4_tables* residual picture_nodes figures timm_body
3   hub config*
2   optimizers testing* signing* tensors web_runtime* archives* native* tables* hub_client box_nodes architectures*
1   params zoo* team files* zipped* decoding* hub_errors hub_protocol* onnx_nodes arrays algorithms* fits*
1   settings*
0   predictions* gatekeeping* errors* version* loopback* repositories* calibration* schedules* augment processors
0   orphans*
"""
HEAVY = {"torch", "onnx", "onnxscript", "safetensors", "huggingface_hub"}

TABLE = {
    name.rstrip("*"): (int(line.split()[0]), name.endswith("*"))
    for line in LAYERS.strip().splitlines()
    for name in line.split()[1:]
}
FILES = {path.stem: path for path in (REPOSITORY / "fewshot_sdk").glob("*.py") if path.stem != "__init__"}


def imported(path: Path) -> set[str]:
    """Every module named in an import anywhere in a file; `from a import b` gives a and a.b."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def own(path: Path) -> set[str]:
    parts = (name.split(".") for name in imported(path) if name.startswith("fewshot_sdk."))
    return {part[1] for part in parts if part[1] in FILES}


def test_the_table_names_every_module_and_no_other() -> None:
    assert TABLE.keys() - {"cli"} == FILES.keys()


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_module_imports_only_lower_layers(name: str) -> None:
    layer, light = TABLE[name]
    for other in own(FILES[name]):
        assert TABLE[other][0] < layer, f"{name} (layer {layer}) imports {other} (layer {TABLE[other][0]})"
        assert not light or TABLE[other][1], f"{name}* imports {other}, which may import torch"
    if light:
        heavy = {module.partition(".")[0] for module in imported(FILES[name])} & HEAVY
        assert not heavy, f"{name}* imports {heavy}"


def test_the_table_would_notice_an_import_upwards(tmp_path: Path) -> None:
    planted = tmp_path / "planted.py"
    planted.write_text("def late():\n    from fewshot_sdk.training import meta_train\n")
    assert own(planted) == {"training"}


def test_a_module_is_one_concept_long() -> None:
    long = {name: n for name, path in FILES.items() if (n := len(path.read_text().splitlines())) > 250}
    assert not long


def test_only_the_commands_output_module_prints() -> None:
    for path in [*FILES.values(), *(REPOSITORY / "cli" / "fewshot_cli").glob("*.py")]:
        calls = {
            node.func.id
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert "print" not in calls, path


def test_the_command_uses_no_private_name() -> None:
    for path in (REPOSITORY / "cli" / "fewshot_cli").glob("*.py"):
        private = {name for name in imported(path) if "._" in name.removeprefix("__future__")}
        assert not private, path


def test_every_public_name_is_there_and_no_module_hides_behind_one() -> None:
    for name in fewshot_sdk.__all__:
        assert getattr(fewshot_sdk, name) is not None
        assert name not in FILES
    assert set(fewshot_sdk.__all__) <= set(dir(fewshot_sdk))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        getattr(fewshot_sdk, "nothing")  # noqa: B009
