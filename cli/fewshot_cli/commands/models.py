"""`fewshot models`."""

from __future__ import annotations

from dataclasses import asdict

from fewshot_cli.group import app
from fewshot_cli.options import Json
from fewshot_cli.output import emit, emit_json, say
from fewshot_sdk.errors import HubError


@app.command()
def models(json: Json = False) -> None:
    """List the available initializations.

    These are the bundled ones, those pulled, and those tagged fewshot-sdk on the Hub.
    """
    from fewshot_sdk.artifacts import sharing

    found = sharing.models()
    try:
        found += sharing.hub_models()
    except HubError as error:
        say(f"listing only those on this machine: {error}")
    if json:
        emit_json([asdict(model) for model in found])
        return
    width = max((len(model.name) for model in found), default=0)
    for model in found:
        emit(f"{model.name:<{width}}  {model.where:<7}  {model.commit}".rstrip())
