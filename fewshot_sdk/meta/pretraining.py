"""Supervised pre-training: the whole network learns to classify all training classes, epoch by epoch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewshot_sdk.artifacts.initialization import Initialization, fresh
from fewshot_sdk.config.backbones import BACKBONES
from fewshot_sdk.config.recipe import Config, Pretraining, Recipe
from fewshot_sdk.config.recipe_files import differences
from fewshot_sdk.config.recipe_settings import flat, table_of
from fewshot_sdk.config.records import Provenance
from fewshot_sdk.data.augmentation import photographed, redrawn
from fewshot_sdk.data.class_images import ClassImages
from fewshot_sdk.engine.processors import multiplies_bfloat16
from fewshot_sdk.errors import BundleError, ConfigError, TrainingDiverged
from fewshot_sdk.nets.network import HEAD, Network, PixelInput, build_network
from fewshot_sdk.nets.params import Params, check_alike
from fewshot_sdk.storage.bundles import read_archive, write_archive
from fewshot_sdk.storage.tensors import from_safetensors, to_safetensors
from fewshot_sdk.tables import referred

WARM_UP, _MOMENTUM = 0.1, "momentum."
_AUGMENTATIONS = {"photographs": photographed, "drawings": redrawn}
Start = Callable[[Network, int], None]  # draws fresh weights by a seed, in place
End = Callable[[Network], Params]  # the trained weights, by their names in the network built with norm=False
SETTINGS, TENSORS = "config.json", "state.safetensors"


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """The state of pre-training after `done` epochs.

    tensors: the network's state dict, norms included, and each weight's momentum.
    loss: mean cross-entropy over the epoch, in nats, with smoothed labels.
    """

    done: int
    epochs: int
    loss: float
    seconds: float
    tensors: Params


class Settings(Config):
    """The settings and progress in a checkpoint of pre-training."""

    recipe: Recipe
    seed: int
    data_sha256: str
    done: int
    loss: float
    seconds: float


def pretrain(
    recipe: Recipe, data: ClassImages, *, seed: int, threads: int, start: Epoch | None = None
) -> Iterator[Epoch]:
    """Yields each epoch up to `recipe.pretraining.epochs`; `start`, an earlier epoch, continues to the same bits.

    Convolutions run in bfloat16 where the processor has it. Same recipe, data, seed and threads: same bits.
    Raises ConfigError if the recipe has no pre-training, TrainingDiverged if the loss is no longer finite.
    """
    settings = recipe.pretraining
    if settings is None:
        raise ConfigError(f"{recipe.preset} is not pre-trained")
    network = build_network(recipe.backbone, recipe.preprocessing, data.n_classes, norm=True)
    draw = cast("Start", referred(BACKBONES[recipe.backbone.kind].pretraining_start))
    draw(network, seed)
    for name in HEAD:
        nn.init.zeros_(network.get_parameter(name))
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    done, seconds = 0, 0.0
    if start is not None:
        done, seconds = start.done, start.seconds
        network.load_state_dict(_of_the_network(start.tensors))
    named = dict(network.named_parameters())
    groups = [
        {"params": [p for p in named.values() if p.dim() > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in named.values() if p.dim() <= 1], "weight_decay": 0.0},
    ]
    sgd = torch.optim.SGD(groups, lr=settings.learning_rate, momentum=0.9, nesterov=True)
    if start is not None:
        for name, parameter in named.items():
            sgd.state[parameter]["momentum_buffer"] = start.tensors[_MOMENTUM + name].clone()
    while done < settings.epochs:
        began = time.monotonic()
        with _threads(threads):
            loss = _epoch(network, sgd, data, settings, (seed, done))
        done, seconds = done + 1, seconds + time.monotonic() - began
        if not np.isfinite(loss):
            raise TrainingDiverged(f"the loss of pre-training is not finite in epoch {done}; try a lower learning rate")
        moving = {_MOMENTUM + name: sgd.state[parameter]["momentum_buffer"] for name, parameter in named.items()}
        tensors = {name: tensor.detach().clone(memory_format=torch.contiguous_format)
                   for name, tensor in (network.state_dict() | moving).items()}  # fmt: skip
        yield Epoch(done=done, epochs=settings.epochs, loss=loss, seconds=seconds, tensors=tensors)


def pretrained(recipe: Recipe, epoch: Epoch, n_classes: int, provenance: Provenance) -> Initialization:
    """The initialization after an epoch, before any meta-training; norms of a residual network are folded in."""
    network = build_network(recipe.backbone, recipe.preprocessing, n_classes, norm=True)
    network.load_state_dict(_of_the_network(epoch.tensors))
    learned = cast("End", referred(BACKBONES[recipe.backbone.kind].pretraining_end))
    params = {name: tensor for name, tensor in learned(network).items() if name not in HEAD}
    init = fresh(recipe, provenance.seed, provenance.replace(seconds=round(epoch.seconds, 1)))
    kept = {name: params.get(name, tensor) for name, tensor in init.state.params.items()}
    return replace(init, state=replace(init.state, params=kept))


def rate_at(step: int, steps: int, settings: Pretraining) -> float:
    """The learning rate of a step: up linearly over the first tenth, then down to 0 along half a cosine.

    Source: Goyal et al. 2017; Loshchilov and Hutter 2017.
    """
    warm = max(int(WARM_UP * steps), 1)
    if step < warm:
        return settings.learning_rate * (step + 1) / warm
    return settings.learning_rate * 0.5 * (1 + float(np.cos(np.pi * (step - warm) / max(steps - warm, 1))))


def save_pretraining(epoch: Epoch, recipe: Recipe, seed: int, data: ClassImages, path: Path) -> Path:
    """Write unfinished pre-training to one file, replacing an older one. Raises SaveError."""
    settings = Settings(
        recipe=recipe, seed=seed, data_sha256=data.digest, done=epoch.done, loss=epoch.loss, seconds=epoch.seconds
    )
    contents = {SETTINGS: settings.model_dump_json().encode(), TENSORS: to_safetensors(epoch.tensors)}
    return write_archive(path, contents)


def settings_in(path: Path) -> Settings:
    """The settings of the unfinished pre-training in a file. Raises BundleError."""
    return _settings(read_archive(path), path)


def _settings(files: Mapping[str, bytes], path: Path) -> Settings:
    if not {SETTINGS, TENSORS} <= files.keys():
        raise BundleError(f"{path} does not hold unfinished pre-training; remove it and start again")
    return Settings.from_json(files[SETTINGS])


def load_pretraining(path: Path, recipe: Recipe, seed: int, data: ClassImages) -> Epoch:
    """The unfinished pre-training in a file.

    Raises BundleError, ParamsMismatch, or ConfigError if its recipe, seed or data are others.
    """
    files = read_archive(path)
    found = _settings(files, path)
    was = {**flat(table_of(found.recipe)), "seed": found.seed, "data_sha256": found.data_sha256}
    if differing := differences(was, {**flat(table_of(recipe)), "seed": seed, "data_sha256": data.digest}):
        raise ConfigError(
            f"{path} holds pre-training with other settings: {'; '.join(differing)}; resume it with the same settings, "
            "or remove it and start again"
        )
    assert recipe.pretraining is not None  # as it was in the file's
    with torch.device("meta"):
        network = build_network(recipe.backbone, recipe.preprocessing, data.n_classes, norm=True)
    expected = network.state_dict() | {_MOMENTUM + name: t.detach() for name, t in network.named_parameters()}
    tensors = from_safetensors(files[TENSORS], str(path))
    check_alike(tensors, expected, str(path))
    return Epoch(
        done=found.done, epochs=recipe.pretraining.epochs, loss=found.loss, seconds=found.seconds, tensors=tensors
    )


def _of_the_network(tensors: Params) -> Params:
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(_MOMENTUM)}


def _epoch(
    network: Network, sgd: torch.optim.SGD, data: ClassImages, settings: Pretraining, seed: tuple[int, int]
) -> float:
    """One pass over all images, in an order and with augmentation drawn from (seed, epoch); the mean loss."""
    rng = np.random.default_rng((*seed, 3))
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    order = rng.permutation([(c, i) for c in range(data.n_classes) for i in range(data.n_images(c))])
    per_epoch = max(len(order) // settings.batch_size, 1)
    losses = 0.0
    network.train()
    for step, batch in enumerate(np.array_split(order[: per_epoch * settings.batch_size], per_epoch)):
        images = torch.from_numpy(np.concatenate([data.take(int(c), [i]) for c, i in batch]))
        for group in sgd.param_groups:
            group["lr"] = rate_at(seed[1] * per_epoch + step, settings.epochs * per_epoch, settings)
        logits = _logits(network, _AUGMENTATIONS[settings.pictures](images, generator))
        loss = F.cross_entropy(logits, torch.from_numpy(batch[:, 0]), label_smoothing=settings.label_smoothing)
        sgd.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        sgd.step()
        losses += loss.item()
    return losses / per_epoch


def _logits(network: Network, pixels: Tensor) -> Tensor:
    """Logits float32 (n, n_way) of pixels from 0 to 1, float (n, c, h, w)."""
    pixel_input, *layers = network
    assert isinstance(pixel_input, PixelInput)
    hidden = pixel_input.normalized(pixels).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=multiplies_bfloat16()):
        for layer in layers:
            hidden = layer(hidden)
    return hidden.float()


@contextmanager
def _threads(n: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)
