"""The studio: a page that adapts in the browser, and saves the project and the model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from fewshot_sdk.config.onnx_file import FORMAT, LearnerMetadata
from fewshot_sdk.graphs.classifier import network_graph, with_preprocessing
from fewshot_sdk.graphs.learner.parts import PROBABILITIES, body_of, steps_of, takes_features
from fewshot_sdk.graphs.shapes import shapes_of
from fewshot_sdk.graphs.versions import OPSET
from fewshot_sdk.graphs.weights import Params, Tensors
from fewshot_sdk.runtime.calibration import REJECT_RATE
from fewshot_sdk.runtime.learner import Learner
from fewshot_sdk.version import __version__
from fewshot_sdk.web.offline import WORKER, service_worker
from fewshot_sdk.web.pages import VERSION, asset, integrity, page, policy, runtime_settings, vendored

NETWORK, STEPS = "network.onnx", "steps.onnx"
MOST_LABELS = 100
STUDIO_FILES = (
    "page.css", "studio.css", "runtime.js", "pictures.js", "pixels.js", "random.js", "limits.js", "onnx.js",
    "doctor.js", "zips.js", "conversation.js", "reading_worker.js", "studio_worker.js", "project.js", "studio.js",
    "studio_camera.js", "studio_classes.js", "studio_dom.js", "studio_draw.js", "studio_files.js", "studio_heat.js",
    "studio_keep.js", "studio_project.js", "studio_saving.js", "studio_try.js", "studio_view.js",
)  # fmt: skip


def studio_site(learner: bytes, vendor: Path | None = None) -> dict[str, bytes]:
    """The studio's files by name, for any web host; index.html is the page.

    learner: the bytes of a learner file, see `runtime.learners.learner_file`; vendor: as for `demo_site`.
    network.onnx is the classifier's graph, whose head (or, if the steps move the whole network, whose weights) are
    inputs; steps.onnx makes these from labelled features (or pictures). The page joins both to the model that it saves.
    A service worker keeps them all in the browser.
    Raises BundleError if learner or vendor are not as expected, ExportError for a learner of another make.
    """
    opened = Learner(learner)
    metadata, model = opened.metadata, onnx.load_from_string(learner)
    on_features = takes_features(metadata)
    body: Tensors | None = body_of(model) if on_features else None
    shapes = shapes_of(_shaped(model) if body is None else body, metadata.backbone, metadata.preprocessing)
    network = network_graph(
        body, metadata.backbone, metadata.preprocessing, from_cosine=on_features, features_out=on_features,
        heat_map_of=shapes.layers if metadata.backbone.has_positions else (),
    )  # fmt: skip
    files = {
        NETWORK: with_preprocessing(network, metadata.preprocessing).SerializeToString(deterministic=True),
        STEPS: steps_of(model, metadata).SerializeToString(deterministic=True),
    }
    settings = {
        "runtime": runtime_settings(local=vendor is not None),
        "network": {"name": NETWORK, "integrity": integrity(files[NETWORK])},
        "steps": {"name": STEPS, "integrity": integrity(files[STEPS])},
        **_facts(metadata, on_features),
        "nFeatures": shapes.n_features,
    }
    values = {"settings": settings, "policy": policy(local=vendor is not None)}
    site = {
        "index.html": page("studio.html.j2", values),
        **files,
        **{name: asset(name) for name in STUDIO_FILES},
        **(vendored(vendor) if vendor is not None else {}),
    }
    return {**site, WORKER: service_worker(site)}


def _facts(metadata: LearnerMetadata, on_features: bool) -> dict[str, object]:
    """What the page says about the network, and what its scripts need to adapt it and to write the model."""
    adaptation, origin = metadata.adaptation, metadata.initialization
    described = {
        "format": FORMAT,
        "preprocessing": metadata.preprocessing.model_dump(mode="json"),
        "adaptation": adaptation.model_dump(mode="json"),
        "initialization": origin.model_dump(mode="json"),
        "opset": OPSET,
        "versions": {
            "fewshot-sdk": __version__,
            "onnx": onnx.__version__,
            "onnxruntime-web": VERSION,
            "inner loop": "onnxruntime-web",
        },
        "threshold": 0.0,
        "precision": "fp32",
        "raw": False,
    }
    return {
        "photographs": metadata.preprocessing.channels == 3,
        "labelsMax": metadata.n_way or MOST_LABELS,
        "nWay": metadata.n_way,
        "origin": origin.source or origin.name,
        "preprocessing": described["preprocessing"],
        "onFeatures": on_features,
        "unknown": on_features,
        "heatMap": metadata.backbone.has_positions,
        "stepsDefault": adaptation.steps,
        "learningRate": adaptation.learning_rate,
        "batchSize": adaptation.batch_size,
        "rejectRate": REJECT_RATE,
        "norms": [norm._asdict() for norm in metadata.backbone.frozen_norms()],
        "metadata": described,
    }


def _shaped(model: onnx.ModelProto) -> Params:
    """Arrays of the shapes of a learner's tensors, without memory."""
    found = {}
    for output in model.graph.output:
        if output.name != PROBABILITIES:
            sides = [side.dim_value or 1 for side in output.type.tensor_type.shape.dim]
            found[output.name] = np.broadcast_to(np.float32(0), sides)
    return found
