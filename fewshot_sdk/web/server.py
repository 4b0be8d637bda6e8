"""An exported classifier over HTTP: KServe V2's REST endpoints for programs, a page for people.

Source: the Open Inference Protocol, github.com/kserve/open-inference-protocol, `inference_rest.md`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from pydantic import ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fewshot_sdk.config.onnx_file import INPUT, KNOWN, OUTPUT
from fewshot_sdk.config.recipe import Config, Listed
from fewshot_sdk.errors import ConfigError, FewshotError
from fewshot_sdk.images.decoding import MAX_SIDE
from fewshot_sdk.images.preprocessing import Pixels
from fewshot_sdk.runtime.predictor import Predictor
from fewshot_sdk.version import __version__
from fewshot_sdk.web.gatekeeping import App, Gatekeeper, Refused
from fewshot_sdk.web.listening import listening, run

MAX_BODY, SECONDS, LOOPBACK = 20 * 2**20, 20.0, ("127.0.0.1", "localhost", "[::1]")
VERSION, MOST = "1", 1024  # of the model, which is always the same; pictures in a request
PAGE_POLICY = "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; img-src blob:; connect-src 'self'"


class TensorIn(Config):
    """One input of an inference request."""

    model_config = ConfigDict(extra="ignore")
    name: str
    shape: Listed[int]
    datatype: str
    data: list[Any]


class TensorOut(Config):
    """An output that is asked for."""

    model_config = ConfigDict(extra="ignore")
    name: str


class InferenceRequest(Config):
    """The body of an inference request; what the protocol allows besides is ignored."""

    model_config = ConfigDict(extra="ignore")
    id: str | None = None
    inputs: Listed[TensorIn] = Field(min_length=1)
    outputs: Listed[TensorOut] | None = None


def application(
    predictor: Predictor,
    name: str,
    *,
    hosts: Sequence[str] = LOOPBACK,
    token: str = "",
    max_bytes: int = MAX_BODY,
    seconds: float = SECONDS,
) -> App:
    """The ASGI application that serves one classifier under `/v2/models/NAME`; see Gatekeeper for the limits."""
    registry = CollectorRegistry()
    endpoints = Endpoints(predictor, name, registry)
    routes = [
        Route("/", endpoints.page),
        Route("/serve.js", endpoints.script),
        Route("/predict", endpoints.predict, methods=["POST"]),
        Route("/metrics", endpoints.metrics),
        Route("/v2", endpoints.server),
        Route("/v2/health/live", endpoints.live),
        Route("/v2/health/ready", endpoints.live),
    ]
    for model in (f"/v2/models/{name}", f"/v2/models/{name}/versions/{VERSION}"):
        routes += [
            Route(model, endpoints.model),
            Route(f"{model}/ready", endpoints.live),
            Route(f"{model}/infer", endpoints.infer, methods=["POST"]),
        ]
    app = Starlette(routes=routes, exception_handlers={Refused: _refuse, FewshotError: _explain, 404: _lost})
    return Gatekeeper(app, registry, hosts=hosts, token=token, max_bytes=max_bytes, seconds=seconds)


class Endpoints:
    """What the server answers."""

    def __init__(self, predictor: Predictor, name: str, registry: CollectorRegistry) -> None:
        self._predictor, self._name, self._registry = predictor, name, registry
        self._one_at_a_time = asyncio.Semaphore(1)  # the session has the processor to itself

    async def page(self, _: Request) -> Response:
        """The page for people."""
        return Response(_asset("serve.html"), media_type="text/html", headers={"Content-Security-Policy": PAGE_POLICY})

    async def script(self, _: Request) -> Response:
        """The page's script."""
        return Response(_asset("serve.js"), media_type="text/javascript")

    async def live(self, _: Request) -> Response:
        """A server that answers has its model loaded."""
        return JSONResponse({"live": True, "ready": True, "name": self._name})

    async def server(self, _: Request) -> Response:
        """Server metadata."""
        return JSONResponse({"name": "fewshot", "version": __version__, "extensions": []})

    async def model(self, _: Request) -> Response:
        """Model metadata, with the labels."""
        n_way = len(self._predictor.labels)
        return JSONResponse(
            {
                "name": self._name,
                "versions": [VERSION],
                "platform": "onnxruntime",
                "inputs": [{"name": INPUT, "datatype": "UINT8", "shape": [-1, *self._size()]}],
                "outputs": [
                    {"name": OUTPUT, "datatype": "FP32", "shape": [-1, n_way]},
                    {"name": "labels", "datatype": "BYTES", "shape": [-1]},
                    {"name": KNOWN, "datatype": "BOOL", "shape": [-1]},
                ],
                "parameters": {"labels": list(self._predictor.labels)},
            }
        )

    async def metrics(self, _: Request) -> Response:
        """Counts and times, for Prometheus."""
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)

    async def predict(self, request: Request) -> Response:
        """The body is a picture's file; the answer is its label and probabilities."""
        data = await request.body()
        if not data:
            raise Refused(400, "the body is empty; send the bytes of a picture's file")
        async with self._one_at_a_time:
            (said,) = await run_in_threadpool(self._predictor.predict, [data])
        return JSONResponse(asdict(said))

    async def infer(self, request: Request) -> Response:
        """The protocol's inference: pictures of one size in; probabilities, nearest labels, and whether known, out."""
        try:
            asked = InferenceRequest.from_json(await request.body())
        except (ConfigError, ValidationError) as error:
            raise Refused(400, f"not an inference request: {error}") from None
        pixels = self._pixels(asked.inputs)
        wanted = [OUTPUT, "labels", KNOWN] if not asked.outputs else [output.name for output in asked.outputs]
        if odd := sorted({*wanted} - {OUTPUT, "labels", KNOWN}):
            raise Refused(400, f"no output {odd[0]!r}; the outputs are {OUTPUT}, labels and {KNOWN}")
        async with self._one_at_a_time:
            rows = await run_in_threadpool(self._predictor.probabilities, pixels)
        labels = [self._predictor.labels[i] for i in rows.argmax(1)]
        outputs = [
            {"name": OUTPUT, "datatype": "FP32", "shape": list(rows.shape), "data": rows.ravel().tolist()},
            {"name": "labels", "datatype": "BYTES", "shape": [len(labels)], "data": labels},
        ]
        known = (rows.max(1) >= self._predictor.metadata.threshold).tolist()
        outputs.append({"name": KNOWN, "datatype": "BOOL", "shape": [len(known)], "data": known})
        told = [output for output in outputs if output["name"] in wanted]
        found = {"model_name": self._name, "model_version": VERSION, "outputs": told}
        return JSONResponse(found if asked.id is None else {**found, "id": asked.id})

    def _size(self) -> tuple[int, int, int]:
        """Height, width and channels of a picture; -1 is any."""
        seen = self._predictor.metadata.preprocessing
        return (seen.height, seen.width, seen.channels) if self._predictor.metadata.raw else (-1, -1, 3)

    def _pixels(self, inputs: Sequence[TensorIn]) -> Pixels:
        (given, *others) = inputs
        if others or given.name != INPUT or given.datatype != "UINT8":
            told = ", ".join(f"{i.name!r} of {i.datatype}" for i in inputs)
            raise Refused(400, f"expected one input {INPUT!r} of datatype UINT8, found {told}")
        size, shape = self._size(), given.shape
        fits = len(shape) == 4 and all(want in (-1, side) for want, side in zip(size, shape[1:], strict=True))
        if not fits or min(shape) < 1 or max(shape[1:]) > MAX_SIDE:
            wanted = ", ".join(f"1 to {MAX_SIDE}" if side < 0 else str(side) for side in size)
            raise Refused(400, f"expected shape [n, {wanted}], found {list(shape)}")
        if shape[0] > MOST:
            raise Refused(400, f"at most {MOST:,} pictures are taken at once, found {shape[0]:,}; send them in parts")
        try:
            values = np.array(given.data).ravel()
        except (ValueError, TypeError, OverflowError):
            values = np.empty(0, object)
        if values.dtype.kind not in "iuf":
            raise Refused(400, "data: expected numbers, nested alike or flat")
        inside = (values >= 0) & (values <= 255)
        if values.size != math.prod(given.shape) or not inside.all() or not (values % 1 == 0).all():
            raise Refused(400, f"data: expected {math.prod(given.shape)} whole numbers from 0 to 255")
        return values.astype(np.uint8).reshape(given.shape)


def serve(
    model: Path, *, host: str, port: int, token: str, allowed: Sequence[str], max_bytes: int,
    ready: Callable[[int], None] = lambda port: None,  # noqa: ARG005
) -> None:  # fmt: skip
    """Serve an exported file until SIGINT or SIGTERM; requests under way are answered first.

    ready: called with the port once it is listened on. Raises BundleError if the file is no export of ours, ConfigError
    if others could reach it without a token, or if the port cannot be had.
    """
    if host not in ("127.0.0.1", "localhost", "::1") and not token:
        raise ConfigError(f"--host {host} lets other machines in; give them a --token, or leave the host out")
    app = application(Predictor(model), model.stem, hosts=allowed, token=token, max_bytes=max_bytes, seconds=SECONDS)
    with listening(host, port) as listener:
        ready(listener.getsockname()[1])
        run(app, listener, SECONDS)


async def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return JSONResponse({"error": error.reason}, error.status)


async def _explain(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 400)


async def _lost(request: Request, _: Exception) -> Response:
    return JSONResponse({"error": f"no {request.url.path} here; see /v2"}, 404)


def _asset(name: str) -> str:
    return resources.files("fewshot_sdk").joinpath("web", "assets", name).read_text(encoding="utf-8")
