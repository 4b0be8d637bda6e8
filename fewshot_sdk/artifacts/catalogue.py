"""Which initializations there are: bundled, pulled once, and on the Hub."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fewshot_sdk.storage.hub_client import LIBRARY, Session
from fewshot_sdk.storage.repositories import cached
from fewshot_sdk.storage.zoo import bundled


@dataclass(frozen=True, kw_only=True)
class Model:
    """An initialization that can be named: where it is, and the commit if that is known."""

    name: str
    where: Literal["bundled", "cached", "hub"]
    commit: str = ""


def models() -> list[Model]:
    """What comes with the package, and what was pulled."""
    here = [Model(name=name, where="bundled") for name in bundled()]
    return here + [Model(name=name, where="cached", commit=commit) for name, commit in cached().items()]


def hub_models() -> list[Model]:
    """What the Hub shows under the tag `fewshot-sdk`. Raises HubError if it refuses or cannot be reached."""
    from huggingface_hub import get_session

    session = Session("the list of models")
    # Listing goes on for half a minute where there is no network; one plain request tells at once.
    session.insist(lambda api: get_session().head(f"{api.endpoint}/api/models", timeout=10), repeat=False)
    found = session.insist(lambda api: list(api.list_models(filter=LIBRARY, limit=1000)))
    return [Model(name=model.id, where="hub", commit=model.sha or "") for model in found]
