from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewshot_sdk import adapt
from fewshot_sdk.artifacts.initialization import Initialization
from fewshot_sdk.config.recipe import Recipe
from fewshot_sdk.errors import SupportError
from fewshot_sdk.images.doctor import LOOK, Finding
from fewshot_sdk.images.examination import read_examined
from fewshot_sdk.images.support import read_support


def test_each_settings_support_set_is_as_read_alone(drawings: Path, recipe: Recipe) -> None:
    examined = read_examined(drawings, [recipe.preprocessing, LOOK])
    assert examined.warnings == ()
    for settings in (recipe.preprocessing, LOOK):
        expected, found = read_support(drawings, settings), examined.supports[settings]
        assert found.labels == expected.labels
        np.testing.assert_array_equal(found.images, expected.images)
        np.testing.assert_array_equal(found.targets, expected.targets)


def test_warnings_are_told_and_kept(drawings: Path, recipe: Recipe) -> None:
    (drawings / "ant" / "copy.png").write_bytes((drawings / "ant" / "0.png").read_bytes())
    told: list[Finding] = []
    examined = read_examined(drawings, [recipe.preprocessing], warn=told.append)
    assert [finding.code for finding in told] == ["duplicate"]
    assert examined.warnings == tuple(told)


def test_every_error_is_raised_at_once_after_the_warnings(drawings: Path, recipe: Recipe) -> None:
    (drawings / "ant" / "copy.png").write_bytes((drawings / "ant" / "0.png").read_bytes())
    (drawings / "bee" / "bad.png").write_bytes(b"")
    (drawings / "cat" / "bee.png").write_bytes((drawings / "bee" / "0.png").read_bytes())
    told: list[Finding] = []
    with pytest.raises(SupportError) as raised:
        read_examined(drawings, [recipe.preprocessing], warn=told.append)
    assert [finding.code for finding in told] == ["duplicate"]
    assert len(raised.value.args) == 2
    assert str(raised.value).splitlines() == list(raised.value.args)
    assert "bad.png" in raised.value.args[0]
    assert "are the same file under different labels" in raised.value.args[1]


def test_pictures_are_added_to_a_single_class_and_known_again(drawings: Path, recipe: Recipe, tmp_path: Path) -> None:
    kept = read_support(drawings, recipe.preprocessing)
    (tmp_path / "more" / "ant").mkdir(parents=True)
    (tmp_path / "more" / "ant" / "9.png").write_bytes((drawings / "ant" / "0.png").read_bytes())
    with pytest.raises(SupportError, match="only the class 'ant'"):
        read_examined(tmp_path / "more", [recipe.preprocessing])
    (found,) = read_examined(tmp_path / "more", [recipe.preprocessing], kept=kept).warnings
    assert "is already among the pictures of ant" in found.message


def test_a_name_to_be_added_is_compared_with_those_that_are_there(
    drawings: Path, recipe: Recipe, tmp_path: Path
) -> None:
    kept = read_support(drawings, recipe.preprocessing)
    for name, blot in (("Ant", 1), ("cow", 2)):
        (tmp_path / "more" / name).mkdir(parents=True)
        picture = np.full((60, 60), 255, np.uint8)
        picture[10 : 20 * blot, 10:30] = 0
        Image.fromarray(picture).save(tmp_path / "more" / name / "9.png")
    (found,) = read_examined(tmp_path / "more", [recipe.preprocessing], kept=kept).warnings
    assert found.code == "odd-name"
    assert "'ant' and 'Ant'" in found.message


def test_adapting_in_python_has_the_doctor_look(init: Initialization, drawings: Path) -> None:
    copy = drawings / "ant" / "copy.png"
    copy.write_bytes((drawings / "ant" / "0.png").read_bytes())
    told: list[Finding] = []
    adapt(init, drawings, method="prototypes", reject_rate=None, warn=told.append)
    assert [finding.code for finding in told] == ["duplicate"]
    copy.rename(drawings / "bee" / "copy.png")
    with pytest.raises(SupportError, match="are the same file under different labels"):
        adapt(init, drawings, method="prototypes", reject_rate=None)
