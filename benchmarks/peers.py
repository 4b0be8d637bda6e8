"""What one would otherwise use for Reptile's outer step, each in its fastest form known to us, on one thread.

A peer is a function of the recipe and a type of numbers that returns its outer step, whose signature is that of
`usual_step`.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from itertools import count, islice
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call, grad, vmap

from benchmarks.usual_loop import Stream, usual_step
from fewshot_sdk.artifacts.initialization import Initialization
from fewshot_sdk.config.recipe import Arithmetic, Recipe
from fewshot_sdk.data.tasks import TaskSampler, mini_batches
from fewshot_sdk.engine.compiler import SWITCH, made_with
from fewshot_sdk.engine.workers import keep_freed_memory
from fewshot_sdk.errors import FewshotError
from fewshot_sdk.meta.training import meta_train
from fewshot_sdk.nets.network import build_network
from fewshot_sdk.nets.params import LearnerState, Params

OuterStep = Callable[[Recipe, TaskSampler, LearnerState, int], LearnerState]
InnerStep = Callable[[Params, Params, Tensor, Tensor, Tensor], tuple[Params, Params]]  # see `inner_step`
OURS: dict[str, tuple[Arithmetic, bool]] = {  # precision, and whether the C code may run
    "ours": ("float32", True),
    "ours, bfloat16": ("bfloat16", True),
    "ours without a compiler": ("float32", False),
}
CHECKED = 8  # outer steps whose weights are compared
LARGEST, ROUNDED = 1e-5, 1e-2  # difference of a weight from one outer step in float64: in float32, in bfloat16


def inner_step(recipe: Recipe, dtype: torch.dtype) -> InnerStep:
    """A step of Adam with beta1 = 0 as a pure function, of the weights, second moments, images, labels and `unbias`."""
    network, inner = build_network(recipe.backbone, recipe.preprocessing, recipe.meta.n_way).to(dtype), recipe.inner

    def loss(params: Params, images: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(network, params, (images,)), labels)

    def step(params: Params, moments: Params, images: Tensor, labels: Tensor, unbias: Tensor) -> tuple[Params, Params]:
        grads = grad(loss)(params, images, labels)
        found = {name: inner.beta2 * moments[name] + (1 - inner.beta2) * g * g for name, g in grads.items()}
        moved = {
            name: params[name] - inner.learning_rate * g / (found[name].sqrt() / unbias + inner.epsilon)
            for name, g in grads.items()
        }
        return moved, found

    return step


def drawn(recipe: Recipe, tasks: TaskSampler, done: int) -> tuple[Tensor, Tensor]:
    """Images and labels of an outer step, (tasks, steps, batch_size, ...)."""
    meta, inner = recipe.meta, recipe.inner
    found = [tasks.task(done * meta.tasks_per_step + i) for i in range(meta.tasks_per_step)]
    rows = [mini_batches(len(task.support), inner.batch_size, inner.steps, task.seed) for task in found]
    images = [task.support[batches] for task, batches in zip(found, rows, strict=True)]
    return torch.stack(images), torch.stack([t.support_labels[b] for t, b in zip(found, rows, strict=True)])


def unbiases(recipe: Recipe, updates: int) -> Tensor:
    """The roots of Adam's bias corrections in the inner steps after so many updates, (steps,)."""
    later = torch.arange(updates + 1, updates + recipe.inner.steps + 1, dtype=torch.float64)
    return (1 - recipe.inner.beta2**later).sqrt().float()


def moved(recipe: Recipe, state: LearnerState, ends: Params, moments: Params, done: int) -> LearnerState:
    """The state moved towards the mean of the tasks' ends, which are stacked, as are their second moments."""
    size = 1 - done / recipe.meta.meta_steps
    return LearnerState(
        params={name: tensor.lerp(ends[name].mean(0), size) for name, tensor in state.params.items()},
        second_moments={name: tensor.mean(0) for name, tensor in moments.items()},
        updates=state.updates + recipe.inner.steps,
    )


def eager(_: Recipe, dtype: torch.dtype = torch.float32) -> OuterStep:
    """The usual loop."""
    return partial(usual_step, dtype=dtype)


def one_by_one(recipe: Recipe, dtype: torch.dtype = torch.float32) -> OuterStep:
    """torch.compile of the inner step, for one task after the other."""
    step = torch.compile(inner_step(recipe, dtype), dynamic=False)

    def outer(recipe: Recipe, tasks: TaskSampler, state: LearnerState, done: int) -> LearnerState:
        each: list[tuple[Params, Params]] = []
        for images, labels in zip(*drawn(recipe, tasks, done), strict=True):
            params, moments = state.params, state.second_moments
            for now in zip(images, labels, unbiases(recipe, state.updates), strict=True):
                params, moments = step(params, moments, *now)
            each.append((params, moments))
        ends, moments = ({name: torch.stack([e[part][name] for e in each]) for name in state.params} for part in (0, 1))
        return moved(recipe, state, ends, moments, done)

    return outer


