"""Networks from their settings: uint8 images (n, height, width, channels) in, logits (n, n_way) out."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewshot_sdk.config.backbones import GROUP, judges_alone
from fewshot_sdk.config.recipe import Backbone, Conv4, Mlp, Preprocessing, Residual, Timm
from fewshot_sdk.nets.params import Params
from fewshot_sdk.nets.residual import Block, EvenLength, Statistics, n_features, residual_layers
from fewshot_sdk.nets.timm import timm_body

HEAD = ("head.weight", "head.bias")


class PixelInput(nn.Module):
    """(pixel / 255 - mean) / std: uint8 (n, h, w, c) -> float (n, c, h, w), stored channels last."""

    def __init__(self, settings: Preprocessing) -> None:
        super().__init__()
        self.settings = settings
        values = {name: torch.tensor(getattr(settings, name)).view(1, -1, 1, 1) for name in ("mean", "std")}
        self.register_buffer("mean", values["mean"], persistent=False)
        self.register_buffer("std", values["std"], persistent=False)
        self.mean: Tensor
        self.std: Tensor

    def forward(self, images: Tensor) -> Tensor:
        """The network's input."""
        return self.normalized(images.permute(0, 3, 1, 2).to(self.mean.dtype) / 255)

    def normalized(self, pixels: Tensor) -> Tensor:
        """The same of pixels from 0 to 1, float (n, c, h, w)."""
        return (pixels - self.mean) / self.std


