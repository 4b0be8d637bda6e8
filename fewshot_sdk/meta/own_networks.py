"""Meta-training of a user's own network and tasks: any `nn.Module` and any function from a number to a `Task`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fewshot_sdk.algorithms import ALGORITHMS, check_fits
from fewshot_sdk.artifacts.states import initial_state
from fewshot_sdk.config.recipe import InnerLoop, MetaLoop
from fewshot_sdk.data.tasks import Seed, Task, mini_batches
from fewshot_sdk.engine.heads import Head, close_head
from fewshot_sdk.engine.inner_loop import Loss, cross_entropy, fine_tune, moving, one_thread
from fewshot_sdk.engine.optimizers import initial_memory
from fewshot_sdk.engine.workers import Workers
from fewshot_sdk.errors import ConfigError
from fewshot_sdk.meta.outer_loop import Position, Setup, outer_step
from fewshot_sdk.nets.params import Params, learned


@dataclass(frozen=True, kw_only=True, eq=False)
class NetworkStep:
    """The result of outer step number `done`; `loss` is the mean over its tasks of the last mini-batch's loss."""

    done: int
    loss: float
    setup: Setup
    position: Position

    @property
    def params(self) -> Params:
        """The meta-trained weights, by their names in the network: `network.load_state_dict(params, strict=False)`."""
        return self.position.state.params

    def adapt(self, inputs: Tensor, labels: Tensor, inner: InnerLoop | None = None, seed: Seed = (0,)) -> Params:
        """The weights after inner steps on a few examples, for `torch.func.functional_call(network, params, (x,))`.

        inner: None takes the loop of meta-training. seed: for the order of mini-batches.
        Raises ConfigError for a ProtoNet, which takes no steps: it classifies by the nearest class mean of outputs.
        """
        algorithm = self.setup.meta.algorithm
        if not ALGORITHMS[algorithm].takes_steps:
            raise ConfigError(
                f"a {algorithm} takes no steps on a task: call the network with its params on the examples, and assign "
                "a new one to the class with the nearest mean"
            )
        setup, loop = self.setup, inner or self.setup.inner
        batches = mini_batches(len(inputs), loop.batch_size, loop.steps, seed)
        with one_thread():
            end, _ = fine_tune(setup.network, self.position.state, inputs, labels, batches, loop, setup.loss)
        return end.params


def meta_train_network(
    network: nn.Module,
    task: Callable[[int], Task],
    *,
    inner: InnerLoop,
    meta: MetaLoop,
    loss: Loss = cross_entropy,
    head: Head | None = None,
    start: NetworkStep | None = None,
    workers: Workers | None = None,
) -> Iterator[NetworkStep]:
    """Yields one NetworkStep for each outer step up to `meta.meta_steps`, by `meta.algorithm`.

    network: called in training mode with batches of a task's support set, of any type; meta-training starts from its
    weights, which stay unchanged; weights with `requires_grad=False` are not trained. For anil and boil its last layer
    must be named `head`; for protonet its output is the features.
    task: task number i, a pure function of i; each with the same number of examples, grouped by class.
    loss: a scalar from the network's output and the labels; protonet has its own. start: an earlier step to continue.
    head: `zero`: each task starts from rows of zeros in `head`, which are then no part of the weights; None: the layer
    is like the others.
    workers: the processes that all run this function and share the tasks.
    Same arguments, same bits: so the network must not draw random numbers (dropout) or change its state (running
    averages) when called. Raises ConfigError, naming step, tasks and what to try, if it does, and for loops that do
    not fit the algorithm; TrainingDiverged, naming step and task, if a loss is not finite.
    """
    if meta.meta_steps == 0:
        raise ConfigError("meta_steps: expected 1 or more, found 0")
    check_fits(meta.algorithm, inner.optimizer, inner.trainable)
    if not ALGORITHMS[meta.algorithm].takes_steps and loss is not cross_entropy:
        raise ConfigError(
            f"loss: {meta.algorithm} has its own, the cross-entropy of distances to class means; leave loss out"
        )
    params = {name: tensor.detach().clone() for name, tensor in network.named_parameters() if tensor.requires_grad}
    if not params:
        raise ConfigError("the network has no weight with requires_grad=True; expected at least one")
    if not moving(network, params, inner.trainable):
        raise ConfigError(f"{meta.algorithm}: the inner steps move nothing; expected a last layer named `head`")
    setup = Setup(network=network, task=task, inner=inner, meta=meta, head=head, loss=loss)
    state = initial_state(params, inner, meta)
    state = state if head is None else close_head(state, head)
    done, at = 0, Position(state=state, memory=initial_memory(learned(state), meta.optimizer))
    if start is not None:
        done, at = start.done, start.position
    held = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    workers = workers or Workers()
    for number in range(done, meta.meta_steps):
        random = torch.get_rng_state()
        before = learned(at.state)
        kept = {name: tensor.clone() for name, tensor in before.items()}
        with one_thread():
            at, last = outer_step(setup, at, number, workers)
        first = number * meta.tasks_per_step
        where = f"at outer step {number + 1}, in tasks {first} to {first + meta.tasks_per_step - 1}"
        if not torch.equal(random, torch.get_rng_state()):
            raise ConfigError(f"the network or a task drew from PyTorch's global generator {where}; leave dropout out")
        for name in _changed(before, kept) + _changed(network.state_dict(), held):
            raise ConfigError(
                f"the network changed its {name!r} {where}; calling it must not change its state: for batch norm try "
                "track_running_stats=False"
            )
        yield NetworkStep(done=number + 1, loss=last, setup=setup, position=at)


def _changed(now: Params, before: Params) -> list[str]:
    return [name for name, tensor in now.items() if name not in before or not torch.equal(tensor, before[name])]
