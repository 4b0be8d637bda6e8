"""The studio's site: its files, its policy, and its two networks, which together are the model that `adapt` writes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from fewshot_sdk import Learner, Predictor, adapt_to_onnx, save
from fewshot_sdk.artifacts.initialization import Initialization, fresh
from fewshot_sdk.config.recipe import Preprocessing
from fewshot_sdk.data.minibatches import schedule
from fewshot_sdk.graphs.weights import folded
from fewshot_sdk.images.support import read_support
from fewshot_sdk.runtime.learners import learner_file
from fewshot_sdk.runtime.rejection import Head
from fewshot_sdk.runtime.steps import centre_of
from fewshot_sdk.web.studio import NETWORK, STEPS, studio_site
from tests.cli.test_start_up import shell
from tests.conftest import Run, draw_folder, means_recipe
from tests.web.test_pages import Page, settings

COLOUR = Preprocessing(height=24, width=20, channels=3, resize="bicubic", fit="crop")


@pytest.fixture(scope="module")
def learner(tmp_path_factory: pytest.TempPathFactory, init: Initialization) -> bytes:
    """A learner whose steps move the head alone."""
    return learner_file(
        save(fresh(means_recipe(COLOUR), 0, init.provenance), tmp_path_factory.mktemp("means") / "init")
    )


@pytest.fixture(scope="module")
def site(learner: bytes) -> dict[str, bytes]:
    return studio_site(learner)


def test_the_page_and_its_workers_name_only_files_that_are_there(site: dict[str, bytes]) -> None:
    links = [link for link in Page(site["index.html"]).links if not link.startswith(("https://", "data:", "#"))]
    assert len(links) >= 3
    assert {link.removeprefix("./") for link in links} <= site.keys()
    scripts = "".join(data.decode() for name, data in site.items() if name.endswith(".js"))
    loaded = re.findall(
        r'"([\w.]+\.js)"', "".join(re.findall(r"importScripts\((.*)\)|workerOf\((.*)\)", scripts, re.M)[0])
    )
    loaded += re.findall(r'(?:workerOf|new Worker)\("([\w.]+)"\)', scripts)
    assert {"studio_worker.js", "reading_worker.js"} <= set(loaded) <= site.keys()


def test_the_policy_allows_only_the_pages_own_files_and_the_runtime(site: dict[str, bytes]) -> None:
    policy = Page(site["index.html"]).policy
    assert policy.startswith("default-src 'none'")
    assert "unsafe-inline" not in policy
    assert "'unsafe-eval'" not in policy


def session(site: dict[str, bytes], name: str) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(site[name], providers=["CPUExecutionProvider"])


def test_a_head_from_the_steps_makes_the_network_the_model_that_adapt_writes(
    learner: bytes, site: dict[str, bytes], tmp_path: Path
) -> None:
    folder = draw_folder(tmp_path / "in", tuple("abc"), shots=4)
    made = adapt_to_onnx(Learner(learner), folder, tmp_path / "m.onnx", steps=3)
    support = read_support(folder, COLOUR)
    network, steps = session(site, NETWORK), session(site, STEPS)
    width = settings(site)["nFeatures"]
    assert isinstance(width, int)
    blank = {"head.weight": (1, width), "head.bias": (1,), "centre": (width,), "shift": (1,), "scale": (1,)}
    zeros = {name: np.zeros(shape, np.float32) for name, shape in {**blank, "least_score": ()}.items()}
    (features,) = network.run(["features"], {"images": support.images, **zeros})
    rows = schedule(len(features), 4, 3, (0,))
    tensors = {
        "support": features, "labels": support.targets, "queries": features[:1], "batches": rows,
        "steps": np.array(3), "learning_rate": np.array(settings(site)["learningRate"], np.float32),
    }  # fmt: skip
    weight, bias = steps.run(["head.weight", "head.bias"], tensors)
    head = Head(weight=weight, bias=bias, centre=centre_of(features, support.targets))
    feed = {"head.weight": weight, "head.bias": bias, **vars(head.cosine())}
    least = np.array(made.metadata.least_score, np.float32)
    label, known = network.run(["label", "known"], {"images": support.images, "least_score": least, **feed})
    wanted = Predictor(tmp_path / "m.onnx").predict(list(support.images))
    assert [support.labels[i] for i in label] == [one.nearest for one in wanted]
    assert known.tolist() == [one.label is not None for one in wanted]


def test_a_network_that_adapts_as_a_whole_takes_the_weights_that_the_steps_return(
    init: Initialization, tmp_path: Path
) -> None:
    learner = learner_file(save(init, tmp_path / "init"))
    site, folder = studio_site(learner), draw_folder(tmp_path / "in", tuple("abc"), shots=2)
    support = read_support(folder, init.recipe.preprocessing)
    steps, network = session(site, STEPS), session(site, NETWORK)
    feed = {
        "support": support.images, "labels": support.targets, "queries": support.images, "steps": np.array(4),
        "learning_rate": np.array(settings(site)["learningRate"], np.float32),
        "batches": np.arange(len(support.targets))[None],
    }  # fmt: skip
    names = [output.name for output in steps.get_outputs()]
    found = dict(zip(names, steps.run(names, feed), strict=True))
    wanted = found.pop("probabilities")
    tensors = {name: np.asarray(array, np.float32) for name, array in folded(found, init.recipe.backbone).items()}
    pictures = np.broadcast_to(support.images, (*support.images.shape[:3], 3))
    lowest = np.array(np.finfo(np.float32).min)
    (probabilities,) = network.run(["probabilities"], {"images": pictures, "least_score": lowest, **tensors})
    np.testing.assert_allclose(probabilities, wanted, rtol=0, atol=1e-4)


def test_the_command_writes_a_site_without_pytorch(run: Run, init: Initialization, tmp_path: Path) -> None:
    folder = save(fresh(means_recipe(COLOUR), 0, init.provenance), tmp_path / "init")
    words = ["studio", "--init", str(folder), "--output", "site"]
    done = shell("-X", "importtime", "-m", "fewshot_cli.main", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "onnx" in imported
    assert not imported & {"torch", "onnxscript", "huggingface_hub"}
    told = json.loads(Page((tmp_path / "site" / "index.html").read_bytes()).data)
    assert (told["photographs"], told["origin"], told["unknown"]) == (True, init.origin.name, True)
    assert "already holds something" in run("studio", "--init", folder, "--output", tmp_path / "site")[2]


def test_an_initialization_that_cannot_be_a_learner_is_refused_in_one_sentence(run: Run, tmp_path: Path) -> None:
    for name, message in (("sine", "which is for numbers"), ("omniglot-protonet", "cannot be exported as a learner")):
        code, _, err = run("studio", "--init", name, "--output", tmp_path / "site")
        assert (code, len(err.splitlines())) == (1, 1)
        assert message in err
