from __future__ import annotations

import json
import os
import random
import resource
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from fewshot_sdk import load, save
from fewshot_sdk.artifacts.initialization import Initialization, load_checkpoint, save_checkpoint
from fewshot_sdk.config.records import Evaluation
from fewshot_sdk.errors import BundleError, ConfigError, ParamsMismatch, SaveError
from fewshot_sdk.storage.files import manifest_of, write_folder


@pytest.fixture
def saved(init: Initialization, tmp_path: Path) -> Path:
    return save(init, tmp_path / "init")


def rewrite(folder: Path, **changed: bytes) -> None:
    """Change files and make the manifest agree, as an author who errs (or lies) would."""
    names = ("README.md", "config.json", "inner_state.safetensors", "model.safetensors")
    contents = {name: (folder / name).read_bytes() for name in names}
    contents |= {name.replace("__", "."): data for name, data in changed.items()}
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    (folder / "manifest.json").write_bytes(manifest_of(contents))


def result(accuracy: float, shots: int = 1) -> Evaluation:
    return Evaluation(
        data="glyphs",
        data_sha256="",
        accuracy=accuracy,
        ci95=0.01,
        tasks=9,
        ways=5,
        shots=shots,
        mode="inductive",
        seed=0,
    )


def test_the_folder_holds_the_five_files(saved: Path) -> None:
    assert sorted(file.name for file in saved.iterdir()) == [
        "README.md",
        "config.json",
        "inner_state.safetensors",
        "manifest.json",
        "model.safetensors",
    ]


def test_what_was_saved_is_loaded(saved: Path, init: Initialization) -> None:
    found = load(saved)
    assert found.recipe == init.recipe
    assert found.provenance == init.provenance
    assert found.state.updates == init.state.updates
    for name, tensor in init.state.params.items():
        assert torch.equal(found.state.params[name], tensor)
    for name, tensor in init.state.second_moments.items():
        assert torch.equal(found.state.second_moments[name], tensor)
    assert found.files() == init.files()
    assert found.sha256 == init.sha256


def test_a_result_is_shown_on_the_card_and_replaces_an_older_one_of_its_kind(init: Initialization) -> None:
    better = init.with_evaluation(result(0.5)).with_evaluation(result(0.8, shots=5)).with_evaluation(result(0.6))
    assert [(e.shots, e.accuracy) for e in better.evaluations] == [(1, 0.6), (5, 0.8)]
    card = better.files()["README.md"].decode()
    assert "60.00 ± 1.00 %" in card
    assert "50.00" not in card
    assert better.sha256 == init.sha256


def test_any_flipped_bit_in_any_file_is_refused_by_name(saved: Path) -> None:
    rng = random.Random(0)
    for name in ("README.md", "config.json", "inner_state.safetensors", "model.safetensors"):
        good = (saved / name).read_bytes()
        for _ in range(50):
            bad = bytearray(good)
            bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
            (saved / name).write_bytes(bad)
            with pytest.raises(BundleError, match=f"{name} was changed or damaged"):
                load(saved)
        (saved / name).write_bytes(good)
    load(saved)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda p: p.pop("conv2.weight"), "model.safetensors: tensor 'conv2.weight' is missing"),
        (lambda p: p.update(extra=torch.zeros(1)), "unexpected tensor 'extra'"),
        (
            lambda p: p.update({"norm1.bias": torch.zeros(9)}),
            r"'norm1.bias': expected float32 \[4\], found float32 \[9\]",
        ),
        (lambda p: p.update({"norm1.bias": torch.zeros(4).half()}), "expected float32 .* found float16"),
    ],
)
def test_a_wrong_tensor_is_named(saved: Path, init: Initialization, change: object, says: str) -> None:
    params = dict(init.state.params)
    change(params)  # type: ignore[operator]
    rewrite(saved, model__safetensors=safetensors.torch.save(params))
    with pytest.raises(ParamsMismatch, match=says):
        load(saved)


def test_a_wrong_inner_state_is_named(saved: Path, init: Initialization) -> None:
    rewrite(saved, inner_state__safetensors=safetensors.torch.save(dict(init.state.second_moments)))
    with pytest.raises(ParamsMismatch, match=r"inner_state\.safetensors: tensor 'updates' is missing"):
        load(saved)


def test_a_negative_count_of_updates_is_refused(saved: Path, init: Initialization) -> None:
    state = {**init.state.second_moments, "updates": torch.tensor(-1)}
    rewrite(saved, inner_state__safetensors=safetensors.torch.save(state))
    with pytest.raises(BundleError, match="expected 0 or more updates, found -1"):
        load(saved)


