"""Meta-train in several processes of a Ray cluster, to the bits of one: python ray_train.py OUTPUT [PROCESSES [STEPS]]

Needs `pip install 'fewshot-sdk[ray]'`. Ray restarts all processes when one is lost, and they continue.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ray.train import FailureConfig, RunConfig, ScalingConfig, get_context
from ray.train.torch import TorchConfig, TorchTrainer

from fewshot_sdk import preset
from fewshot_sdk.engine.workers import Workers
from fewshot_sdk.meta.preparation import Run
from fewshot_sdk.meta.together import train_together


def train(settings: dict[str, str]) -> None:
    """One of the processes; the first writes the folder, the first on each machine a checkpoint."""
    here = get_context()
    rank, size, local = here.get_world_rank(), here.get_world_size(), here.get_local_rank()
    recipe = preset("glyphs")
    recipe = recipe.replace(meta=recipe.meta.replace(meta_steps=int(settings["steps"])))
    run = Run(recipe=recipe, output=Path(settings["output"]), checkpoint_every=50, evaluate_every=0)
    workers = Workers(rank=rank, size=size, leads=local == 0)
    train_together(workers, run.output, lambda: (run, None), resume=True)


if __name__ == "__main__":
    output, processes, steps = [*sys.argv[1:], *("init", "2", "500")[len(sys.argv) - 1 :]]
    folder = str(Path(output).absolute())
    TorchTrainer(
        train,
        train_loop_config={"output": folder, "steps": steps},
        torch_config=TorchConfig(backend="gloo", timeout_s=300),
        scaling_config=ScalingConfig(num_workers=int(processes)),
        run_config=RunConfig(storage_path=f"{folder}.ray", failure_config=FailureConfig(max_failures=3)),
    ).fit()
