"""Your own network and tabular tasks, with any algorithm that takes inner steps: half a minute on one core."""

import sys
from collections import OrderedDict

import torch
from torch.func import functional_call

from fewshot_sdk import meta_train_network
from fewshot_sdk.algorithms import known, moved_by
from fewshot_sdk.config import InnerLoop, MetaLoop
from fewshot_sdk.data.tasks import Task

torch.manual_seed(0)
layers = {"body": torch.nn.Linear(8, 32), "tanh": torch.nn.Tanh(), "head": torch.nn.Linear(32, 3)}
network = torch.nn.Sequential(OrderedDict(layers))
mixing = torch.randn(2, 8)


def task(i: int) -> Task:
    """Three species that differ in two hidden traits; eight noisy columns mix these in the same way in every task."""
    draw = torch.Generator().manual_seed(i)
    traits = 2 * torch.randn(3, 1, 2, generator=draw) + 0.5 * torch.randn(3, 15, 2, generator=draw)
    rows = traits @ mixing + 2 * torch.randn(3, 15, 8, generator=draw)
    known_labels, new_labels = (torch.arange(3).repeat_interleave(n) for n in (5, 10))
    support, query = rows[:, :5].flatten(0, 1), rows[:, 5:].flatten(0, 1)
    return Task(n_way=3, support=support, support_labels=known_labels, query=query, query_labels=new_labels, seed=(i,))


algorithm = known(sys.argv[1])
inner = InnerLoop(optimizer="sgd", learning_rate=0.05, batch_size=15, steps=5, trainable=moved_by(algorithm))
outer = {} if algorithm == "reptile" else {"optimizer": "adam", "step_size": 0.01}
meta = MetaLoop(algorithm=algorithm, meta_steps=int(sys.argv[2]), tasks_per_step=4, n_way=3, k_shot=5).replace(**outer)
first, *_, last = meta_train_network(network, task, inner=inner, meta=meta)
for step in (first, last):
    right = 0
    for new in map(task, range(10**6, 10**6 + 100)):
        logits = functional_call(network, step.adapt(new.support, new.support_labels), (new.query,))
        right += int((logits.argmax(1) == new.query_labels).sum())
    print(f"{step.done} outer steps: {right / 3000:.1%} right on new species, from 5 examples of each")
