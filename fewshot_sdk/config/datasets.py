"""The table of data sets: splits, parts, the words that cards use for them, and where their reader is.

To add one, add a row here and a module in `data/` with the reader that the row names; it is imported on first use.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Part = Literal["train", "val", "test"]
PARTS: tuple[Part, ...] = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class DatasetRow:
    """One data set.

    splits: the names of its splits into parts, the default first. parts: the parts that have classes.
    read: the function, as `module:name`, a `data.opening.Reader`; or closed: why it cannot be opened.
    about: what it is, by whom, and under which licence. suits: what an initialization trained on it is good for.
    classes: the names of its training classes that one's own data may have, too; empty where that cannot be.
    research: whether its pictures, and what was trained on them here, are for research only.
    """

    splits: tuple[str, ...]
    about: str
    suits: str
    parts: tuple[Part, ...] = ("train", "test")
    read: str = ""
    closed: str = ""
    classes: tuple[str, ...] = ()
    research: bool = False


# Caltech-101 less ten classes, by the names of its folders
_CALTECH = """
    Faces_easy Leopards Motorbikes accordion airplanes ant barrel bass beaver binocular bonsai brain
    brontosaurus buddha camera cannon car_side ceiling_fan cellphone chandelier cougar_body cougar_face crayfish
    crocodile crocodile_head cup dalmatian dolphin dragonfly electric_guitar emu euphonium ewer flamingo
    flamingo_head garfield gerenuk gramophone grand_piano hawksbill hedgehog helicopter ibis inline_skate
    joshua_tree kangaroo ketch lamp laptop llama lobster lotus mandolin mayfly menorah metronome minaret
    nautilus octopus okapi pagoda panda pigeon platypus pyramid revolver rhino rooster saxophone schooner
    scissors scorpion sea_horse snoopy soccer_ball stapler starfish stegosaurus stop_sign strawberry sunflower
    tick trilobite umbrella watch water_lilly wheelchair wild_cat windsor_chair yin_yang
"""
_DRAWN = "expect it to tell apart things drawn in dark strokes on a light ground,\nnot colour photographs"

DATASETS: dict[str, DatasetRow] = {
    "omniglot": DatasetRow(
        splits=("paper", "official"),
        read="fewshot_sdk.data.omniglot:omniglot",
        about="Omniglot (Lake, Salakhutdinov, Tenenbaum 2015; MIT licence)",
        suits=_DRAWN,
    ),
    "mini-imagenet": DatasetRow(
        splits=("ravi",),
        parts=("train", "val", "test"),
        read="fewshot_sdk.data.mini_imagenet:read",
        about="mini-ImageNet (Vinyals et al. 2016; photographs from ImageNet, for research)",
        suits="expect it to tell apart small photographs of single things, and not well:\nsee the results",
        research=True,
    ),
    "glyphs": DatasetRow(
        splits=("seeded",),
        read="fewshot_sdk.data.glyphs:read",
        about="procedural glyphs, drawn by the library itself",
        suits=_DRAWN,
    ),
    "photo-domains": DatasetRow(
        splits=("training",),
        closed="photo-domains is made of several data sets: examples/meta_train_photo.py trains on your copies of "
        "them; name other data (--data)",
        about="photographs of 90 kinds of objects in several styles (Caltech-101 less ten classes: Li, Andreeto, "
        "Ranzato, Perona 2022, CC BY 4.0), Omniglot (Lake, Salakhutdinov, Tenenbaum 2015, MIT licence) and made-up "
        "textures",
        suits="expect it to tell apart photographs of things as people take them, and\nmost drawings and surfaces",
        classes=tuple(_CALTECH.split()),
    ),
    "imagenet": DatasetRow(
        splits=("pretrained",),
        closed="ImageNet is not available; name other data (--data), or, to train on from published weights, give "
        "`train_to_folder` a recipe on other data and the weights",
        about="ImageNet-1k (Russakovsky et al. 2015), on which its weights were trained by their authors",
        suits="expect it to tell apart photographs of things as people take them;\nfewer pictures suffice the more a "
        "class looks like one of the 1,000 kinds of things there",
    ),
    "timm": DatasetRow(
        splits=("pretrained",),
        closed="the data that a timm model was trained on is not available; name other data (--data)",
        about="what the timm model was trained on: see its own card",
        suits="what that suits it for, the model's own card says",
    ),
    "embeddings": DatasetRow(
        splits=("given",),
        closed="the data that features were computed from is not available; name other data (--data)",
        about="whatever the network that computed the features was trained on",
        suits="what that suits it for, that network's own card says",
    ),
}
