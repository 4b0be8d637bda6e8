"""How `photo` was meta-trained: `meta_train_photo.py START PHOTOGRAPHS OUTPUT`, 40 minutes on two busy cores.

START: pre-trained weights, see `fewshot_sdk.artifacts.efficientnet`; PHOTOGRAPHS: a folder or zip of class folders.
"""

import sys

from fewshot_sdk import load, open_dataset, preset, save
from fewshot_sdk.config import DataSource, Preprocessing
from fewshot_sdk.data.domains import DomainTasks, photographs
from fewshot_sdk.engine.workers import Workers, run_workers
from fewshot_sdk.meta.tail import meta_train_tail


def train(workers: Workers, start: str, source: str, output: str) -> None:
    """The work of each of two processes."""
    recipe = preset("photo")
    paper = Preprocessing(height=105, width=105, channels=1, resize="nearest")
    tasks = DomainTasks(
        photographs=photographs(source, recipe.preprocessing),
        drawings=open_dataset(DataSource(name="omniglot", split="official"), paper, "train"),
        n_way=recipe.meta.n_way,
        k_shot=recipe.meta.k_shot,
    )
    command = f"python examples/meta_train_photo.py {start} {source} {output}"
    for step in meta_train_tail(load(start), tasks, recipe=recipe, command=command, workers=workers):
        if workers.rank == 0 and step.done % 10 == 0:
            print(f"{step.done} of {step.meta_steps} outer steps, loss {step.loss:.3f}", flush=True)
        if workers.rank == 0 and (step.done == step.meta_steps):
            save(step.initialization, output)


if __name__ == "__main__":
    run_workers(2, train, *sys.argv[1:])
