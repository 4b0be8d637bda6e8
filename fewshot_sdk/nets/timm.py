"""A model of the timm library as the body of a network: images to features, each image judged alone.

The running statistics of its batch norms are folded into their scales and shifts, so everything it has learned is a
named parameter. It always stays in evaluation mode, so nothing depends on the other images of a batch.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Self

import torch
from torch import Tensor, nn

from fewshot_sdk.config.backbones import Timm
from fewshot_sdk.config.recipe import Preprocessing
from fewshot_sdk.errors import ConfigError, MissingExtra
from fewshot_sdk.nets.summaries import EvenLength

_OPERATORS = ("nms", "qnms")


class TimmBody(nn.Module):
    """Features of a timm model, float (n, channels, height, width) -> (n, n_features); never in training mode."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        for module in model.modules():
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):
                _fold(module)
            if hasattr(module, "fused_attn"):
                setattr(module, "fused_attn", False)  # noqa: B010 - the fused operator has no second derivative
            for name, buffer in list(module.named_buffers(recurse=False)):  # constants made by the constructor
                module.register_buffer(name, buffer, persistent=False)
        self.eval()

    def forward(self, input: Tensor) -> Tensor:
        """Features before the classifier."""
        output: Tensor = self.model(input)
        return output

    def train(self, mode: bool = True) -> Self:  # noqa: ARG002
        """Stay in evaluation mode, whatever `mode` is: there is no dropout."""
        return super().train(False)


def layers(backbone: Timm, preprocessing: Preprocessing, *, norm: bool) -> tuple[OrderedDict[str, nn.Module], int]:  # noqa: ARG001
    """`body` and `even`, and the number of features; see `timm_body`."""
    body, n_features = timm_body(backbone, preprocessing)
    return OrderedDict(body=body, even=EvenLength()), n_features


def timm_body(backbone: Timm, preprocessing: Preprocessing) -> tuple[TimmBody, int]:
    """An untrained body for images of that size, and its number of features; PyTorch's generator is not changed.

    Raises MissingExtra without timm, ConfigError for a name that timm does not know or a network it cannot make.
    """
    timm = library()
    if not timm.is_model(backbone.name):
        raise ConfigError(f"timm {timm.__version__} has no model {backbone.name!r}; timm.list_models() has the names")
    config = timm.get_pretrained_cfg(backbone.name)
    fixed = config is not None and config.fixed_input_size
    size = {"img_size": (preprocessing.height, preprocessing.width)} if fixed else {}
    with torch.random.fork_rng(devices=[]):
        try:
            model = timm.create_model(backbone.name, num_classes=0, in_chans=preprocessing.channels, **size)
        except (RuntimeError, TypeError, ValueError, AssertionError) as error:
            raise ConfigError(
                f"timm cannot make {backbone.name} for {preprocessing.height} x {preprocessing.width} pixels and "
                f"{preprocessing.channels} channels: {error}"
            ) from None
    return TimmBody(model), int(getattr(model, "head_hidden_size", None) or model.num_features)


def library() -> Any:
    """The imported timm module. Raises MissingExtra if it, or torchvision, which it needs, cannot be imported.

    The wheels of torchvision on PyPI are built for CUDA: with a CPU build of PyTorch their compiled operators do not
    load, and the import fails at the first operator it describes. timm calls none of them, so declarations suffice.
    """
    try:
        import timm
    except ModuleNotFoundError as error:
        raise MissingExtra(f"timm models need {error.name}; pip install 'fewshot-sdk[timm]'") from None
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        for name in _OPERATORS:
            _declared.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import timm
    return timm


_declared = torch.library.Library("torchvision", "FRAGMENT")


def _fold(norm: nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d) -> None:
    """Fold the running statistics into scale and shift, in place, leaving a mean of 0 and a variance of 1.

    Source: Ioffe and Szegedy 2015, section 3.1.
    """
    mean, variance = norm.running_mean, norm.running_var
    norm.eps, eps, norm.track_running_stats, norm.num_batches_tracked = 0.0, norm.eps, False, None
    weight: Tensor | None = norm.weight
    bias: Tensor | None = norm.bias
    if mean is None or variance is None:
        raise ConfigError("a batch norm without running statistics cannot judge an image alone")
    if mean.is_meta:  # only shapes: arithmetic on them would import PyTorch's compiler
        norm.weight, norm.bias = (nn.Parameter(torch.empty(mean.shape, device="meta")) for _ in range(2))
        return
    with torch.no_grad():
        scale = (variance.double() + eps).rsqrt()
        scale = scale if weight is None else scale * weight
        shift = -mean * scale if bias is None else bias - mean * scale
        norm.weight, norm.bias = nn.Parameter(scale.to(mean.dtype)), nn.Parameter(shift.to(mean.dtype))
    norm.running_mean, norm.running_var = torch.zeros_like(mean), torch.ones_like(variance)
