"""`fewshot studio`."""

from __future__ import annotations

from typing import Annotated

import typer

from fewshot_cli.group import app
from fewshot_cli.options import INIT_HELP, Vendor
from fewshot_cli.site import Browser, Output, Port, publish
from fewshot_sdk.storage.files import check_free


@app.command()
def studio(
    init: Annotated[str, typer.Option(help=f"{INIT_HELP} Or a file made by `fewshot export-learner`.")] = "photo",
    output: Output = None,
    vendor: Vendor = None,
    port: Port = 8000,
    browser: Browser = False,
) -> None:
    """Make a classifier on a page, from pictures or the camera; nothing leaves the browser.

    The page is served on this machine, or written as a static site. It needs no PyTorch.
    """
    if output is not None:
        check_free(output)
    from fewshot_sdk.runtime.learners import learner_file
    from fewshot_sdk.web.studio import studio_site

    publish(studio_site(learner_file(init), vendor), output, port, browser)
