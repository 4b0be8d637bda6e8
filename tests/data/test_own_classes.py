"""One's own classes as a data set: what is recorded, what is refused, and what is found again."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fewshot_sdk import TaskSampler, meta_train, open_dataset
from fewshot_sdk.artifacts.initialization import Initialization
from fewshot_sdk.config.recipe import DataSource, OwnClasses
from fewshot_sdk.data.opening import named
from fewshot_sdk.data.own_classes import name_of, new_classes, own_source
from fewshot_sdk.errors import ConfigError, DataError, SupportError
from fewshot_sdk.images.doctor import Finding
from tests.conftest import draw_folder, drawn_glyphs, tiny_recipe

RECIPE = tiny_recipe()
PIXELS = RECIPE.preprocessing
LABELS = ("ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen", "ibis", "jay")


@pytest.fixture
def animals(tmp_path: Path) -> Path:
    return draw_folder(tmp_path / "my animals", LABELS)


@pytest.fixture
def parted(tmp_path: Path) -> Path:
    draw_folder(tmp_path / "parted" / "train", LABELS[:6])
    draw_folder(tmp_path / "parted" / "test", LABELS[6:], shots=2)
    return tmp_path / "parted"


def test_the_parts_are_recorded_by_name_and_share_no_class(animals: Path) -> None:
    source = own_source(animals, PIXELS, seed=4)
    assert (source.name, source.split) == ("my-animals", "0.7/0.15/0.15, seed 4")
    assert source.own is not None
    assert (len(source.own.train), len(source.own.val), len(source.own.test)) == (7, 1, 2)
    assert sorted((*source.own.train, *source.own.val, *source.own.test)) == list(LABELS)
    assert str(animals.parent) not in source.model_dump_json()
    assert DataSource.from_json(source.model_dump_json().encode()) == source


def test_a_path_and_its_record_open_the_same_classes(animals: Path) -> None:
    source = own_source(animals, PIXELS, split="0.6/0.2/0.2")
    for part, n in (("train", 6), ("val", 2), ("test", 2)):
        by_path = open_dataset(animals, PIXELS, part, split="0.6/0.2/0.2")  # type: ignore[arg-type]
        by_record = open_dataset(source, PIXELS, part, animals)  # type: ignore[arg-type]
        assert by_path.n_classes == n
        assert by_path.names == by_record.names == getattr(source.own, part)
        assert by_path.digest == by_record.digest
        assert by_path.name == "my-animals"
    assert open_dataset(str(animals), PIXELS, "train").n_classes == 7


def test_parts_that_are_given_stay_as_they_are(parted: Path) -> None:
    source = own_source(parted, PIXELS, k_shot=3)
    assert source.own is not None
    assert (source.split, source.own.train, source.own.val, source.own.test) == ("given", LABELS[:6], (), LABELS[6:])
    with pytest.raises(DataError, match="its classes are in parts already; leave out --split and --split-seed"):
        own_source(parted, PIXELS, split="0.8/0.2")
    shutil.rmtree(parted / "test")
    assert own_source(parted, PIXELS, split="0.5/0.5").split == "0.5/0/0.5, seed 0"  # nothing but train/ is one whole
    (parted / "train").rename(parted / "test")
    with pytest.raises(DataError, match="no class is for training"):
        own_source(parted, PIXELS)


def test_small_classes_are_refused_by_name_or_left_out_and_told(animals: Path) -> None:
    (animals / "cat" / "0.png").unlink()
    with pytest.raises(DataError, match=r"fewer pictures than a task needs in cat \(3 of 4\); .* --skip-small"):
        own_source(animals, PIXELS, k_shot=4)
    told: list[Finding] = []
    source = own_source(animals, PIXELS, k_shot=4, skip_small=True, warn=told.append)
    assert [finding.code for finding in told] == ["few-shots"]
    assert "cat (3 of 4)" in told[0].message
    assert source.own is not None
    assert "cat" not in (*source.own.train, *source.own.val, *source.own.test)
    assert open_dataset(source, PIXELS, "train", animals).n_classes == 6
    with pytest.raises(DataError, match="no class has enough pictures; expected 9 in each"):
        own_source(animals, PIXELS, k_shot=9, skip_small=True)


def test_classes_for_testing_need_two_pictures_only_where_parts_are_given(parted: Path) -> None:
    assert own_source(parted, PIXELS, k_shot=4).own is not None


def test_a_class_without_a_readable_picture_is_named(animals: Path) -> None:
    for file in (animals / "bee").iterdir():
        file.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"bee \(0 of 2\)"):
        own_source(animals, PIXELS)


def test_left_out_files_are_told_as_python_warnings(animals: Path) -> None:
    (animals / "bee" / "0.png").write_bytes(b"no picture")
    with pytest.warns(UserWarning, match="1 of 40 files could not be read, left out"):
        open_dataset(animals, PIXELS, "train")


def test_a_record_with_rotations_turns_the_training_classes_only(animals: Path) -> None:
    source = own_source(animals, PIXELS).replace(rotations=True)
    upright, turned = (
        open_dataset(each, PIXELS, "train", animals) for each in (source.replace(rotations=False), source)
    )
    assert turned.n_classes == 4 * upright.n_classes
    assert (turned.take(1, [0]) == np.rot90(upright.take(0, [0]), axes=(1, 2))).all()
    assert turned.digest != upright.digest
    assert open_dataset(source, PIXELS, "test", animals).rotations == 1


def test_a_division_written_by_hand_without_a_hash_is_kept(animals: Path) -> None:
    by_hand = DataSource(name="x", split="mine", own=OwnClasses(train=LABELS[5:], val=LABELS[:2], test=LABELS[2:5]))
    source = own_source(animals, PIXELS, recorded=by_hand)
    assert source.own is not None
    assert source.own.sha256
    assert source == by_hand.replace(own=source.own)
    assert (source.own.train, source.own.val, source.own.test) == (LABELS[5:], LABELS[:2], LABELS[2:5])


def test_other_pictures_than_the_recorded_ones_are_divided_anew_and_it_is_told(animals: Path, tmp_path: Path) -> None:
    told: list[Finding] = []
    recorded = own_source(animals, PIXELS, split="0.5/0.5")
    (animals / "ant" / "0.png").write_bytes((animals / "bee" / "0.png").read_bytes())
    assert own_source(animals, PIXELS, recorded=recorded, warn=told.append).split == "0.7/0.15/0.15, seed 0"
    assert "the recipe records, so they are divided anew" in told[0].message
    told.clear()
    own_source(draw_folder(tmp_path / "others", ("one", "two", "three")), PIXELS, recorded=recorded, warn=told.append)
    assert told == []


def test_a_class_moved_into_another_given_part_is_no_longer_of_the_recorded_one(parted: Path) -> None:
    recorded = own_source(parted, PIXELS)
    (parted / "train" / "ant").rename(parted / "test" / "ant")
    source = own_source(parted, PIXELS, recorded=recorded)
    assert source.own is not None
    assert "ant" in source.own.test


def test_changed_data_are_not_taken_for_the_recorded_ones(animals: Path) -> None:
    source = own_source(animals, PIXELS)
    draw_folder(animals, ("zebra",))
    assert open_dataset(source, PIXELS, "train", animals).n_classes == 7  # another class changes nothing
    shutil.copy(animals / "ant" / "0.png", animals / "bee" / "9.png")
    with pytest.raises(DataError, match="my-animals: its pictures changed since its classes were recorded"):
        open_dataset(source, PIXELS, "train", animals)
    shutil.rmtree(animals / "cat")
    with pytest.raises(DataError, match="it no longer holds the recorded classes cat"):
        open_dataset(source, PIXELS, "train", animals)


def test_a_record_without_its_path_says_what_is_missing(animals: Path) -> None:
    with pytest.raises(DataError, match=r"my-animals is your own data, but not where it is: name the folder"):
        open_dataset(own_source(animals, PIXELS), PIXELS, "test")


def test_a_part_without_classes_is_refused(animals: Path) -> None:
    with pytest.raises(DataError, match="my-animals has no validation classes; divide it by another --split"):
        open_dataset(animals, PIXELS, "val", split="0.8/0.2")


def test_evaluation_takes_the_recorded_part(animals: Path) -> None:
    source = own_source(animals, PIXELS)
    assert source.own is not None
    assert new_classes(animals, PIXELS, "test", [source]).names == source.own.test
    assert new_classes(animals, PIXELS, "train", [source]).names == source.own.train
    told: list[Finding] = []
    shutil.copy(animals / "ant" / "0.png", animals / "bee" / "9.png")
    found = new_classes(animals, PIXELS, "test", [source], warn=told.append)
    assert found.names == source.own.test
    assert [finding.code for finding in told] == ["changed", "overlap"]


def test_without_a_record_all_classes_are_new_ones(animals: Path, parted: Path) -> None:
    glyphs = [RECIPE.data]
    assert new_classes(animals, PIXELS, "test", glyphs).names == LABELS
    assert new_classes(parted, PIXELS, "test", glyphs).names == LABELS[6:]
    with pytest.raises(DataError, match="it has no validation classes; --part takes train or test here"):
        new_classes(parted, PIXELS, "val", glyphs)
    with pytest.raises(DataError, match=r"gnu \(2 of 3\)"):
        new_classes(parted, PIXELS, "test", glyphs, least=3)


def test_an_evaluation_never_meets_a_training_class(animals: Path, tmp_path: Path) -> None:
    source = own_source(animals, PIXELS)
    assert source.own is not None
    others = draw_folder(tmp_path / "others", (source.own.train[0], "zebra", "yak"))
    said = rf"init was trained on {source.own.train[0]}, and an accuracy .* name data without them, or --part train"
    with pytest.raises(DataError, match=said):
        new_classes(others, PIXELS, "test", [], {"photo": (), "init": source.own.train})
    other = own_source(animals, PIXELS, seed=1)
    assert other.own is not None
    several = {"init": source.own.train, "other": other.own.train}
    with pytest.raises(DataError, match="other was trained on"):
        new_classes(animals, PIXELS, "test", [source, other], several)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("my classes.zip", "my-classes"),
        ("labels.csv", "labels"),
        ("omniglot", "own-omniglot"),
        ("train.zip", "own-train"),
        ("vögel:2024", "vögel-2024"),
        ("...", "classes"),
    ],
)
def test_the_name_of_a_source_is_a_word(path: str, name: str) -> None:
    assert name_of(Path(path)) == name
    DataSource(name=name, split="given", own=OwnClasses(train=("a",)))


def test_a_name_that_would_break_a_card_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected up to 100 letters"):
        DataSource(name="a]\n# b", split="given", own=OwnClasses(train=("a",)))


def test_data_are_a_name_or_a_path(animals: Path) -> None:
    assert named(str(animals)) == animals
    with pytest.raises(DataError, match=r"did you mean 'omniglot'\?; nor is there a folder, zip or CSV of that name"):
        named("ominglot")
    with pytest.raises(DataError, match=r"nothing\.zip: there is no such folder, zip or CSV"):
        named("nothing.zip")


def test_a_split_is_for_a_path() -> None:
    with pytest.raises(DataError, match="glyphs: a split and its seed are for a path"):
        open_dataset("glyphs", PIXELS, "train", split="0.8/0.2")


def test_an_unknown_table_says_what_it_expects(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("file,class\na.png,b\n")
    with pytest.raises(SupportError, match="expected a header with the columns path and label"):
        open_dataset(tmp_path / "table.csv", PIXELS, "train")


def trained_on_animals(animals: Path) -> Initialization:
    data = open_dataset(animals, PIXELS, "train", split="0.6/0.2/0.2")
    *_, last = meta_train(RECIPE, TaskSampler(data=data, n_way=5, k_shot=3))
    return last.initialization


def test_what_was_trained_from_python_names_its_own_data(animals: Path) -> None:
    init = trained_on_animals(animals)
    assert init.recipe.data == own_source(animals, PIXELS, split="0.6/0.2/0.2")
    card = init.files()["README.md"].decode()
    assert "| data | `my-animals`, one's own pictures of 6 classes, split `0.6/0.2/0.2, seed 0` |" in card
    assert "datasets: [" not in card


def test_other_classes_than_the_recipes_are_recorded_by_name() -> None:
    mine = drawn_glyphs(RECIPE, 6)
    *_, last = meta_train(
        RECIPE.replace(data=DataSource(name="omniglot", split="paper")), TaskSampler(data=mine, n_way=5, k_shot=3)
    )
    found = last.initialization.recipe.data
    assert (found.name, found.split, found.own) == ("glyphs", "own", OwnClasses(train=mine.names))


def test_a_start_with_the_recipes_own_words_for_the_data_continues(animals: Path) -> None:
    data = open_dataset(animals, PIXELS, "train", split="0.6/0.2/0.2")
    tasks = TaskSampler(data=data, n_way=5, k_shot=3)
    first, second = meta_train(RECIPE, tasks)
    start = replace(first.initialization, recipe=RECIPE)
    (again,) = meta_train(RECIPE, tasks, start=start)
    assert again.initialization.sha256 == second.initialization.sha256
    assert again.initialization.recipe == second.initialization.recipe
    other = TaskSampler(data=open_dataset(animals, PIXELS, "train"), n_way=5, k_shot=3)
    with pytest.raises(ConfigError, match="have changed; data_sha256 was"):
        next(meta_train(RECIPE, other, start=start))


def test_the_config_holds_no_path(animals: Path) -> None:
    config = json.loads(trained_on_animals(animals).files()["config.json"])
    assert str(animals.parent) not in json.dumps(config)
