"""Reptile's outer step in JAX, for Conv4 with stride 2. Needs `pip install "jax[cpu]"`.

Convolutions are patches and one product: XLA's own convolution takes several times as long on a processor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import lax

from benchmarks.peers import OuterStep, drawn, moved, unbiases
from fewshot_sdk.config.backbones import Conv4
from fewshot_sdk.config.recipe import Recipe
from fewshot_sdk.data.tasks import TaskSampler
from fewshot_sdk.nets.padding import same_padding
from fewshot_sdk.nets.params import LearnerState

Arrays = dict[str, Any]


def logits(params: Arrays, images: Any, epsilon: float) -> Any:
    """Conv4's logits for images (n, height, width, channels)."""
    x = images
    for i in range(1, 5):
        n, height, width, channels = x.shape
        pads = [(0, 0), *(same_padding(side, 3, 2) for side in (height, width)), (0, 0)]
        x, h, w = jnp.pad(x, pads), -(-height // 2), -(-width // 2)
        taps = [x[:, r : r + 2 * h - 1 : 2, c : c + 2 * w - 1 : 2] for r in range(3) for c in range(3)]
        patches = jnp.concatenate(taps, axis=3).reshape(-1, 9 * channels)
        kernel = params[f"conv{i}.weight"].transpose(2, 3, 1, 0).reshape(9 * channels, -1)
        y = patches @ kernel + params[f"conv{i}.bias"]
        centred = y - y.mean(0)
        scale = params[f"norm{i}.weight"] / jnp.sqrt((centred**2).mean(0) + epsilon)
        x = jax.nn.relu(centred * scale + params[f"norm{i}.bias"]).reshape(n, h, w, -1)
    features = x.transpose(0, 3, 1, 2).reshape(len(x), -1)
    return features @ params["head.weight"].T + params["head.bias"]


def outer_step(recipe: Recipe, side_by_side: bool) -> OuterStep:
    """The outer step: jit of the inner loop on one task, by vmap over the tasks side by side, or by `lax.map`."""
    inner, pixels = recipe.inner, recipe.preprocessing
    assert isinstance(recipe.backbone, Conv4)
    epsilon = recipe.backbone.norm_epsilon
    mean, std = (jnp.array(np.array(getattr(pixels, name), np.float32)) for name in ("mean", "std"))

    def loss(params: Arrays, images: Any, labels: Any) -> Any:
        x = (images.astype(jnp.float32) / 255 - mean) / std
        log = jax.nn.log_softmax(logits(params, x, epsilon))
        return -jnp.take_along_axis(log, labels[:, None], axis=1).mean()

    def one_task(params: Arrays, moments: Arrays, images: Any, labels: Any, unbias: Any) -> tuple[Arrays, Arrays]:
        def step(at: tuple[Arrays, Arrays], now: tuple[Any, Any, Any]) -> tuple[tuple[Arrays, Arrays], None]:
            params, moments = at
            grads = jax.grad(loss)(params, now[0], now[1])
            moments = {name: inner.beta2 * moments[name] + (1 - inner.beta2) * g * g for name, g in grads.items()}
            params = {
                name: params[name] - inner.learning_rate * g / (jnp.sqrt(moments[name]) / now[2] + inner.epsilon)
                for name, g in grads.items()
            }
            return (params, moments), None

        (params, moments), _ = lax.scan(step, (params, moments), (images, labels, unbias))
        return params, moments

    def all_tasks(params: Arrays, moments: Arrays, images: Any, labels: Any, unbias: Any) -> Any:
        if side_by_side:
            return jax.vmap(one_task, in_axes=(None, None, 0, 0, None))(params, moments, images, labels, unbias)
        return lax.map(lambda task: one_task(params, moments, task[0], task[1], unbias), (images, labels))

    compiled = cast("Callable[..., tuple[Arrays, Arrays]]", jax.jit(all_tasks))

    def outer(recipe: Recipe, tasks: TaskSampler, state: LearnerState, done: int) -> LearnerState:
        parts = [{name: t.numpy() for name, t in part.items()} for part in (state.params, state.second_moments)]
        images, labels = drawn(recipe, tasks, done)
        found = compiled(
            *parts, images.numpy(), labels.numpy().astype(np.int32), unbiases(recipe, state.updates).numpy()
        )
        ends, moments = ({n: torch.from_numpy(np.array(a)) for n, a in part.items()} for part in found)
        return moved(recipe, state, ends, moments, done)

    return outer
