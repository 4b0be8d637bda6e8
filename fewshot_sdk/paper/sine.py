"""The paper's one-dimensional example: fit a sine wave to ten of its points in a few steps.

Source: Nichol et al. 2018, section 2 and figure 1; Finn et al. 2017, section 5.1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from fewshot_sdk.config.recipe import InnerLoop, MetaLoop
from fewshot_sdk.data.waves import wave
from fewshot_sdk.engine.inner_loop import fine_tune, one_thread
from fewshot_sdk.meta.own_networks import meta_train_network
from fewshot_sdk.nets.params import LearnerState, Params
from fewshot_sdk.paper.experiment import Experiment, Numbers, line_of
from fewshot_sdk.paper.figures import SEEDS, Figure, Scale

META_STEPS: dict[Scale, int] = {"small": 5000, "paper": 30_000}
WAVES: dict[Scale, int] = {"small": 100, "paper": 1000}
UNTRAINED = "not meta-trained"
STEPS, RATE = (0, 1, 2, 4, 8, 16, 32), 0.02


def network_of(seed: int) -> nn.Module:
    """1-64-64-1 with tanh and PyTorch's own random weights, whose biases spread the bends over the line."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(1, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1))


def errors(network: nn.Module, params: Params, n_waves: int, seed: int) -> list[float]:
    """Mean squared error over whole waves, after each number of STEPS on ten points of each wave."""
    total = np.zeros(len(STEPS))
    for index in range(n_waves):
        task = wave(index, seed)
        x, y, state, done = task.query[:10], task.query_labels[:10], _state(params), 0
        for i, steps in enumerate(STEPS):
            inner = InnerLoop(optimizer="sgd", learning_rate=RATE, batch_size=10, steps=steps - done)
            rows = torch.arange(10).expand(steps - done, 10)
            state, _ = fine_tune(network, state, x, y, rows, inner, F.mse_loss)
            done = steps
            found = functional_call(network, state.params, (task.query[10:],)).detach()
            total[i] += float(F.mse_loss(found, task.query_labels[10:]))
    return [float(value) for value in total / n_waves]


def _state(params: Params) -> LearnerState:
    return LearnerState(params=params, second_moments={}, updates=0)


def measured(name: str, scale: Scale, seed: int) -> Numbers:
    """`errors` of a network that was meta-trained by Reptile or MAML, or not at all."""
    network = network_of(seed)
    params = {name: tensor.detach() for name, tensor in network.named_parameters()}
    reptile = MetaLoop(meta_steps=META_STEPS[scale], tasks_per_step=1, n_way=2, k_shot=25, step_size=0.1)
    maml = reptile.replace(algorithm="maml", tail_shots=10, optimizer="adam", step_size=1e-3)
    with one_thread():
        if name != UNTRAINED:
            inner = InnerLoop(optimizer="sgd", learning_rate=RATE, batch_size=10, steps=5)
            meta = maml if name == "MAML" else reptile
            *_, last = meta_train_network(network, partial(wave, seed=seed), inner=inner, meta=meta, loss=F.mse_loss)
            params = last.params
        return errors(network, params, WAVES[scale], 1000 + seed)


def sine(scale: Scale, command: str, seeds: Sequence[int] = SEEDS) -> Experiment:
    """Error against inner steps at test time."""
    names = (UNTRAINED, "Reptile", "MAML")
    trials = {f"{name}, seed {seed}": partial(measured, name, scale, seed) for name in names for seed in seeds}

    def figure(found: Mapping[str, Numbers]) -> Figure:
        lines = tuple(line_of(name, found, seeds) for name in names)
        untrained, *others = (line.at(len(STEPS) - 1) for line in lines)
        holds = all(mean + half < untrained[0] - untrained[1] for mean, half in others)
        return Figure(
            name="sine",
            command=command,
            seeds=tuple(seeds),
            across="inner steps on ten points",
            up="mean squared error over the wave",
            x=STEPS,
            lines=lines,
            holds=holds,
            verdict=(
                f"The paper's shape {'holds' if holds else 'does NOT hold'}: after {STEPS[-1]} steps on ten points "
                f"Reptile and MAML fit waves that the same network without meta-training does not, {others[0][0]:.3g} "
                f"and {others[1][0]:.3g} against {untrained[0]:.3g} (test: the 95 % intervals over {len(seeds)} seeds "
                "lie apart)."
            ),
        )

    return Experiment(trials=trials, figure=figure, about=f"testing on {WAVES[scale]:,} waves")
