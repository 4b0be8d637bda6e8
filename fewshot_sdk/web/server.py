"""Serves an exported classifier over HTTP: KServe V2's REST endpoints for programs, a page for people.

Source: the Open Inference Protocol, github.com/kserve/open-inference-protocol, `inference_rest.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fewshot_sdk.config.onnx_file import INPUT, KNOWN, OUTPUT
from fewshot_sdk.config.recipe import Rows
from fewshot_sdk.errors import ConfigError, FewshotError
from fewshot_sdk.runtime.predictor import Predictor
from fewshot_sdk.version import __version__
from fewshot_sdk.web.access import App, Visit, access_log
from fewshot_sdk.web.connections import listening, run
from fewshot_sdk.web.inference import inference_request, pixels
from fewshot_sdk.web.limits import (
    HEALTH,
    LONGEST,
    LOOPBACK,
    MAX_BODY,
    PAGE,
    SECONDS,
    Gatekeeper,
    Queue,
    Refused,
    refusal,
)
from fewshot_sdk.web.openapi import described
from fewshot_sdk.web.pages import asset
from fewshot_sdk.web.results import DATATYPES, JSON_SIZE, LABELS, Result, inference_answer

VERSION = "1"  # of the model; there is never another
UNSPECIFIED = "application/x-www-form-urlencoded"  # the default of curl and urllib for any body
_KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src blob: data:; media-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def application(
    predictor: Predictor,
    name: str,
    *,
    hosts: Sequence[str] = LOOPBACK,
    token: str = "",
    max_bytes: int = MAX_BODY,
    seconds: float = SECONDS,
    patience: float | None = None,
    note: Callable[[Visit], None] | None = None,
) -> App:
    """The ASGI application that serves one classifier under `/v2/models/NAME`; see Gatekeeper for the limits.

    patience: seconds that a request waits for its turn, by default PATIENCE; note: is told of each answered request.
    """
    registry = CollectorRegistry()
    endpoints = Endpoints(predictor, name, registry, Queue(patience), max_bytes)
    routes = [
        *(Route(path, endpoints.page) for path in PAGE),
        Route("/labels", endpoints.labels),
        Route("/predict", endpoints.predict, methods=["POST"]),
        Route("/metrics", endpoints.metrics),
        Route("/openapi.json", endpoints.openapi),
        Route("/v2", endpoints.server),
        *(Route(path, endpoints.health) for path in HEALTH),
    ]
    models = (f"/v2/models/{name}", f"/v2/models/{name}/versions/{VERSION}")
    probes = (*HEALTH, *(f"{model}/ready" for model in models))
    for model in models:
        routes += [
            Route(model, endpoints.model),
            Route(f"{model}/ready", endpoints.health),
            Route(f"{model}/infer", endpoints.infer, methods=["POST"]),
        ]
    handlers = {
        Refused: _refuse, FewshotError: _explain, MemoryError: _exhausted, 404: _lost, 405: _misused, 500: _failed,
    }  # fmt: skip
    app = Starlette(routes=routes, exception_handlers=handlers)
    return Gatekeeper(
        app, registry, hosts=hosts, token=token, max_bytes=max_bytes, seconds=seconds, probes=probes, note=note
    )


class Endpoints:
    """The server's endpoints."""

    def __init__(
        self, predictor: Predictor, name: str, registry: CollectorRegistry, queue: Queue, max_bytes: int
    ) -> None:
        self._predictor, self._name, self._registry, self._max_bytes = predictor, name, registry, max_bytes
        self._queue = queue  # the session has the processor to itself

    async def page(self, request: Request) -> Response:
        """The page for people, and its scripts and styles."""
        name = request.url.path.removeprefix("/") or "serve.html"
        kind = _KINDS[name.rpartition(".")[2]]
        return Response(asset(name), media_type=kind, headers={"Content-Security-Policy": PAGE_POLICY})

    async def labels(self, _: Request) -> Response:
        """What the page tells of the model."""
        return JSONResponse({"name": self._name, "labels": list(self._predictor.labels)})

    async def health(self, _: Request) -> Response:
        """Health: a server that answers has loaded its model. It tells nothing else, for it answers anybody."""
        return JSONResponse({"live": True, "ready": True})

    async def openapi(self, _: Request) -> Response:
        """What this server does, as OpenAPI describes it."""
        labels = self._predictor.labels
        return JSONResponse(described(self._name, labels, max_bytes=self._max_bytes, version=VERSION))

    async def server(self, _: Request) -> Response:
        """Server metadata."""
        return JSONResponse({"name": "fewshot", "version": __version__, "extensions": ["binary_tensor_data"]})

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
                    {"name": name, "datatype": datatype, "shape": [-1, n_way] if name == OUTPUT else [-1]}
                    for name, datatype in DATATYPES.items()
                ],
                "parameters": {"labels": list(self._predictor.labels)},
            }
        )

    async def metrics(self, _: Request) -> Response:
        """Counts and times, for Prometheus."""
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)

    async def predict(self, request: Request) -> Response:
        """From the bytes of a picture file to its label and probabilities, perhaps at another threshold."""
        _takes(request, "image/*", "application/octet-stream")
        threshold = _threshold(request)
        data = await request.body()
        if not data:
            raise Refused(400, "the body is empty; send the bytes of a picture file")
        return await self._alone(request, partial(self._predict, data, threshold))

    async def infer(self, request: Request) -> Response:
        """The protocol's inference: from pictures of one size to probabilities, nearest labels and `known`."""
        announced = request.headers.get(JSON_SIZE)
        _takes(request, "application/json", *(() if announced is None else ("application/octet-stream",)))
        body = await request.body()
        if announced is not None and not (
            announced.isdecimal() and len(announced) < 20 and int(announced) <= len(body)
        ):
            raise Refused(400, f"{JSON_SIZE}: expected at most the body's {len(body)} bytes, found {announced}")
        return await self._alone(request, partial(self._infer, body, None if announced is None else int(announced)))

    async def _alone(self, request: Request, work: Callable[[], Response]) -> Response:
        """The result of `work`, off the event loop and one at a time: parsing JSON takes many times its size."""
        async with self._queue.turn() as waited:
            if waited and await request.is_disconnected():
                raise Refused(503, "the client has gone")
            return await run_in_threadpool(work)

    def _predict(self, data: bytes, threshold: float | None) -> Response:
        (prediction,) = self._predictor.predict([data], threshold=threshold)
        return JSONResponse(asdict(prediction))

    def _infer(self, body: bytes, json_size: int | None) -> Response:
        request = inference_request(body, json_size)
        wanted = request.wanted
        pictures = pixels(request.pictures, self._size())
        rows, known = self._predictor.answers(pictures, threshold=request.threshold)
        labels = [self._predictor.labels[i] for i in rows.argmax(1)]
        found: dict[str, Result] = {OUTPUT: rows, LABELS: labels, KNOWN: known}
        head = {"model_name": self._name, "model_version": VERSION} | ({} if request.id is None else {"id": request.id})
        results = {name: result for name, result in found.items() if name in wanted}
        answer, headers = inference_answer(head, results, request.binary)
        return Response(answer, headers=headers)

    def _size(self) -> tuple[int, int, int]:
        """Height, width and channels of a picture; -1 means any."""
        size = self._predictor.metadata.preprocessing
        return (size.height, size.width, size.channels) if self._predictor.metadata.raw else (-1, -1, 3)


