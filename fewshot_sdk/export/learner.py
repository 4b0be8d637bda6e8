"""Export of an initialization to one ONNX file that adapts and classifies, checked against PyTorch."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from fewshot_sdk.artifacts.initialization import Initialization
from fewshot_sdk.config.onnx_file import LearnerMetadata, Parity
from fewshot_sdk.config.recipe import Preprocessing
from fewshot_sdk.data.tasks import mini_batches
from fewshot_sdk.engine.features import features
from fewshot_sdk.engine.heads import begin, open_head
from fewshot_sdk.engine.inner_loop import loss_and_grads, one_thread, summed, update
from fewshot_sdk.errors import ExportError
from fewshot_sdk.graphs.learner.graph import learner_graph
from fewshot_sdk.graphs.versions import OPSET, at_versions, check_versions
from fewshot_sdk.images.preprocessing import Pixels
from fewshot_sdk.nets.network import HEAD, build_network
from fewshot_sdk.nets.norm_statistics import norm_statistics
from fewshot_sdk.nets.params import LearnerState, Params
from fewshot_sdk.runtime.learner import Learner
from fewshot_sdk.runtime.learners import with_metadata
from fewshot_sdk.storage.files import check_free_file, write_file
from fewshot_sdk.version import versions

TOLERANCE = 1e-4
FLOORS = 10  # float32 rounding grows with the steps and jumps where a ReLU opens: this many times PyTorch's is allowed
MOST = 0.05  # no probability may be further off than this, however large PyTorch's own rounding is
ATTEMPTS = 3  # tasks of each size, one of which has to agree


@dataclass(frozen=True, kw_only=True)
class LearnerExport:
    """An exported file: its path, its size in bytes and its metadata."""

    path: Path
    size: int
    metadata: LearnerMetadata


@dataclass(frozen=True, kw_only=True)
class Trial:
    """The size of a random task on which the learner and PyTorch are compared."""

    n_way: int
    k_shot: int
    n_query: int
    steps: int
    transductive: bool


TRIALS = (
    Trial(n_way=3, k_shot=1, n_query=4, steps=0, transductive=True),
    Trial(n_way=2, k_shot=3, n_query=1, steps=1, transductive=False),
    Trial(n_way=5, k_shot=1, n_query=7, steps=1, transductive=True),
    Trial(n_way=5, k_shot=1, n_query=5, steps=5, transductive=False),
    Trial(n_way=4, k_shot=2, n_query=3, steps=20, transductive=True),
)


def export_learner(
    init: Initialization, path: str | Path, *, opset: int = OPSET, ir_version: int | None = None
) -> LearnerExport:
    """Write an initialization as one ONNX file that adapts: `learner_graph`, with its origin in the metadata.

    The file is kept only if it agrees with PyTorch in float64 on random tasks of several sizes and numbers of steps:
    every probability within 1e-4, or within ten times the error of PyTorch in float32 if that is more (at most 0.05),
    and the same class wherever the margin exceeds twice that. `_parity` says why a task may fail by chance.
    opset, ir_version: as for `export_onnx`.
    Raises ExportError if it disagrees or the network cannot be exported, ConfigError for an opset outside 15 to 23 or
    an IR version that does not go with it, OutputExists if `path` exists, SaveError if the disk refuses.
    """
    path = Path(path)
    check_free_file(path)
    data = learner_bytes(init, opset, ir_version)
    write_file(path, data)
    return LearnerExport(path=path, size=len(data), metadata=Learner(data).metadata)


def learner_bytes(init: Initialization, opset: int = OPSET, ir_version: int | None = None) -> bytes:
    """The bytes of the file that `export_learner` writes. Raises ExportError and ConfigError as it does."""
    check_versions(opset, ir_version)
    graph = at_versions(learner_graph(init.recipe, init.state), opset, ir_version)
    draft = _with_metadata(graph, init, Parity(images=1, max_difference=0), 0, opset)
    parity, floor = _parity(init, Learner(draft))
    return _with_metadata(graph, init, parity, floor, opset)


def _with_metadata(graph: onnx.ModelProto, init: Initialization, parity: Parity, floor: float, opset: int) -> bytes:
    return with_metadata(graph, init.recipe, init.origin, parity, floor, versions(), opset)


def _parity(init: Initialization, learner: Learner) -> tuple[Parity, float]:
    """The learner's agreement with PyTorch in float64, and the error of PyTorch in float32; raises ExportError if poor.

    Where rounding flips a ReLU or the maximum of a pool, the gradient jumps, and Adam without second moments (of an
    untrained initialization) turns that into a whole step. That is chance, so another task of the same size may decide.
    """
    worst, noise, n = 0.0, 0.0, 0
    for trial in TRIALS:
        for seed in range(ATTEMPTS):
            found, exact, rounded = _answers(init, learner, trial, seed)
            floor = float(np.abs(rounded - exact).max())
            difference, allowed = float(np.abs(found - exact).max()), max(TOLERANCE, min(FLOORS * floor, MOST))
            margin = np.sort(exact, 1)[:, -1] - np.sort(exact, 1)[:, -2]
            swapped = (found.argmax(1) != exact.argmax(1)) & (margin > 2 * allowed)
            if difference <= allowed and not swapped.any():
                break
        else:
            raise ExportError(
                f"onnxruntime and PyTorch disagree after {trial.steps} steps, {trial.k_shot} pictures per class: "
                f"a probability differs by {difference:.2g}, allowed {allowed:.1g}; no file was written"
            )
        worst, noise, n = max(worst, difference), max(noise, floor), n + len(found)
    return Parity(images=n, max_difference=worst), noise


def _answers(
    init: Initialization, learner: Learner, trial: Trial, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
    """The queries' probabilities by the learner, by PyTorch in float64, and by PyTorch in float32."""
    n_way = learner.metadata.n_way or trial.n_way
    task = made_up_task(init.recipe.preprocessing, n_way, trial.k_shot, trial.n_query, seed)
    rate = init.recipe.adaptation.learning_rate
    found = learner.adapt(*task, steps=trial.steps, learning_rate=rate, transductive=trial.transductive).probabilities
    exact, rounded = (
        in_pytorch(init, *task, trial.steps, trial.transductive, dtype) for dtype in (torch.float64, torch.float32)
    )
    return found, exact, rounded


