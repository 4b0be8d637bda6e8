from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fewshot_sdk.config.recipe import Recipe
from fewshot_sdk.errors import SupportError
from fewshot_sdk.images.preprocessing import preprocess
from fewshot_sdk.images.support import read_support


def test_folders_are_classes_and_their_pictures_are_in_order(recipe: Recipe, drawings: Path) -> None:
    support = read_support(drawings, recipe.preprocessing)
    assert support.labels == ("ant", "bee", "cat")
    assert support.targets.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    expected = preprocess(drawings / "bee" / "2.png", recipe.preprocessing)
    np.testing.assert_array_equal(support.images[6], expected)


def test_what_desktops_leave_behind_is_passed_over(recipe: Recipe, drawings: Path) -> None:
    (drawings / ".DS_Store").write_bytes(b"x")
    (drawings / "__MACOSX").mkdir()
    (drawings / "ant" / "Thumbs.db").write_bytes(b"x")
    assert len(read_support(drawings, recipe.preprocessing).targets) == 12


def test_a_missing_folder_is_told(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(SupportError, match=r"nowhere: there is no such folder; expected a folder for each class"):
        read_support(tmp_path / "nowhere", recipe.preprocessing)


def test_a_file_in_place_of_the_folder_is_told(recipe: Recipe, drawings: Path) -> None:
    with pytest.raises(SupportError, match="the file is neither a zip nor a"):
        read_support(drawings / "ant" / "0.png", recipe.preprocessing)


def test_an_empty_folder_is_told(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(SupportError, match=r"it is empty; expected .* at least two classes"):
        read_support(tmp_path, recipe.preprocessing)


def test_a_single_class_is_told(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    with pytest.raises(SupportError, match="it holds only the class 'cat'"):
        read_support(tmp_path, recipe.preprocessing)


def test_a_class_without_a_picture_is_named(recipe: Recipe, drawings: Path) -> None:
    (drawings / "dog").mkdir()
    with pytest.raises(SupportError, match="no picture in the class folder dog;"):
        read_support(drawings, recipe.preprocessing)


def test_pictures_outside_class_folders_are_named(recipe: Recipe, drawings: Path) -> None:
    (drawings / "0.png").write_bytes((drawings / "ant" / "0.png").read_bytes())
    with pytest.raises(SupportError, match=r"0\.png is in no class folder"):
        read_support(drawings, recipe.preprocessing)


def test_every_bad_file_is_named_and_no_good_one(recipe: Recipe, drawings: Path) -> None:
    (drawings / "ant" / "1.png").write_bytes(b"")
    (drawings / "cat" / "notes.txt").write_text("not a picture")
    with pytest.raises(SupportError) as failure:
        read_support(drawings, recipe.preprocessing)
    messages = str(failure.value).splitlines()
    assert len(messages) == 2
    assert "ant/1.png is empty (0 bytes)" in messages[0]
    assert "cat/notes.txt is not a picture" in messages[1]


def test_many_bad_files_are_counted(recipe: Recipe, drawings: Path) -> None:
    for i in range(9):
        (drawings / "ant" / f"bad{i}.png").write_bytes(b"")
    with pytest.raises(SupportError, match=r"\(and 4 more such files\)"):
        read_support(drawings, recipe.preprocessing)
