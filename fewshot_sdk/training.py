"""Meta-training: from a recipe and a stream of tasks to an initialization, one event per outer step."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from fewshot_sdk.backbones import Network, build_network
from fewshot_sdk.checkpoint import Initialization, fresh
from fewshot_sdk.config import InnerLoop, Recipe
from fewshot_sdk.errors import ConfigError, TrainingDiverged
from fewshot_sdk.heads import close_head, open_head
from fewshot_sdk.inner_loop import Tuner, one_thread
from fewshot_sdk.meta import reptile_step, step_size_at
from fewshot_sdk.native import made_with
from fewshot_sdk.params import LearnerState
from fewshot_sdk.records import Provenance
from fewshot_sdk.tasks import Task, TaskSampler, mini_batches
from fewshot_sdk.team import Team
from fewshot_sdk.trajectories import goal


@dataclass(frozen=True, kw_only=True)
class MetaStep:
    """What one outer step did.

    done: outer steps behind this initialization, 1 to meta_steps.
    loss: mean cross-entropy of the last inner mini-batch of each task, in nats.
    """

    done: int
    meta_steps: int
    loss: float
    initialization: Initialization


def meta_train(
    recipe: Recipe,
    tasks: TaskSampler,
    *,
    start: Initialization | None = None,
    team: Team | None = None,
    device: torch.device | None = None,
    command: str = "meta_train(...)",
) -> Iterator[MetaStep]:
    """Reptile: yields one MetaStep for each outer step up to `recipe.meta.meta_steps`.

    Outer step i trains tasks `i * tasks_per_step` and following of the stream, whose seed is also
    that of the first weights. Same recipe and tasks: same bits. `start`, an earlier step's
    initialization, continues from there, to the same bits as without the interruption.
    team: the processes that each run this same function on the same arguments and share the work,
    again to the same bits; None is this one alone. device: a GPU, which takes the tasks of a step side
    by side, in float32; None is the processor, with the compiled inner loop. `command` is kept as the
    initialization's origin.
    Raises ConfigError, naming what differs, if `start` is of another training, or if the team has more
    members than a step has tasks; TrainingDiverged, naming step and task, when a loss is no longer finite.
    Source: Reptile, Algorithm 2.
    """
    meta = recipe.meta
    network = build_network(recipe.backbone, recipe.preprocessing, tasks.n_way).to(device)
    provenance = origin(tasks, command, device)
    if start is None:
        start = fresh(recipe, tasks.seed, provenance)
    check_continues(start, recipe, provenance)
    team = team or Team()
    if team.size > meta.tasks_per_step:
        raise ConfigError(f"{team.size} workers cannot share {meta.tasks_per_step} tasks; use at most as many")
    if device and meta.algorithm != "reptile":
        raise ConfigError(f"{meta.algorithm} has no side-by-side form; train it on the processor")
    stored, before = start.state, start.provenance
    seconds = before.seconds
    for done in range(before.meta_steps_done, meta.meta_steps):
        began = time.monotonic()
        with one_thread():
            stored, loss = _outer_step(recipe, network, tasks, stored, done, team, device)
        seconds += time.monotonic() - began  # what the caller does between two steps is not training
        progress = {"meta_steps_done": done + 1, "seconds": round(seconds, 1)}
        yield MetaStep(
            done=done + 1,
            meta_steps=meta.meta_steps,
            loss=loss,
            initialization=Initialization(recipe=recipe, state=stored, provenance=provenance.replace(**progress)),
        )


def origin(tasks: TaskSampler, command: str, device: torch.device | None = None) -> Provenance:
    """The provenance of a training on these tasks before its first step."""
    return Provenance(
        command=command,
        seed=tasks.seed,
        meta_steps_done=0,
        data_sha256=tasks.data.digest,
        seconds=0,
        versions=made_with(_name(device)),
    )


def check_continues(start: Initialization, recipe: Recipe, provenance: Provenance) -> None:
    """Raises ConfigError, naming each difference, unless `start` is a step of the very same training."""
    old = {**_flat(start.recipe.model_dump()), **_flat(start.provenance.model_dump())}
    new = {**_flat(recipe.model_dump()), **_flat(provenance.model_dump())}
    progress = ("command", "meta_steps_done", "seconds")
    differing = [
        f"{name} was {old.get(name)}, now {new.get(name)}"
        for name in sorted(old.keys() | new.keys())
        if name not in progress and old.get(name) != new.get(name)
    ]
    if differing:
        raise ConfigError(
            f"this is not the training that was interrupted: {'; '.join(differing)}; "
            "resume it as it was begun, or start a new one with another --output"
        )


def _flat(settings: dict[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def _outer_step(
    recipe: Recipe,
    network: Network,
    tasks: TaskSampler,
    stored: LearnerState,
    done: int,
    team: Team,
    device: torch.device | None,
) -> tuple[LearnerState, float]:
    n, inner = recipe.meta.tasks_per_step, recipe.inner
    tuner = Tuner(network, open_head(stored, recipe.head, network), inner, device)
    mine = [tasks.task(done * n + i) for i in team.share(n)]
    goals = [goal(tuner, task, recipe) for task in mine] if device is None else tuner.tune_all(_stacked(mine, inner))
    total = team.total([_with_loss(*found, i, n) for i, found in zip(team.share(n), goals, strict=True)], n)
    losses = total[:n]
    for i, loss in enumerate(losses):
        if not torch.isfinite(loss):
            raise TrainingDiverged(
                f"the loss of task {done * n + i} is not finite at outer step {done + 1}; "
                f"try a lower inner learning rate than {inner.learning_rate}"
            )
    adapted = close_head(tuner.state(total[n:].div_(n), stored.updates + inner.steps), recipe.head)
    return reptile_step(stored, adapted, step_size_at(done, recipe.meta)), losses.mean().item()


def _stacked(tasks: list[Task], inner: InnerLoop) -> list[tuple[Tensor, Tensor, Tensor]]:
    return [
        (task.support, task.support_labels, mini_batches(len(task.support), inner.batch_size, inner.steps, task.seed))
        for task in tasks
    ]


def _name(device: torch.device | None) -> str | None:
    return torch.cuda.get_device_name(device) if device and device.type == "cuda" else str(device or "") or None


def _with_loss(end: Tensor, losses: Tensor, i: int, n: int) -> Tensor:
    """The last loss, NaN if any was not finite, as number i of n, the others 0; and the end."""
    last = torch.zeros(n)
    last[i] = losses[-1] if torch.isfinite(losses).all() else torch.nan
    return torch.cat([last, end])