def made_up_task(
    preprocessing: Preprocessing, n_way: int, k_shot: int, n_query: int, seed: int
) -> tuple[Pixels, NDArray[np.int64], Pixels]:
    """Support images, targets and queries: 7 x 7 patches of random colours for each class, noise in each picture."""
    rng = np.random.default_rng((seed, 2))
    height, width = preprocessing.height, preprocessing.width
    row, column = np.arange(height) * 7 // height, np.arange(width) * 7 // width
    patches = rng.integers(0, 256, (n_way, 7, 7, preprocessing.channels))[:, row][:, :, column]
    targets = np.repeat(np.arange(n_way), k_shot)

    def pictures(classes: NDArray[np.int64]) -> Pixels:
        noisy = patches[classes] + rng.normal(0, 40, (len(classes), *patches.shape[1:]))
        return noisy.clip(0, 255).astype(np.uint8)

    return pictures(targets), targets, pictures(np.arange(n_query) % n_way)


def in_pytorch(
    init: Initialization, images: Pixels, targets: NDArray[np.int64], queries: Pixels, steps: int, transductive: bool,
    dtype: torch.dtype,
) -> NDArray[np.float64]:  # fmt: skip
    """The queries' probabilities by PyTorch's inner loop, computed in `dtype`: float64 (n_query, n_way)."""
    recipe = init.recipe
    n_way = int(targets.max()) + 1
    built = build_network(recipe.backbone, recipe.preprocessing, n_way).to(dtype)
    network: nn.Module = built
    state = open_head(_cast(init.state, dtype), recipe.head, built)
    support, labels, query = torch.from_numpy(images), torch.from_numpy(targets), torch.from_numpy(queries)
    batches = mini_batches(len(images), recipe.adaptation.batch_size, steps, (0,))
    trainable = recipe.adaptation.trainable
    with one_thread():
        state = begin(built, state, recipe.head, support, labels)
        if trainable == "head" and built.backbone.judges_alone:  # then features stay the same from step to step
            support, query = (features(built, state.params, pictures) for pictures in (support, query))
            network = nn.Sequential(OrderedDict(head=built.get_submodule("head")))
            state = _head_of(state)
        for batch in batches:
            _, gradients = loss_and_grads(network, state.params, support[batch], labels[batch], trainable)
            state = update(state, summed(gradients, len(batch), recipe.adaptation), recipe.adaptation)
        params: Params = dict(state.params)
        if not transductive:
            params |= norm_statistics(network, params, support)
            network.eval()
        with torch.no_grad():
            logits: Tensor = functional_call(network, params, (query,))
    probabilities: NDArray[np.float64] = logits.double().softmax(1).numpy()
    return probabilities


def _head_of(state: LearnerState) -> LearnerState:
    params, moments = (
        {name: tensor for name, tensor in part.items() if name in HEAD} for part in (state.params, state.second_moments)
    )
    return replace(state, params=params, second_moments=moments)


def _cast(state: LearnerState, dtype: torch.dtype) -> LearnerState:
    params, moments = (
        {name: tensor.to(dtype) for name, tensor in part.items()} for part in (state.params, state.second_moments)
    )
    return LearnerState(params=params, second_moments=moments, updates=state.updates)
