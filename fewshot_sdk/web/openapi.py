"""The server described in OpenAPI 3.1, for tools that make clients or try a server out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fewshot_sdk.config.onnx_file import INPUT, THRESHOLD
from fewshot_sdk.version import __version__
from fewshot_sdk.web.inference import MOST
from fewshot_sdk.web.limits import HEALTH
from fewshot_sdk.web.results import DATATYPES, JSON_SIZE

Schema = dict[str, object]
_BYTES: Schema = {"schema": {}}  # any bytes
_PROBABILITY: Schema = {"type": "number", "minimum": 0, "maximum": 1}
_REASONS = {
    "400": "The request is not one that this server understands; `error` tells why.",
    "401": "A token is needed.",
    "403": "The Host, or the page that the request comes from, is not allowed.",
    "408": "The body took too long to arrive.",
    "413": "The body is too large.",
    "415": "The body has another type, or is compressed.",
    "503": "The server is busy or has too little memory; ask again after Retry-After seconds.",
}


def described(name: str, labels: Sequence[str], *, max_bytes: int, version: str) -> Mapping[str, object]:
    """The OpenAPI description of a server of one classifier.

    name: the model's; labels: its classes; max_bytes: the largest body; version: the model's.
    """
    paths: dict[str, Schema] = {
        "/predict": {"post": _predict(labels)},
        "/labels": {"get": _get("The labels of the model.", _object(name={"const": name}, labels=_texts()))},
        "/v2": {"get": _get("What the server is.", _object(name=_text(), version=_text(), extensions=_texts()))},
        "/metrics": {"get": _got("Counts and times, for Prometheus.", {"text/plain": {"schema": {"type": "string"}}})},
        "/openapi.json": {"get": _get("This description.", {"type": "object"})},
    }
    alive = _object(live={"const": True}, ready={"const": True})
    paths |= {path: {"get": _get("Whether the server is up.", alive, probe=True)} for path in HEALTH}
    for model in (f"/v2/models/{name}", f"/v2/models/{name}/versions/{version}"):
        paths[model] = {"get": _get("What the model takes and gives.", _metadata())}
        paths[f"{model}/ready"] = {"get": _get("Whether the model can answer.", alive, probe=True)}
        paths[f"{model}/infer"] = {"post": _infer()}
    bearer = {"type": "http", "scheme": "bearer", "description": "Only where the server was started with a token."}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"fewshot serve: {name}",
            "version": __version__,
            "description": f"A classifier of pictures. Bodies have at most {max_bytes:,} bytes. Errors are JSON with "
            "`error` and `request_id`; each answer has X-Request-Id, the client's own if it gave one.",
        },
        "paths": paths,
        "components": {
            "securitySchemes": {"token": bearer},
            "schemas": {"Error": _object(error=_text(), request_id=_text())},
            "responses": {code: _failure(code, reason) for code, reason in _REASONS.items()},
        },
        "security": [{}, {"token": []}],
    }


def _predict(labels: Sequence[str]) -> Schema:
    chances: Schema = {"type": "object", "properties": dict.fromkeys(labels, _PROBABILITY)}
    label: Schema = {"enum": [*labels, None], "description": "null: the picture seems to show none of the classes"}
    threshold: Schema = {"name": "threshold", "in": "query", "required": False, "schema": _PROBABILITY}
    answer = _object(
        label=label,
        nearest={"enum": list(labels)},
        probability=_PROBABILITY,
        probabilities={**chances, "required": list(labels), "additionalProperties": False},
    )
    return {
        "summary": "From a picture file to its label and probabilities.",
        "parameters": [threshold],
        "requestBody": {"required": True, "content": {"application/octet-stream": _BYTES, "image/*": _BYTES}},
        "responses": {
            "200": _json("The prediction.", answer),
            **_failures("400", "401", "403", "408", "413", "415", "503"),
        },
    }


def _infer() -> Schema:
    tensor: Schema = {
        "type": "object",
        "required": ["name", "shape", "datatype"],
        "properties": {
            "name": {"enum": [INPUT, THRESHOLD]},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}, "maxItems": 4},
            "datatype": {"enum": ["UINT8", "FP32"]},
            "data": {"type": "array", "description": "flat or nested evenly; or `binary_data_size` in parameters"},
            "parameters": {"type": "object"},
        },
    }
    wanted: Schema = {"type": "object", "required": ["name"], "properties": {"name": {"enum": list(DATATYPES)}}}
    request: Schema = {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": _text(),
            "inputs": {"type": "array", "minItems": 1, "maxItems": 2, "items": tensor},
            "outputs": {"type": "array", "items": wanted},
            "parameters": {"type": "object"},
        },
        "description": f"at most {MOST:,} pictures",
    }
    output = _object(name={"enum": list(DATATYPES)}, datatype=_text(), shape={"type": "array"})
    output["properties"] = {**_properties(output), "data": {"type": "array"}, "parameters": {"type": "object"}}
    answer = _object(model_name=_text(), model_version=_text(), outputs={"type": "array", "items": output})
    answer["properties"] = {**_properties(answer), "id": _text()}
    binary: Schema = {"name": JSON_SIZE, "in": "header", "required": False, "schema": {"type": "integer", "minimum": 0}}
    found = _json("The outputs; as bytes behind the JSON where the request wants that.", answer)
    found["content"] = {"application/json": {"schema": answer}, "application/octet-stream": _BYTES}
    return {
        "summary": "From pictures of one size to probabilities, labels and `known` (Open Inference Protocol).",
        "parameters": [binary],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": request}, "application/octet-stream": _BYTES},
        },
        "responses": {"200": found, **_failures("400", "401", "403", "408", "413", "415", "503")},
    }


def _metadata() -> Schema:
    tensor = _object(name=_text(), datatype=_text(), shape={"type": "array", "items": {"type": "integer"}})
    tensors: Schema = {"type": "array", "items": tensor}
    return _object(
        name=_text(), versions=_texts(), platform=_text(), inputs=tensors, outputs=tensors,
        parameters=_object(labels=_texts()),
    )  # fmt: skip


def _get(summary: str, schema: Schema, *, probe: bool = False) -> Schema:
    return _got(summary, {"application/json": {"schema": schema}}, probe=probe)


def _got(summary: str, content: Mapping[str, object], *, probe: bool = False) -> Schema:
    codes = ("413",) if probe else ("401", "403", "413", "503")
    answers: Schema = {"200": {"description": summary, "content": content}, **_failures(*codes)}
    operation: Schema = {"summary": summary, "responses": answers}
    if probe:
        operation["security"] = []
    return operation


def _json(description: str, schema: Schema) -> Schema:
    answer: Schema = {"description": description, "content": {"application/json": {"schema": schema}}}
    return answer


def _failure(code: str, reason: str) -> Schema:
    answer = _json(reason, {"$ref": "#/components/schemas/Error"})
    if code == "503":
        answer["headers"] = {"Retry-After": {"schema": {"type": "integer"}}}
    return answer


def _failures(*codes: str) -> Schema:
    return {code: {"$ref": f"#/components/responses/{code}"} for code in codes}


def _object(**properties: Schema) -> Schema:
    schema: Schema = {"type": "object", "required": list(properties), "properties": properties}
    return schema


def _properties(schema: Schema) -> Mapping[str, object]:
    found = schema["properties"]
    assert isinstance(found, dict)
    return found


def _text() -> Schema:
    return {"type": "string"}


def _texts() -> Schema:
    return {"type": "array", "items": {"type": "string"}}
