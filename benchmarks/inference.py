"""Speed of an exported classifier against PyTorch, both with preprocessing, in interleaved rounds.

    python -m benchmarks.inference [--preset omniglot] [--side 105] [--rounds N] [--threads 1 2] [--no-compile] [--json]

The pictures are noise, decoded arrays of side x side x 3 bytes, and the weights are the preset's random ones: speed
depends on neither. PyTorch preprocesses each picture with Pillow and runs the network, eager or compiled; onnxruntime
takes the same arrays and does everything in the graph, in fp32 or int8. `predict` is `fewshot predict` on one PNG from
the shell: the seconds from the start of the process to its end, and its peak memory.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.processes import finish
from fewshot_sdk import Classifier, Predictor, adapt, export_onnx, preset
from fewshot_sdk.artifacts.initialization import fresh
from fewshot_sdk.config.records import Provenance
from fewshot_sdk.images.preprocessing import Pixels, preprocess
from fewshot_sdk.images.support import SupportSet

BATCHES = (1, 64)
NOWHERE = Provenance(command="none", seed=0, meta_steps_done=0, data_sha256="0" * 64, seconds=0, versions={})


def classifier_of(name: str) -> Classifier:
    """A classifier of five classes of noise, two pictures each."""
    init = fresh(preset(name), 0, NOWHERE)
    preprocessing = init.recipe.preprocessing
    shape = (10, preprocessing.height, preprocessing.width, preprocessing.channels)
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    return adapt(
        init, SupportSet(labels=tuple("abcde"), images=images, targets=np.arange(10) // 2), steps=1, reject_rate=None
    )


def measure(
    classifier: Classifier, files: dict[str, Path], side: int, rounds: int, threads: Sequence[int], compiled: bool
) -> dict[str, float]:
    """Median milliseconds of a batch, and the median over rounds of how many times as fast as eager PyTorch it is."""
    network = classifier.network()
    networks: dict[str, torch.nn.Module] = {"eager": network}
    if compiled:
        networks["compiled"] = torch.compile(network)  # type: ignore[assignment]
    preprocessing = classifier.config.preprocessing
    found: dict[str, float] = {}

    def by_pytorch(model: torch.nn.Module) -> Callable[[Pixels], object]:
        def run(pictures: Pixels) -> object:
            with torch.inference_mode():
                pixels = np.stack([preprocess(picture, preprocessing) for picture in pictures])
                return model(torch.from_numpy(pixels)).softmax(1)

        return run

    for n in threads:
        torch.set_num_threads(n)
        runners: dict[str, Callable[[Pixels], object]] = {name: by_pytorch(model) for name, model in networks.items()}
        runners |= {name: Predictor(file, threads=n).probabilities for name, file in files.items()}
        for batch in BATCHES:
            pictures = np.random.default_rng(1).integers(0, 256, (batch, side, side, 3), np.uint8)
            times: dict[str, list[float]] = {name: [] for name in runners}
            for _ in range(rounds + 3):
                for name, run in runners.items():
                    began = time.perf_counter()
                    run(pictures)
                    times[name].append(1000 * (time.perf_counter() - began))
            after = {name: taken[3:] for name, taken in times.items()}  # the first three warm up and compile
            for name, taken in after.items():
                found[f"{name}_ms_batch{batch}_threads{n}"] = statistics.median(taken)
                if name != "eager":
                    ratio = statistics.median(e / t for e, t in zip(after["eager"], taken, strict=True))
                    found[f"{name}_ratio_batch{batch}_threads{n}"] = ratio
    return found


def cold(model: Path, picture: Path, rounds: int) -> dict[str, float]:
    """Seconds of `fewshot predict` from the shell, least and median, and its peak memory in MB."""
    command = [sys.executable, "-m", "fewshot_cli.main", "predict", str(model), str(picture)]
    seconds = [finish(command).seconds for _ in range(rounds)]
    program = (
        "import atexit, pathlib, runpy, sys; sys.argv = sys.argv[1:]\n"
        "atexit.register(lambda: sys.stderr.write(pathlib.Path('/proc/self/status').read_text()))\n"
        "runpy.run_module('fewshot_cli.main', run_name='__main__')"
    )
    status = finish([sys.executable, "-c", program, *command[2:]]).stderr
    return {
        "predict_seconds_min": min(seconds),
        "predict_seconds": statistics.median(seconds),
        "predict_megabytes": int(status.partition("VmHWM:")[2].split()[0]) / 1000,  # on Linux only
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description="Speed of an exported classifier against PyTorch.")
    parser.add_argument("--preset", default="omniglot")
    parser.add_argument("--side", type=int, default=105)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    classifier = classifier_of(options.preset)
    with tempfile.TemporaryDirectory() as folder:
        files = {
            "fp32": export_onnx(classifier, Path(folder) / "fp32.onnx").path,
            "int8": export_onnx(classifier, Path(folder) / "int8.onnx", precision="int8", max_drop=1).path,
        }
        found = measure(classifier, files, options.side, options.rounds, options.threads, options.compile)
        picture = Path(folder) / "picture.png"
        noise = np.random.default_rng(2).integers(0, 256, (options.side, options.side, 3), np.uint8)
        Image.fromarray(noise).save(picture)
        found |= cold(files["fp32"], picture, max(3, options.rounds // 5))
    if options.json:
        print(json.dumps({key: round(value, 4) for key, value in found.items()}))
        return
    for key, value in found.items():
        if "_ms_" in key:
            ratio = found.get(key.replace("_ms_", "_ratio_"))
            print(f"{key.replace('_ms', ''):<26} {value:8.2f} ms" + (f"  {ratio:5.2f} times eager" if ratio else ""))
    print(
        f"fewshot predict from the shell: {found['predict_seconds']:.2f} s, at least "
        f"{found['predict_seconds_min']:.2f}; peak {found['predict_megabytes']:.0f} MB"
    )


if __name__ == "__main__":
    main()
