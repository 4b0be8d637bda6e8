"""`fewshot serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fewshot_cli.group import app
from fewshot_cli.output import say


@app.command()
def serve(
    model: Annotated[Path, typer.Argument(help="File made by `fewshot export`.", metavar="MODEL.onnx")],
    host: Annotated[
        str, typer.Option(help="Address to listen on; any other than loopback needs a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any free one.")] = 8000,
    token: Annotated[str, typer.Option(envvar="FEWSHOT_TOKEN", help="Bearer token that requests must carry.")] = "",
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Host header to accept; repeatable.", show_default=False)
    ] = None,
    max_mib: Annotated[float, typer.Option(min=0.001, help="Largest request body to accept, in MiB.")] = 20,
    access_log: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a line of JSON for each request to this file; -: to stderr."),
    ] = None,
) -> None:
    """Serve an exported classifier over HTTP.

    Programs use KServe V2, people the page at /.
    """
    from fewshot_sdk.web.limits import LOOPBACK
    from fewshot_sdk.web.server import serve

    # with a token, any Host is accepted unless some are named
    hosts = tuple(name.lower() for name in allow_host or ()) or (() if token else LOOPBACK)

    def ready(port: int) -> None:
        name = f"[{host}]" if ":" in host else host
        say(f"serving {model} at http://{name}:{port}/ and /v2/models/{model.stem}; Ctrl-C stops")

    size = int(max_mib * 2**20)
    serve(model, host=host, port=port, token=token, allowed=hosts, max_bytes=size, ready=ready, log=access_log)
