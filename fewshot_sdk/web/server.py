"""Serves an exported classifier over HTTP: KServe V2's REST endpoints for programs, a page for people.

Source: the Open Inference Protocol, github.com/kserve/open-inference-protocol, `inference_rest.md`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib import resources
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fewshot_sdk.config.onnx_file import INPUT, KNOWN, OUTPUT
from fewshot_sdk.config.recipe import Rows
from fewshot_sdk.errors import ConfigError, FewshotError
from fewshot_sdk.runtime.predictor import Predictor
from fewshot_sdk.version import __version__
from fewshot_sdk.web.inference import inference_request, pixels
from fewshot_sdk.web.limits import LOOPBACK, MAX_BODY, SECONDS, App, Gatekeeper, Refused, listening, run

VERSION = "1"  # of the model; there is never another
UNSPECIFIED = "application/x-www-form-urlencoded"  # the default of curl and urllib for any body
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; img-src blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


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
    handlers = {Refused: _refuse, FewshotError: _explain, MemoryError: _exhausted, 404: _lost}
    app = Starlette(routes=routes, exception_handlers=handlers)
    return Gatekeeper(app, registry, hosts=hosts, token=token, max_bytes=max_bytes, seconds=seconds)


class Endpoints:
    """The server's endpoints."""

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
        """Health: a server that answers has loaded its model."""
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
        """From the bytes of a picture file to its label and probabilities."""
        _takes(request, "image/*", "application/octet-stream")
        data = await request.body()
        if not data:
            raise Refused(400, "the body is empty; send the bytes of a picture file")
        return await self._alone(self._predict, data)

    async def infer(self, request: Request) -> Response:
        """The protocol's inference: from pictures of one size to probabilities, nearest labels and `known`."""
        _takes(request, "application/json")
        return await self._alone(self._infer, await request.body())

    async def _alone(self, work: Callable[[bytes], Response], body: bytes) -> Response:
        """The result of `work`, off the event loop and one at a time: parsing JSON takes many times its size."""
        async with self._one_at_a_time:
            return await run_in_threadpool(work, body)

    def _predict(self, data: bytes) -> Response:
        (prediction,) = self._predictor.predict([data])
        return JSONResponse(asdict(prediction))

    def _infer(self, body: bytes) -> Response:
        request = inference_request(body)
        wanted = request.wanted
        pictures = pixels(request.pictures, self._size())
        rows, known = self._predictor.answers(pictures, threshold=request.threshold)
        labels = [self._predictor.labels[i] for i in rows.argmax(1)]
        outputs = [
            {"name": OUTPUT, "datatype": "FP32", "shape": list(rows.shape), "data": rows.ravel().tolist()},
            {"name": "labels", "datatype": "BYTES", "shape": [len(labels)], "data": labels},
        ]
        outputs.append({"name": KNOWN, "datatype": "BOOL", "shape": [len(known)], "data": known.tolist()})
        answer = {
            "model_name": self._name,
            "model_version": VERSION,
            "outputs": [output for output in outputs if output["name"] in wanted],
        }
        return JSONResponse(answer if request.id is None else {**answer, "id": request.id})

    def _size(self) -> tuple[int, int, int]:
        """Height, width and channels of a picture; -1 means any."""
        size = self._predictor.metadata.preprocessing
        return (size.height, size.width, size.channels) if self._predictor.metadata.raw else (-1, -1, 3)


def serve(
    model: Path, *, host: str, port: int, token: str, allowed: Sequence[str], max_bytes: int,
    ready: Callable[[int], None] = lambda port: None,  # noqa: ARG005
) -> None:  # fmt: skip
    """Serve an exported file until SIGINT or SIGTERM; requests under way are still answered.

    ready: called with the port once the server listens. Raises BundleError if the file is not an exported classifier,
    ConfigError if other machines could reach it without a token, or if the port is not available.
    """
    if host not in ("127.0.0.1", "localhost", "::1") and not token:
        raise ConfigError(f"--host {host} lets other machines in; set a --token, or leave out --host")
    predictor = Predictor(model)
    if isinstance(predictor.preprocessing, Rows):
        raise ConfigError(f"{model} takes features, and fewshot serve is for pictures; run it with fewshot predict")
    app = application(predictor, model.stem, hosts=allowed, token=token, max_bytes=max_bytes, seconds=SECONDS)
    with listening(host, port) as listener:
        ready(listener.getsockname()[1])
        run(app, listener, SECONDS)


async def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return JSONResponse({"error": error.reason}, error.status)


async def _exhausted(_: Request, __: Exception) -> Response:
    return JSONResponse({"error": "there is not enough memory for this request; send a smaller one"}, 503)


async def _explain(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 400)


async def _lost(request: Request, _: Exception) -> Response:
    return JSONResponse({"error": f"no {request.url.path} here; see /v2"}, 404)


def _takes(request: Request, *kinds: str) -> None:
    """Raises Refused if the Content-Type is none of these; `image/*` stands for any image."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not {kind, f"{kind.partition('/')[0]}/*"} & {*kinds, "", UNSPECIFIED}:
        raise Refused(415, f"Content-Type: expected {' or '.join(kinds)}, found {kind}")


def _asset(name: str) -> str:
    return resources.files("fewshot_sdk").joinpath("web", "assets", name).read_text(encoding="utf-8")
