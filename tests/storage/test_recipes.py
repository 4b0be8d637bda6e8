from __future__ import annotations

import os
from pathlib import Path

import pytest

from fewshot_sdk.config.presets import preset
from fewshot_sdk.config.recipe_files import recipe_text
from fewshot_sdk.errors import BundleError, ConfigError
from fewshot_sdk.storage.recipes import MAX_RECIPE_BYTES, read_recipe, recipe_of
from tests.conftest import REPOSITORY

TEXT = recipe_text(preset("glyphs"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_a_recipe_is_read_as_editors_and_shells_write_it(encoding: str, ends: str, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_bytes(TEXT.replace("\n", ends).encode(encoding))
    assert read_recipe(tmp_path / "r.toml") == preset("glyphs")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"preset = \n", "not TOML: invalid value (at line 1, column 10)"),
        (b"preset = 'a'\npreset = 'b'\n", "not TOML: cannot overwrite a value (at line 2, column 13)"),
        (b"a = " + b"[" * 100_000, "not TOML: "),
        (b"a = " + b"9" * 10_000, "not TOML: "),
        ("a = 1\n# é ".encode() + b"\xff", "not UTF-8 text (at line 2, column 5)"),
        (b"\x00\x01", "not TOML: "),
        (b"", "preset: field required"),
        (
            b"#" * (MAX_RECIPE_BYTES + 1),
            "is larger than 4 MiB; expected a recipe, such as `fewshot recipe PRESET` prints",
        ),
        (TEXT.replace("k_shot", "k_shots").encode(), "no setting meta.k_shots; did you mean meta.k_shot?"),
        (TEXT.replace("[inner]", "[iner]").encode(), "no setting iner; did you mean inner?"),
        (TEXT.replace("steps = 5", "steps = -5").encode(), "inner.steps: input should be greater than or equal to 0"),
    ],
    ids=["value", "twice", "deep", "long", "bytes", "binary", "empty", "large", "key", "table", "range"],
)
def test_a_broken_file_is_told_by_name_and_place(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        read_recipe(path)
    assert str(error.value).startswith(str(path))
    assert said in str(error.value)
    assert len(str(error.value)) < len(str(path)) + 300


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file or directory; expected a recipe"):
        read_recipe(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="is a directory; expected a recipe"):
        read_recipe(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="is a pipe or a device"):
        read_recipe(tmp_path / "pipe")


def test_an_initialization_has_the_recipe_that_made_it() -> None:
    assert recipe_of("omniglot") == preset("omniglot")
    assert recipe_of(REPOSITORY / "models" / "mini-imagenet-5way").meta.meta_steps == 6500
    with pytest.raises(BundleError, match="no initialization 'glyphs'"):
        recipe_of("glyphs")


@pytest.mark.parametrize("key", ["a." * 100_000 + "a", '"a" . ' * 50_000 + "a", "[" + "a." * 100_000 + "a]"])
def test_a_key_of_very_many_parts_is_refused_at_once(key: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(f"{key} = 1\n" if key[0] != "[" else key, encoding="utf-8")
    with pytest.raises(ConfigError, match="a key has more than 50 parts between dots"):
        read_recipe(tmp_path / "recipe.toml")
