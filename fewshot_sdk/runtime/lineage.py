"""Where a file comes from: classifier <- initialization <- data <- command; works without PyTorch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from fewshot_sdk.config.edits import Edit
from fewshot_sdk.config.inspection import InspectionMetadata, InspectorConfig
from fewshot_sdk.config.recipe import InnerLoop
from fewshot_sdk.config.records import (
    ClassifierConfig,
    Evaluation,
    InitializationConfig,
    Origin,
    Provenance,
)
from fewshot_sdk.config.regression import Fit, NumberMetadata, RegressionConfig, RegressorConfig
from fewshot_sdk.errors import BundleError
from fewshot_sdk.storage.bundles import FORMATS, format_of
from fewshot_sdk.storage.files import sha256
from fewshot_sdk.storage.repositories import Opened, open_named


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """The recorded origin of an initialization, a classifier or an exported file.

    initialization: its name, that of its recipe unless it is bundled; source: user/repo@commit if it is from the Hub;
    data: the split it was trained on, if known; the hash of that split's classes and pixels is in `provenance`.
    edits: what was changed in the classifier after training, the latest last.
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
    edits: tuple[Edit, ...] = ()

    def steps(self) -> list[str]:
        """The chain, one line a step, the latest first."""
        name = self.source or self.initialization
        made, origin = self.provenance, f"{name} (sha256 {self.sha256[:16]}...)"
        hashed = f", sha256 {made.data_sha256[:16]}..." if made.data_sha256 else ""
        chain = [f"initialization {origin}", f"trained on {self.data or 'data'}{hashed}", f"by {made.command}"]
        for start in made.chain:
            named = f"{start.source or start.name} (sha256 {start.sha256[:16]}...)"
            chain += [
                f"which went on from {named}",
                f"trained on {start.data or 'data'}",
                f"by {start.provenance.command}",
            ]
        if of := made.published:
            chain.append(f"from weights {of.file} (sha256 {of.sha256[:16]}...) of {of.package}, {of.licence}")
        if self.adaptation is not None:
            seed = "" if self.seed is None else f", seed {self.seed}"
            steps = f"{self.adaptation.steps} steps of {self.adaptation.optimizer}{seed}"
            classes = f" of {len(self.labels)} classes ({', '.join(self.labels)})" if self.labels else ""
            chain.insert(0, f"{self.kind}{classes}, {steps}")
        elif self.kind != "initialization":
            chain.insert(0, self.kind if self.seed is None else f"{self.kind}, seed {self.seed}")
        for edit in self.edits:
            chain.insert(0, f"{edit} (before: sha256 {edit.sha256[:16]}...)")
        return chain


def lineage(name: str | Path) -> Lineage:
    """The lineage of an initialization (bundled, a folder, user/repo), of a classifier's folder or of an .onnx file.

    Raises BundleError for anything else and for files that were changed, HubError if the Hub refuses.
    """
    if Path(name).is_file():
        return _of_file(Path(name))
    opened = open_named(name)
    form = FORMATS.get(str(format_of(opened.files.get("config.json", b""))))
    if form is None:
        raise BundleError(f"{opened.folder}: expected a config.json that names its format; was it written by fewshot?")
    config = form.config.from_json(opened.files["config.json"])
    if isinstance(config, ClassifierConfig):
        return _adapted(
            "classifier", config.initialization, config.labels, config.adaptation, config.seed, config.edits
        )
    if isinstance(config, InspectorConfig):
        return _adapted(_inspects(config), config.initialization, (), None, config.seed)
    if isinstance(config, RegressorConfig):
        return _adapted(_kind(config), config.initialization, (), config.adaptation, config.seed)
    return _of_initialization(opened, config)


def _of_initialization(opened: Opened, config: InitializationConfig | RegressionConfig) -> Lineage:
    weights = opened.files.get("model.safetensors", b"") + opened.files.get("inner_state.safetensors", b"")
    return Lineage(
        kind="initialization",
        initialization=config.bundled or config.recipe.preset,
        sha256=sha256(weights),
        source=opened.source,
        provenance=config.provenance,
        data=str(config.recipe.data),
        evaluations=config.evaluations,
    )


def _of_file(path: Path) -> Lineage:
    from fewshot_sdk.runtime.inspector import InspectionPredictor
    from fewshot_sdk.runtime.learner import Learner
    from fewshot_sdk.runtime.opening import open_file
    from fewshot_sdk.runtime.regressor import NumberPredictor

    found = open_file(path)
    if isinstance(found, NumberPredictor):
        regressor = found.metadata
        return _adapted(f"exported {_kind(regressor)}", regressor.initialization, (), regressor.adaptation, None)
    if isinstance(found, InspectionPredictor):
        return _adapted(f"exported {_inspects(found.metadata)}", found.metadata.initialization, (), None, None)
    if isinstance(found, Learner):
        return _adapted("exported learner", found.metadata.initialization, (), found.metadata.adaptation, None)
    classifier = found.metadata
    return _adapted(
        "exported classifier", classifier.initialization, classifier.labels, classifier.adaptation, None,
        classifier.edits,
    )  # fmt: skip


def _inspects(found: InspectorConfig | InspectionMetadata) -> str:
    limit = "no limit" if found.limit is None else f"limit {found.limit:.3f}"
    return f"inspector from {found.good} good picture{'' if found.good == 1 else 's'}, {limit}"


def _kind(regressor: RegressorConfig | NumberMetadata) -> str:
    return f"regressor of {regressor.output} from {', '.join(regressor.inputs)}"


def _adapted(
    kind: str, origin: Origin, labels: tuple[str, ...], adaptation: InnerLoop | None, seed: int | None,
    edits: tuple[Edit, ...] = (),
) -> Lineage:  # fmt: skip
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
        edits=edits,
    )