def test_a_config_that_asks_for_a_giant_network_costs_no_memory(saved: Path) -> None:
    config = json.loads((saved / "config.json").read_text())
    config["recipe"]["backbone"]["filters"] = 4096
    config["recipe"]["preprocessing"] |= {"height": 1024, "width": 1024}
    rewrite(saved, config__json=json.dumps(config).encode())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ParamsMismatch, match=r"expected float32 \[4096"):
        load(saved)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB; the network takes 5 GB


@pytest.mark.parametrize("data", [b"", b"\x80\x04pickle", b"\xff" * 64, b"\x10\0\0\0\0\0\0\0{}"])
def test_what_is_no_safetensors_is_refused(saved: Path, data: bytes) -> None:
    rewrite(saved, model__safetensors=data)
    with pytest.raises(BundleError, match=r"model\.safetensors is not a safetensors file"):
        load(saved)


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("format",), "pickle 9", "expected the format 'fewshot-sdk initialization 1', found 'pickle 9'"),
        (("recipe", "head"), "magic", "head: input should be 'dense', 'zero' or 'prototype', found 'magic'"),
        (("recipe", "surprise"), 1, "surprise: no such setting"),
        (("recipe", "inner", "learning_rate"), "fast", "learning_rate: .*valid number"),
        (("recipe", "backbone", "filters"), -1, "filters: .*greater than or equal to 1"),
    ],
)
def test_a_setting_that_cannot_be_is_named(saved: Path, path: tuple[str, ...], value: object, says: str) -> None:
    config = json.loads((saved / "config.json").read_text())
    inside = config
    for key in path[:-1]:
        inside = inside[key]
    inside[path[-1]] = value
    rewrite(saved, config__json=json.dumps(config).encode())
    with pytest.raises(BundleError, match=says):
        load(saved)


def test_a_config_that_is_no_json_is_told(saved: Path) -> None:
    rewrite(saved, config__json=b"{")
    with pytest.raises(BundleError, match=r"config\.json: .*invalid JSON"):
        load(saved)


def test_a_folder_that_is_no_initialization_is_told(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"manifest\.json: no such file or directory; expected a file written by"):
        load(tmp_path)


def test_a_name_that_is_neither_bundled_nor_a_folder_lists_the_bundled_ones() -> None:
    with pytest.raises(BundleError, match=r"no initialization 'omniglott': .* bundled name \(.*omniglot"):
        load("omniglott")


def test_settings_are_checked_where_they_are_made(init: Initialization) -> None:
    with pytest.raises(ConfigError, match=r"InnerLoop: steps: .*greater than or equal to 0, found -1"):
        init.recipe.inner.replace(steps=-1)
    with pytest.raises(ConfigError, match="mean: expected 1 or 3 values"):
        init.recipe.preprocessing.replace(channels=3, mean=(0.0, 0.0))
    with pytest.raises(ConfigError, match=r"optimizer must be the inner loop's, adam"):
        init.recipe.replace(adaptation=init.recipe.adaptation.replace(optimizer="sgd"))
    with pytest.raises(ConfigError, match="meta-training needs at least 1 inner step"):
        init.recipe.replace(inner=init.recipe.inner.replace(steps=0))
    with pytest.raises(ConfigError, match="glyphs has the split seeded, found 'paper'"):
        init.recipe.data.replace(split="paper")


def test_settings_cannot_be_changed_in_place(init: Initialization) -> None:
    with pytest.raises(Exception, match="frozen"):
        init.recipe.inner.steps = 3  # type: ignore[misc]
    assert replace(init) == init


def test_a_folder_of_another_format_is_told_by_its_name(init: Initialization, tmp_path: Path) -> None:
    """A later version's settings may not be readable; naming its format helps more than naming its first odd field."""
    files = {**init.files(), "config.json": b'{"format": "fewshot-sdk initialization 2"}'}
    with pytest.raises(BundleError, match=r"expected the format 'fewshot-sdk initialization 1', found '.* 2'"):
        load(write_folder(tmp_path / "later", files))


def test_a_checkpoint_reads_back_as_it_was_written(init: Initialization, tmp_path: Path) -> None:
    path = save_checkpoint(init, tmp_path / "init.checkpoint")
    assert load_checkpoint(path).files() == init.files()
    save_checkpoint(init, path)  # replaces the older one
    assert [file.name for file in tmp_path.iterdir()] == ["init.checkpoint"]


def test_a_checkpoint_that_the_disk_refuses_leaves_the_older_one(
    init: Initialization, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_checkpoint(init, tmp_path / "init.checkpoint")

    def refuse(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(SaveError, match="no space left on device"):
        save_checkpoint(init, path)
    monkeypatch.undo()
    assert load_checkpoint(path).sha256 == init.sha256
