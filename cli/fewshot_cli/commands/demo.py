"""`fewshot demo`."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from fewshot_cli.group import app
from fewshot_cli.options import INIT_HELP, Vendor
from fewshot_cli.output import say
from fewshot_sdk.errors import ConfigError
from fewshot_sdk.storage.files import MAX_FILE_BYTES, check_free, read_bounded, write_folder


@app.command()
def demo(
    init: Annotated[str, typer.Option(help=f"{INIT_HELP} Or a file made by `fewshot export-learner`.")] = "omniglot",
    output: Annotated[
        Path | None,
        typer.Option(help="New folder to write the site to, for any web host, instead of serving it here."),
    ] = None,
    vendor: Vendor = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to serve on; 0: any free one.")] = 8000,
    browser: Annotated[bool, typer.Option("--browser", help="Open the page in your browser.")] = False,
) -> None:
    """Draw characters on a page that learns as you draw.

    From `photo` or another network that sees colours it takes photographs instead. The page is served on this machine,
    or written as a static site.
    """
    if output is not None:
        check_free(output)
    from fewshot_sdk.web.pages import demo_site

    site = demo_site(_learner(init), vendor)
    if output is None:
        _serve(site, port, browser)
        return
    write_folder(output, site)
    say(f"wrote {output}; put it on any web host, or try: python3 -m http.server --directory {output}")


def _learner(init: str) -> bytes:
    """The bytes of a learner file, or of one made from an initialization."""
    if Path(init).is_file():
        return read_bounded(Path(init), MAX_FILE_BYTES)
    from fewshot_sdk.runtime.learners import learner_of

    return learner_of(init)


def _serve(site: Mapping[str, bytes], port: int, browser: bool) -> None:
    from fewshot_sdk.web.static import static_server

    with tempfile.TemporaryDirectory() as folder:
        for name, data in site.items():
            (Path(folder) / name).write_bytes(data)
        try:
            server = static_server(Path(folder), port)
        except OSError as error:
            raise ConfigError(f"port {port}: {(error.strerror or str(error)).lower()}; name another --port") from None
        address = f"http://127.0.0.1:{server.server_port}/"
        say(f"open {address} (Ctrl-C stops)")
        if browser:
            import webbrowser

            webbrowser.open(address)
        with server:
            server.serve_forever()
