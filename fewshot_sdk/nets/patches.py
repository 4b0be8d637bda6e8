"""The features of a picture's patches: outputs of a network's middle stages, and how far they are from a memory.

Source: Roth et al. 2022 (PatchCore), sections 3.1 and 3.3, but for the distance, which is by angle.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fewshot_sdk.config.backbones import Backbone
from fewshot_sdk.config.inspection import PatchSettings
from fewshot_sdk.config.recipe import Preprocessing
from fewshot_sdk.errors import ConfigError
from fewshot_sdk.nets.network import Network, build_network
from fewshot_sdk.nets.params import Params
from fewshot_sdk.nets.summaries import SHORTEST, Summarized


def patch_network(backbone: Backbone, preprocessing: Preprocessing, settings: PatchSettings) -> Network:
    """The layers up to the last stage that the settings name. Raises ConfigError for a network without such stages."""
    if getattr(backbone, "stages", None) is None or backbone.kind != "efficientnet":
        raise ConfigError(
            f"inspection compares the stages of an EfficientNet such as photo's, found a {backbone.kind} network; "
            "take --init photo"
        )
    children = list(build_network(backbone, preprocessing, 1).named_children())
    ends = [i for i, (_, layer) in enumerate(children) if isinstance(layer, Summarized)]
    if max(settings.stages) > len(ends) - 1 or min(settings.stages) < 1:
        raise ConfigError(f"stages: expected some of 1 to {len(ends) - 1}, found {settings.stages}")
    layers = OrderedDict(children[: ends[max(settings.stages) - 1] + 1])
    return Network(layers, backbone, preprocessing, 1).eval().requires_grad_(False)


def patches(outputs: Sequence[Tensor], settings: PatchSettings) -> Tensor:
    """The patches of pictures, (n, positions, channels), from the outputs of all stages: see `PatchSettings`."""
    wanted = [outputs[stage - 1] for stage in settings.stages]
    sides = max(x.shape[2] for x in wanted), max(x.shape[3] for x in wanted)
    found = []
    for output in wanted:
        x = F.avg_pool2d(output, settings.neighbourhood, 1, settings.neighbourhood // 2, count_include_pad=False)
        if x.shape[2:] != sides:
            x = F.interpolate(x, sides, mode="bilinear", align_corners=False)
        found.append(x.flatten(2).transpose(1, 2))
    return torch.cat(found, 2)


def directions(found: Tensor, parts: Params) -> Tensor:
    """Patches (..., channels), centred, whitened and scaled to length 1. parts: `centre` and `whitening`."""
    return F.normalize((found - parts["centre"]) @ parts["whitening"], dim=-1, eps=SHORTEST)


def distances(found: Tensor, memory: Tensor) -> Tensor:
    """1 minus the cosine to the nearest row of the memory, from 0 to 2: (..., channels), (m, channels) -> (...)."""
    return 1 - (found @ memory.T).amax(-1).clamp(-1, 1)


def scores(found: Tensor, top: int) -> Tensor:
    """The mean of the `top` largest distances of each picture: (n, positions) -> (n,)."""
    return found.topk(min(top, found.shape[1]), 1).values.mean(1)


def grid(backbone: Backbone, preprocessing: Preprocessing, settings: PatchSettings) -> tuple[int, int]:
    """Rows and columns of the patches of a picture."""
    with torch.device("meta"):  # shapes only
        network = patch_network(backbone, preprocessing, settings)
        shape = (1, preprocessing.height, preprocessing.width, preprocessing.channels)
        outputs = network.outputs(torch.zeros(shape, dtype=torch.uint8))
    wanted = [outputs[stage - 1].shape for stage in settings.stages]
    return max(shape[2] for shape in wanted), max(shape[3] for shape in wanted)