class SameConv(nn.Conv2d):
    """A 3x3 convolution with TensorFlow's "same" padding: at stride 2 and even sizes the odd row
    and column of zeros lie at the bottom and right. Source: TensorFlow, `tf.nn.conv2d`.
    """

    def __init__(self, channels: int, filters: int, stride: int) -> None:
        super().__init__(channels, filters, 3, stride)

    def forward(self, input: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, filters, ceil(h / stride), ceil(w / stride))."""
        sides: list[int] = []
        for size, stride in zip(input.shape[:1:-1], self.stride, strict=True):
            missing = max((-(-size // stride) - 1) * stride + 3 - size, 0)
            sides += [missing // 2, missing - missing // 2]
        return super().forward(F.pad(input, sides))


class BatchNorm(nn.Module):
    """Batch norm that in training mode uses the batch it is given, and keeps no running average.

    In evaluation mode it uses `mean` and `var`, which are set once from a support set.
    """

    def __init__(self, channels: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.epsilon = epsilon
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("var", torch.ones(channels))
        self.mean: Tensor
        self.var: Tensor

    def forward(self, input: Tensor) -> Tensor:
        """(n, c, h, w) or (n, c), each channel brought to mean `bias` and standard deviation `weight`."""
        mean, var = (None, None) if self.training else (self.mean, self.var)
        return F.batch_norm(input, mean, var, self.weight, self.bias, self.training, 0.0, self.epsilon)


class Network(nn.Sequential):
    """The layers in order, and the settings that they were made from."""

    def __init__(
        self, layers: OrderedDict[str, nn.Module], backbone: Backbone, preprocessing: Preprocessing, n_way: int
    ) -> None:
        super().__init__(layers)
        self.backbone, self.preprocessing, self.n_way = backbone, preprocessing, n_way

    def forward(self, input: Tensor) -> Tensor:
        """uint8 (n, height, width, channels) -> logits (n, n_way)."""
        blocks: list[Tensor] = []
        for layer in self:
            input = layer(blocks[-2:] if isinstance(layer, Statistics) else input)
            if isinstance(layer, Block):
                blocks.append(input)
        return input

    def before_head(self) -> Network:
        """The same layers, without the head: to features (n, n_features)."""
        layers = OrderedDict((name, layer) for name, layer in self.named_children() if name != "head")
        return Network(layers, self.backbone, self.preprocessing, self.n_way)


def build_network(backbone: Backbone, preprocessing: Preprocessing, n_way: int, *, norm: bool = False) -> Network:
    """An untrained network, in training mode: `pixels`, the backbone's layers, `head`.

    norm: a residual network as it is pre-trained, with batch norm after each convolution.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(pixels=PixelInput(preprocessing))
    if isinstance(backbone, Residual):
        layers |= residual_layers(backbone, preprocessing.channels, norm=norm)
        features = n_features(backbone)
    elif isinstance(backbone, Timm):
        layers["body"], features = timm_body(backbone, preprocessing)
        layers["even"] = EvenLength()
    elif isinstance(backbone, Mlp):
        layers |= _mlp_layers(backbone, preprocessing.height * preprocessing.width * preprocessing.channels)
        features = backbone.widths[-1]
    else:
        layers |= _conv4_layers(backbone, preprocessing.channels)
        height, width = (-(-side // 16) for side in (preprocessing.height, preprocessing.width))
        features = backbone.filters * height * width
    layers["head"] = nn.Linear(features, n_way)
    return Network(layers, backbone, preprocessing, n_way)


def _conv4_layers(backbone: Conv4, channels: int) -> OrderedDict[str, nn.Module]:
    """`conv1`, `norm1`, ... `norm4`, `flat`.

    Source: Nichol et al. 2018, section 6, after Vinyals et al. 2016; `models.py` of the reference implementation.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i in range(1, 5):
        layers[f"conv{i}"] = SameConv(channels, backbone.filters, 2 if backbone.downsample == "stride" else 1)
        layers |= _norm(i, backbone.filters, backbone)
        if backbone.downsample == "pool":
            layers[f"pool{i}"] = nn.MaxPool2d(2, ceil_mode=True)
        layers[f"relu{i}"] = nn.ReLU()
        channels = backbone.filters
    layers["flat"] = nn.Flatten()
    return layers


def _mlp_layers(backbone: Mlp, inputs: int) -> OrderedDict[str, nn.Module]:
    """`flat`, `hidden1`, `norm1`, `relu1`, ...; a batch norm takes the place of the bias before it."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(flat=nn.Flatten())
    for i, width in enumerate(backbone.widths, 1):
        layers[f"hidden{i}"] = nn.Linear(inputs, width, bias=judges_alone(backbone))
        layers |= _norm(i, width, backbone)
        layers[f"relu{i}"] = nn.ReLU()
        inputs = width
    return layers


def _norm(i: int, channels: int, backbone: Conv4 | Mlp) -> OrderedDict[str, nn.Module]:
    if backbone.norm == "none":
        return OrderedDict()
    if backbone.norm == "group":
        return OrderedDict({f"norm{i}": nn.GroupNorm(channels // GROUP, channels, backbone.norm_epsilon)})
    return OrderedDict({f"norm{i}": BatchNorm(channels, backbone.norm_epsilon)})


def random_params(network: nn.Module, seed: int) -> Params:
    """Fresh weights: Glorot uniform kernels, zero biases, norms that do nothing yet.

    A pure function of the network's shapes and `seed`.  Source: the reference implementation.
    """
    generator = torch.Generator().manual_seed(seed)
    params = {name: tensor.detach().clone() for name, tensor in network.named_parameters()}
    for name, tensor in params.items():
        if tensor.dim() > 1:
            nn.init.xavier_uniform_(tensor, generator=generator)
        elif name.endswith("bias"):
            nn.init.zeros_(tensor)
    return params


def norm_statistics(network: nn.Module, params: Params, images: Tensor) -> Params:
    """Each batch norm's mean and (biased) variance over `images`: buffer name -> (channels,).

    With these as buffers the network in evaluation mode gives on `images` what it gives in
    training mode, and each further image is judged alone.
    """
    found: Params = {}
    hooks = [
        module.register_forward_pre_hook(partial(_record, found, f"{name}."))
        for name, module in network.named_modules()
        if isinstance(module, BatchNorm)
    ]
    if not hooks:
        return {}
    try:
        with torch.no_grad():
            torch.func.functional_call(network, params, (images,))
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _record(found: Params, prefix: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:  # noqa: ARG001
    (input,) = inputs
    others = [dimension for dimension in range(input.dim()) if dimension != 1]
    found[f"{prefix}mean"] = input.mean(others)
    found[f"{prefix}var"] = input.var(others, correction=0)