def together(recipe: Recipe, dtype: torch.dtype = torch.float32, compiled: bool = False) -> OuterStep:
    """torch.func.vmap of the inner step over the tasks; compiled: then torch.compile of that."""
    step = vmap(inner_step(recipe, dtype), in_dims=(0, 0, 0, 0, None))
    if compiled:
        step = torch.compile(step, dynamic=False)

    def outer(recipe: Recipe, tasks: TaskSampler, state: LearnerState, done: int) -> LearnerState:
        images, labels = drawn(recipe, tasks, done)
        params, moments = (
            {name: tensor.expand(len(images), *tensor.shape).contiguous() for name, tensor in part.items()}
            for part in (state.params, state.second_moments)
        )
        for k, unbias in enumerate(unbiases(recipe, state.updates)):
            params, moments = step(params, moments, images[:, k], labels[:, k], unbias)
        return moved(recipe, state, params, moments, done)

    return outer


def together_compiled(recipe: Recipe, dtype: torch.dtype = torch.float32) -> OuterStep:
    """torch.compile of vmap."""
    return together(recipe, dtype, compiled=True)


def jax_mapped(recipe: Recipe) -> OuterStep:
    """JAX: jit of `lax.map` over the tasks."""
    return cast("OuterStep", import_module("benchmarks.jax_peer").outer_step(recipe, side_by_side=False))


def jax_together(recipe: Recipe) -> OuterStep:
    """JAX: jit of `vmap` over the tasks."""
    return cast("OuterStep", import_module("benchmarks.jax_peer").outer_step(recipe, side_by_side=True))


PEERS: dict[str, Callable[..., OuterStep]] = {
    "PyTorch, the usual loop": eager,
    "PyTorch, vmap over tasks": together,
    "torch.compile of the step": one_by_one,
    "torch.compile of vmap": together_compiled,
    "JAX, jit of lax.map": jax_mapped,
    "JAX, jit of vmap": jax_together,
}


def present() -> list[str]:
    """The names of ours and of the peers that are installed here."""
    return [*OURS, *(name for name in PEERS if not name.startswith("JAX") or find_spec("jax"))]


def largest_difference(ours: Params, theirs: Params) -> float:
    """The largest difference of a weight, without biases before a batch norm, whose gradients are rounding errors."""
    names = [name for name in ours if not (name.startswith("conv") and name.endswith("bias"))]
    return max(float((ours[name] - theirs[name]).abs().max()) for name in names)


def exact_ends(start: Initialization, tasks: TaskSampler) -> list[Params]:
    """The weights in float64 after each of the first outer steps, of few inner steps, if each begins at the start."""
    recipe = _short(start.recipe)
    return [usual_step(recipe, tasks, start.state, done, torch.float64).params for done in range(CHECKED)]


def _short(recipe: Recipe) -> Recipe:
    return recipe.replace(inner=recipe.inner.replace(steps=2))


def costs(
    name: str, stream: Stream, start: Initialization, expected: Sequence[Params]
) -> Callable[[int], tuple[float, float]]:
    """A function that takes the next n outer steps and returns their wall and processor seconds.

    expected: of `exact_ends`. Raises FewshotError if none of them is reached: rounding at the kink of a ReLU may change
    a step, in any program, but not all of them.
    """
    _on_one_thread(name)
    tasks = stream(start.recipe)
    states = _ours(name, tasks) if name in OURS else _theirs(PEERS[name](start.recipe), tasks)
    differences = []
    for done, theirs in enumerate(expected):
        made = start.provenance.replace(meta_steps_done=done)
        at = replace(start, recipe=_short(start.recipe), provenance=made)
        differences.append(largest_difference(next(states(at)).params, theirs))
    if not min(differences) < (ROUNDED if name in OURS and OURS[name][0] == "bfloat16" else LARGEST):
        raise FewshotError(f"after one outer step a weight differs by {min(differences):.2g}")
    steps = states(start)

    def cost(n: int) -> tuple[float, float]:
        wall, processor = time.perf_counter(), time.process_time()
        deque(islice(steps, n), maxlen=0)
        return time.perf_counter() - wall, time.process_time() - processor

    return cost


def _ours(name: str, tasks: TaskSampler) -> Callable[[Initialization], Iterator[LearnerState]]:
    precision, _ = OURS[name]
    keep_freed_memory()  # as `fewshot meta-train` does

    def states(start: Initialization) -> Iterator[LearnerState]:
        recipe = start.recipe.replace(inner=start.recipe.inner.replace(precision=precision))
        start = replace(start, recipe=recipe, provenance=start.provenance.replace(versions=made_with()))
        return (step.initialization.state for step in meta_train(recipe, tasks, start=start))

    return states


def _theirs(outer: OuterStep, tasks: TaskSampler) -> Callable[[Initialization], Iterator[LearnerState]]:
    def states(start: Initialization) -> Iterator[LearnerState]:
        state = start.state
        for done in count(start.provenance.meta_steps_done):
            state = outer(start.recipe, tasks, state, done)
            yield state

    return states


def _on_one_thread(name: str) -> None:
    if name in OURS and not OURS[name][1]:
        os.environ[SWITCH] = "0"
    torch.set_num_threads(1)
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    os.environ["JAX_PLATFORMS"] = "cpu"
