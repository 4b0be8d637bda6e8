"""The table of all kinds of backbones, and their settings.

To add one, add its settings and its row here, its layers in `nets/` and its ONNX nodes in `graphs/`: CONTRIBUTING
names the files. The functions that a row names are imported on first use, so settings need no PyTorch or onnx.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import GetJsonSchemaHandler, PlainValidator, SerializeAsAny
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from fewshot_sdk.config.backbone import BackboneSettings as BackboneSettings
from fewshot_sdk.config.backbone import FrozenNorm as FrozenNorm
from fewshot_sdk.config.embeddings import Embeddings as Embeddings
from fewshot_sdk.config.folded import EfficientNet as EfficientNet
from fewshot_sdk.config.folded import Residual as Residual
from fewshot_sdk.config.folded import Timm as Timm
from fewshot_sdk.config.layered import GROUP as GROUP
from fewshot_sdk.config.layered import Conv4 as Conv4
from fewshot_sdk.config.layered import Mlp as Mlp
from fewshot_sdk.config.layered import Norm as Norm
from fewshot_sdk.errors import ConfigError
from fewshot_sdk.tables import row_of


@dataclass(frozen=True, kw_only=True)
class BackboneRow:
    """A kind of backbone: its settings, and the functions that implement it, each as `module:name` and its type.

    layers: the network up to the features, `nets.network.Layers`.
    graph: its ONNX nodes, `graphs.classifier.Features`; or exporter: another library's graph of its body,
    `export.classifier.Exporter`, which is exported as float32 only.
    quantized: the operators of its graph that an int8 export computes in 8 bits; the others stay in float32.
    learner: its forward and backward pass as nodes, `graphs.learner.graph.NewForm`; empty: it has no learner.
    pretraining_start: initializes its weights in place, `meta.pretraining.Start`; pretraining_end: the weights that
    pre-training leaves, `meta.pretraining.End`; both empty: it cannot be pre-trained.
    compiled: its C code, `engine.compiled.CompiledNetwork`; empty: it runs in PyTorch.
    """

    settings: type[BackboneSettings]
    layers: str
    graph: str = ""
    exporter: str = ""
    quantized: tuple[str, ...] = ("Conv", "MaxPool", "Relu", "Add", "GlobalAveragePool", "Gemm")
    learner: str = ""
    pretraining_start: str = ""
    pretraining_end: str = ""
    compiled: str = ""


BACKBONES: dict[str, BackboneRow] = {
    "conv4": BackboneRow(
        settings=Conv4,
        layers="fewshot_sdk.nets.conv4:layers",
        graph="fewshot_sdk.graphs.conv4:features",
        learner="fewshot_sdk.graphs.learner.layered:conv4_form",
        pretraining_start="fewshot_sdk.nets.conv4:draw",
        pretraining_end="fewshot_sdk.nets.conv4:at_length",
        compiled="fewshot_sdk.engine.compiled:compile_conv4",
    ),
    "mlp": BackboneRow(
        settings=Mlp,
        layers="fewshot_sdk.nets.mlp:layers",
        graph="fewshot_sdk.graphs.mlp:features",
        learner="fewshot_sdk.graphs.learner.layered:mlp_form",
    ),
    "residual": BackboneRow(
        settings=Residual,
        layers="fewshot_sdk.nets.residual:layers",
        graph="fewshot_sdk.graphs.residual:features",
        learner="fewshot_sdk.graphs.learner.residual:ResidualForm",
        pretraining_start="fewshot_sdk.nets.residual:draw",
        pretraining_end="fewshot_sdk.nets.residual:folded",
    ),
    "efficientnet": BackboneRow(
        settings=EfficientNet,
        layers="fewshot_sdk.nets.efficientnet:layers",
        graph="fewshot_sdk.graphs.efficientnet:features",
        quantized=("Conv", "Clip", "Add"),  # the summary and the head are little work, and lose most
    ),
    "timm": BackboneRow(
        settings=Timm, layers="fewshot_sdk.nets.timm:layers", exporter="fewshot_sdk.export.timm:timm_features"
    ),
    "embeddings": BackboneRow(
        settings=Embeddings,
        layers="fewshot_sdk.nets.embeddings:layers",
        graph="fewshot_sdk.graphs.embeddings:features",
    ),
}


def check_pretraining(backbone: BackboneSettings) -> None:
    """Raises ConfigError unless a network of these settings can be pre-trained."""
    able = [kind for kind, row in BACKBONES.items() if row.pretraining_start]
    if backbone.kind not in able:
        raise ConfigError(f"pretraining: expected a {' or '.join(able)} network, found {backbone.kind}")
    backbone.check_pretraining()


def _of_its_kind(value: object) -> BackboneSettings:
    """The settings of the `kind` that a mapping names. Raises ConfigError, listing the known kinds."""
    if isinstance(value, BackboneSettings):
        return value
    if not isinstance(value, Mapping) or not isinstance(kind := value.get("kind"), str):
        raise ConfigError(
            f"backbone: expected settings with a kind, one of {', '.join(BACKBONES)}, found {value!r:.200}"
        )
    return row_of(BACKBONES, kind, "backbone").settings.model_validate(dict(value))


class _AnyKind:
    """The JSON Schema of a backbone: the settings of any one kind, which is named."""

    @classmethod
    def __get_pydantic_json_schema__(cls, _: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        kinds = [handler(row.settings.__pydantic_core_schema__) for row in BACKBONES.values()]
        return {"anyOf": [{"allOf": [kind], "required": ["kind"]} for kind in kinds]}


Backbone = Annotated[SerializeAsAny[BackboneSettings], PlainValidator(_of_its_kind), _AnyKind]


def spread(n_features: int, kind: str) -> float:
    """The divisor that turns squared feature distances into logits: 4 n_features / the kind's sharpness."""
    return 4 * n_features / BACKBONES[kind].settings.sharpness
