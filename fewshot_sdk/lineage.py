"""Where something comes from: classifier <- initialization <- data <- command. No PyTorch is needed to tell."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from fewshot_sdk.bundles import format_of
from fewshot_sdk.config import InnerLoop
from fewshot_sdk.errors import BundleError
from fewshot_sdk.files import sha256
from fewshot_sdk.hub import Opened, open_named
from fewshot_sdk.records import (
    ClassifierConfig,
    DeltaConfig,
    Evaluation,
    InitializationConfig,
    Origin,
    Provenance,
)
from fewshot_sdk.regression import REGRESSION, REGRESSOR, Fit, NumberMetadata, RegressionConfig, RegressorConfig


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """What an initialization, a classifier or an exported file says of its making.

    initialization: its preset's name; source: user/repo@commit if it is the Hub's; data: the split it was
    trained on, if known here, and `data_sha256`, of what its classes and pixels are made of.
    """

    kind: str
    initialization: str
    sha256: str
    source: str
    provenance: Provenance
    data: str = ""
    labels: tuple[str, ...] = ()
    adaptation: InnerLoop | None = None
    seed: int | None = None
    evaluations: tuple[Evaluation | Fit, ...] = field(default=())

    def steps(self) -> list[str]:
        """The chain, what was made last first."""
        name = self.source or self.initialization
        made, origin = self.provenance, f"{name} (sha256 {self.sha256[:16]}...)"
        data = f"{self.data or 'data'}, sha256 {made.data_sha256[:16]}..."
        chain = [f"initialization {origin}", f"trained on {data}", f"by {made.command}"]
        if self.adaptation is not None:
            seed = "" if self.seed is None else f", seed {self.seed}"
            steps = f"{self.adaptation.steps} steps of {self.adaptation.optimizer}{seed}"
            classes = f" of {len(self.labels)} classes ({', '.join(self.labels)})" if self.labels else ""
            chain.insert(0, f"{self.kind}{classes}, {steps}")
        return chain


def lineage(name: str | Path) -> Lineage:
    """The lineage of an initialization (bundled, a folder, user/repo), of a classifier's folder or of an .onnx file.

    Raises BundleError for anything else and for files that were changed, HubError if the Hub refuses.
    """
    if Path(name).is_file():
        return _of_file(Path(name))
    opened = open_named(name)
    try:
        form = str(json.loads(opened.files["config.json"])["format"])
    except (KeyError, ValueError, TypeError, RecursionError):
        raise BundleError(f"{opened.folder}: expected a config.json that names its format; was it made here?") from None
    if form.startswith(("fewshot-sdk classifier", "fewshot-sdk delta")):
        kind = ClassifierConfig if form.startswith("fewshot-sdk classifier") else DeltaConfig
        config = kind.from_json(opened.files["config.json"])
        return _adapted("classifier", config.initialization, config.labels, config.adaptation, config.seed)
    if form == REGRESSOR:
        curve = RegressorConfig.from_json(opened.files["config.json"])
        return _adapted(_kind(curve), curve.initialization, (), curve.adaptation, curve.seed)
    return _of_initialization(opened)


def _of_initialization(opened: Opened) -> Lineage:
    text = opened.files["config.json"]
    kind = RegressionConfig if format_of(text) == REGRESSION else InitializationConfig
    config = kind.from_json(text)
    weights = opened.files.get("model.safetensors", b"") + opened.files.get("inner_state.safetensors", b"")
    return Lineage(
        kind="initialization",
        initialization=config.recipe.preset,
        sha256=sha256(weights),
        source=opened.source,
        provenance=config.provenance,
        data=str(config.recipe.data),
        evaluations=config.evaluations,
    )


def _of_file(path: Path) -> Lineage:
    from fewshot_sdk.regressor_runtime import NumberPredictor
    from fewshot_sdk.runtime import Predictor

    try:
        curve = NumberPredictor(path).metadata
    except BundleError:
        found = Predictor(path).metadata
    else:
        return _adapted(f"exported {_kind(curve)}", curve.initialization, (), curve.adaptation, None)
    return _adapted("exported classifier", found.initialization, found.labels, found.adaptation, None)


def _kind(curve: RegressorConfig | NumberMetadata) -> str:
    return f"regressor of {curve.output} from {', '.join(curve.inputs)}"


def _adapted(kind: str, origin: Origin, labels: tuple[str, ...], adaptation: InnerLoop, seed: int | None) -> Lineage:
    return Lineage(
        kind=kind,
        initialization=origin.name,
        sha256=origin.sha256,
        source=origin.source,
        provenance=origin.provenance,
        data=origin.data,
        labels=labels,
        adaptation=adaptation,
        seed=seed,
    )