def serve(
    model: Path, *, host: str, port: int, token: str, allowed: Sequence[str], max_bytes: int,
    ready: Callable[[int], None] = lambda port: None,  # noqa: ARG005
    log: Path | None = None,
) -> None:  # fmt: skip
    """Serve an exported file until SIGINT or SIGTERM; requests under way are still answered.

    ready: called with the port once the server listens; log: the file of the access log, `-` for stderr.
    Raises BundleError if the file is not an exported classifier, ConfigError if other machines could reach it without
    a token, or if the port is not available.
    """
    if host not in ("127.0.0.1", "localhost", "::1") and not token:
        raise ConfigError(f"--host {host} lets other machines in; set a --token, or leave out --host")
    predictor = Predictor(model)
    if isinstance(predictor.preprocessing, Rows):
        raise ConfigError(f"{model} takes features, and fewshot serve is for pictures; run it with fewshot predict")
    with access_log(log) as note, listening(host, port) as listener:
        app = application(
            predictor, model.stem, hosts=allowed, token=token, max_bytes=max_bytes, seconds=SECONDS, note=note
        )
        ready(listener.getsockname()[1])
        run(app, listener, SECONDS)


def _refusal(request: Request, status: int, reason: str) -> Response:
    body, headers = refusal(status, reason, request.scope["state"]["request_id"])
    return Response(body, status, headers)


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return _refusal(request, error.status, error.reason)


async def _exhausted(request: Request, _: Exception) -> Response:
    return _refusal(request, 503, "there is not enough memory for this request; send a smaller one")


async def _explain(request: Request, error: Exception) -> Response:
    return _refusal(request, 400, str(error))


async def _lost(request: Request, _: Exception) -> Response:
    return _refusal(request, 404, f"no {request.url.path[:LONGEST]} here; see /v2")


async def _misused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = _refusal(request, 405, f"expected another method than {request.method[:LONGEST]}; see Allow")
    response.headers.update(error.headers or {})
    return response


async def _failed(request: Request, _: Exception) -> Response:
    return _refusal(request, 500, "an error of this server, described in its log")


def _takes(request: Request, *kinds: str) -> None:
    """Raises Refused if the Content-Type is none of these; `image/*` stands for any image."""
    if (coding := request.headers.get("content-encoding", "identity").lower()) != "identity":
        raise Refused(415, f"Content-Encoding: expected none, found {coding}; send the body as it is")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not {kind, f"{kind.partition('/')[0]}/*"} & {*kinds, "", UNSPECIFIED}:
        raise Refused(415, f"Content-Type: expected {' or '.join(kinds)}, found {kind}")


def _threshold(request: Request) -> float | None:
    """The value of `?threshold=`; None without it. Raises Refused for any other query and any other value."""
    given = request.query_params.multi_items()
    try:
        ((name, text),) = given or [("threshold", "nan")]
        value = float(text)
    except ValueError:
        name, value = "", -1.0
    if name != "threshold" or (given and not 0 <= value <= 1):
        raise Refused(400, "expected no query, or ?threshold= and one number from 0 to 1, such as ?threshold=0.6")
    return value if given else None
