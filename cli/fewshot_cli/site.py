"""A static site, written to a folder or served on this machine: what `fewshot demo` and `fewshot studio` share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from fewshot_cli.output import say
from fewshot_sdk.errors import ConfigError
from fewshot_sdk.storage.drafts import scratch
from fewshot_sdk.storage.files import write_folder

Output = Annotated[
    Path | None,
    typer.Option(help="New folder to write the site to, for any web host, instead of serving it here."),
]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port to serve on; 0: any free one.")]
Browser = Annotated[bool, typer.Option("--browser", help="Open the page in your browser.")]


def publish(site: Mapping[str, bytes], output: Path | None, port: int, browser: bool) -> None:
    """Write a site's files to a new folder, or serve them until Ctrl-C. Raises ConfigError if the port is taken."""
    if output is None:
        _serve(site, port, browser)
        return
    write_folder(output, site)
    say(f"wrote {output}; put it on any web host, or try: python3 -m http.server --directory {output}")


def _serve(site: Mapping[str, bytes], port: int, browser: bool) -> None:
    from fewshot_sdk.web.static import static_server

    with scratch() as folder:
        for name, data in site.items():
            (folder / name).write_bytes(data)
        try:
            server = static_server(folder, port)
        except OSError as error:
            raise ConfigError(f"port {port}: {(error.strerror or str(error)).lower()}; name another --port") from None
        address = f"http://127.0.0.1:{server.server_port}/"
        say(f"open {address} (Ctrl-C stops)")
        if browser:
            import webbrowser

            webbrowser.open(address)
        with server:
            server.serve_forever()
