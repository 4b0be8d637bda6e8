"""A model of the timm library as the body of a network: pictures to features, each picture judged alone.

The running statistics of its batch norms become part of their scales and shifts, so that all it has learned are
parameters by name, and it stays in evaluation mode whatever is asked: nothing depends on what else is in a batch.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Self

import torch
from torch import Tensor, nn

from fewshot_sdk.config.backbones import Timm
from fewshot_sdk.config.recipe import Preprocessing
from fewshot_sdk.errors import ConfigError, MissingExtra
from fewshot_sdk.nets.residual import EvenLength

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
            for name, buffer in list(module.named_buffers(recurse=False)):  # constants that its constructor makes
                module.register_buffer(name, buffer, persistent=False)
        self.eval()

    def forward(self, input: Tensor) -> Tensor:
        """The features before the classifier."""
        output: Tensor = self.model(input)
        return output

    def train(self, mode: bool = True) -> Self:  # noqa: ARG002
        """As it is: in evaluation mode, in which nothing is dropped at random."""
        return super().train(False)


def layers(backbone: Timm, seen: Preprocessing, *, norm: bool) -> tuple[OrderedDict[str, nn.Module], int]:  # noqa: ARG001
    """`body` and `even`, and the number of features; see `timm_body`."""
    body, n_features = timm_body(backbone, seen)
    return OrderedDict(body=body, even=EvenLength()), n_features


def timm_body(backbone: Timm, seen: Preprocessing) -> tuple[TimmBody, int]:
    """An untrained body for pictures of that size, and its number of features. PyTorch's generator stays as it was.

    Raises MissingExtra without timm, ConfigError for a name that it does not know or a network it cannot make.
    """
    timm = library()
    if not timm.is_model(backbone.name):
        raise ConfigError(f"timm {timm.__version__} has no model {backbone.name!r}; timm.list_models() has the names")
    known = timm.get_pretrained_cfg(backbone.name)
    sized = {"img_size": (seen.height, seen.width)} if known is not None and known.fixed_input_size else {}
    with torch.random.fork_rng(devices=[]):
        try:
            model = timm.create_model(backbone.name, num_classes=0, in_chans=seen.channels, **sized)
        except (RuntimeError, TypeError, ValueError, AssertionError) as error:
            raise ConfigError(
                f"timm cannot make {backbone.name} for {seen.height} x {seen.width} pixels and {seen.channels} "
                f"channels: {error}"
            ) from None
    return TimmBody(model), int(getattr(model, "head_hidden_size", None) or model.num_features)


def library() -> Any:
    """timm, imported. Raises MissingExtra if it, or torchvision, which it is built on, cannot be.

    The wheels of torchvision on PyPI are built for CUDA: beside a CPU build of PyTorch its compiled operators do not
    load, and its import stops at the first that it describes. timm calls none of them, so they are declared.
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
    """Statistics of 0 and 1 that change nothing, in place; scale and shift do what they and the old ones did.

    Source: Ioffe and Szegedy 2015, section 3.1.
    """
    mean, variance = norm.running_mean, norm.running_var
    norm.eps, eps, norm.track_running_stats, norm.num_batches_tracked = 0.0, norm.eps, False, None
    weight: Tensor | None = norm.weight
    bias: Tensor | None = norm.bias
    if mean is None or variance is None:
        raise ConfigError("a batch norm without running statistics cannot judge a picture alone")
    if mean.is_meta:  # shapes alone: arithmetic on them would import PyTorch's compiler
        norm.weight, norm.bias = (nn.Parameter(torch.empty(mean.shape, device="meta")) for _ in range(2))
        return
    with torch.no_grad():
        scale = (variance.double() + eps).rsqrt()
        scale = scale if weight is None else scale * weight
        shift = -mean * scale if bias is None else bias - mean * scale
        norm.weight, norm.bias = nn.Parameter(scale.to(mean.dtype)), nn.Parameter(shift.to(mean.dtype))
    norm.running_mean, norm.running_var = torch.zeros_like(mean), torch.ones_like(variance)
