"""Render docs/metadata.schema.json: what the files that we write say of themselves.

python -m tests.render_schema
"""

from __future__ import annotations

import json

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from fewshot_sdk.config.onnx_file import LearnerMetadata, OnnxMetadata
from fewshot_sdk.config.regression import NumberMetadata
from tests.conftest import REPOSITORY

PAGE = REPOSITORY / "docs" / "metadata.schema.json"
KINDS: dict[type[BaseModel], str] = {
    OnnxMetadata: "a classifier",
    LearnerMetadata: "a learner",
    NumberMetadata: "a regressor",
}


def rendered() -> str:
    """The schema of the JSON under `fewshot_sdk` in a file's metadata_props; later versions may add keys."""
    refs, found = models_json_schema([(kind, "validation") for kind in KINDS])
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The metadata of a file by fewshot-sdk, under the key fewshot_sdk",
        "anyOf": [{**refs[kind, "validation"], "description": f"of {name}"} for kind, name in KINDS.items()],
        "$defs": _open(found["$defs"]),
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _open(schema: object) -> object:
    """The schema without the refusal of other keys, and without titles, which repeat the keys' names."""
    if isinstance(schema, list):
        return [_open(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: value for key, value in schema.items() if not (key == "title" and isinstance(value, str))}
    return {key: _open(value) for key, value in kept.items() if not (key == "additionalProperties" and value is False)}


if __name__ == "__main__":
    PAGE.write_text(rendered(), encoding="utf-8")
