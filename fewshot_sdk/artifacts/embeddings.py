"""The initialization for features computed elsewhere: their scale, and a head of zeros."""

from __future__ import annotations

import torch

from fewshot_sdk.artifacts.initialization import Initialization
from fewshot_sdk.config.backbones import Embeddings
from fewshot_sdk.config.presets import preset
from fewshot_sdk.config.recipe import DataSource, Rows
from fewshot_sdk.config.records import Provenance
from fewshot_sdk.images.support import SupportSet
from fewshot_sdk.nets.embeddings import scales
from fewshot_sdk.nets.params import LearnerState
from fewshot_sdk.storage.files import sha256
from fewshot_sdk.version import versions

EMBEDDINGS = "embeddings"
_TEMPLATE = "glyphs"  # for settings of gradient steps, which nothing takes here


def for_rows(support: SupportSet, rows: Rows, backbone: Embeddings | None = None) -> Initialization:
    """What `adapt` begins with for a support set of rows: the scale of its numbers.

    Like the normalization of other networks it is the support set's, held-out rows of cross-validation included; their
    labels have no part in it. backbone: with the scaling `none`, numbers stay as they are.
    """
    backbone = backbone or Embeddings()
    template = preset(_TEMPLATE)
    recipe = template.replace(
        preset=EMBEDDINGS,
        data=DataSource(name=EMBEDDINGS, split="given"),
        preprocessing=rows,
        backbone=backbone,
        head="zero",
        inner=template.inner.replace(optimizer="sgd"),
        adaptation=template.adaptation.replace(optimizer="sgd", steps=0),
        meta=template.meta.replace(meta_steps=0),
        pretraining=None,
    )
    made = Provenance(
        command="fewshot adapt",
        seed=0,
        meta_steps_done=0,
        data_sha256=sha256(support.images.tobytes()),
        seconds=0,
        versions=versions(),
    )
    params = scales(torch.from_numpy(support.images).flatten(1), backbone)
    return Initialization(
        recipe=recipe, state=LearnerState(params=params, second_moments={}, updates=0), provenance=made
    )
