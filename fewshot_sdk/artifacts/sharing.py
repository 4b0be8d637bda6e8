"""Pushing and pulling initializations on the Hugging Face Hub, and listing them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fewshot_sdk.errors import HubError
from fewshot_sdk.extras import needing
from fewshot_sdk.storage.bundles import settings_of_any
from fewshot_sdk.storage.files import MANIFEST, SIGNATURE, check_free, manifest_of, read_folder, write_folder
from fewshot_sdk.storage.hub_client import LIBRARY, Session, endpoint
from fewshot_sdk.storage.repositories import NAMES, address, bundled, cached, fetch
from fewshot_sdk.storage.signing import sign

if TYPE_CHECKING:
    from fewshot_sdk.artifacts.initialization import AnyInitialization


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """The result of a push: `source` is user/repo@commit, `url` that of the pull request, if any, or the repository."""

    source: str
    url: str


@dataclass(frozen=True, kw_only=True)
class Pulled:
    """The folder of a checked copy, and `source`, user/repo@commit, which always names these bytes."""

    folder: Path
    source: str


def push(
    init: AnyInitialization | str | Path,
    name: str,
    *,
    private: bool = False,
    branch: str | None = None,
    create_pr: bool = False,
    message: str | None = None,
    key: str | Path | None = None,
) -> Pushed:
    """Upload an initialization, or the one in a folder, as one commit to the repository `user/repo`.

    A missing repository is created, private if `private` is set. branch: the branch to commit to, created if need be;
    None is the default one. create_pr: open a pull request instead of committing.
    key: a private key to sign with (`signing.sign`); without one, a signature in the folder is uploaded as it is.
    Raises BundleError and ParamsMismatch for a folder that holds no initialization, SignatureError for a file that is
    not a key, HubError if the Hub refuses, MissingExtra without PyTorch.
    """
    from huggingface_hub import CommitOperationAdd, get_token
    from huggingface_hub.constants import is_offline_mode

    with needing("fewshot_sdk.push"):
        from fewshot_sdk.artifacts.opening import load_any

    wanted = address(name)
    if wanted.revision:
        raise HubError(f"{name!r} names a revision; push to user/repo, and give the branch as --revision")
    if isinstance(init, str | Path):
        load_any(Path(init).absolute())  # upload only what loads
        contents = {k: v for k, v in read_folder(Path(init)).items() if k in NAMES}
    else:
        contents = init.files()
    if key is not None:
        contents[SIGNATURE] = sign({k: v for k, v in contents.items() if k != SIGNATURE}, key)
    if get_token() is None and not is_offline_mode():
        raise HubError("pushing needs a token with write access; log in with `hf auth login`, or set HF_TOKEN")
    contents[MANIFEST] = manifest_of(contents)
    session = Session(wanted.name)
    session.insist(lambda api: api.create_repo(wanted.name, private=private or None, exist_ok=True))
    if branch:
        session.insist(lambda api: api.create_branch(wanted.name, branch=branch, exist_ok=True))
    made = session.insist(
        lambda api: api.create_commit(
            wanted.name,
            [CommitOperationAdd(file, data) for file, data in contents.items()],
            commit_message=message or "Upload an initialization with fewshot-sdk",
            revision=branch,
            create_pr=create_pr,
        ),
        repeat=not create_pr,  # a second try could open a second pull request
    )
    return Pushed(source=f"{wanted.name}@{made.oid}", url=made.pr_url or f"{endpoint()}/{wanted.name}")


def pull(name: str, output: str | Path | None = None) -> Pulled:
    """Fetch `user/repo` or `user/repo@revision` into the cache and, if given, into a new folder `output`.

    Every file is checked against the manifest; tensors are checked on loading, which needs PyTorch.
    Raises HubError if the Hub refuses, BundleError if the repository holds no initialization, OutputExists if `output`
    is not empty.
    """
    if output is not None:
        check_free(Path(output))
    opened = fetch(address(name))
    settings_of_any(opened.files, opened.folder)
    folder = opened.folder if output is None else write_folder(Path(output), opened.files)
    return Pulled(folder=folder, source=opened.source)


@dataclass(frozen=True, kw_only=True)
class Model:
    """An initialization that can be loaded by name: where it is, and the commit, if known."""

    name: str
    where: Literal["bundled", "cached", "hub"]
    commit: str = ""


def models() -> list[Model]:
    """The bundled initializations and those in the cache."""
    here = [Model(name=name, where="bundled") for name in bundled()]
    return here + [Model(name=name, where="cached", commit=commit) for name, commit in cached().items()]


def hub_models() -> list[Model]:
    """The initializations on the Hub with the tag `fewshot-sdk`. Raises HubError if it refuses or cannot be reached."""
    from huggingface_hub import get_session

    session = Session("the list of models")
    # Without a network, listing retries for half a minute; one plain request fails at once.
    session.insist(lambda api: get_session().head(f"{api.endpoint}/api/models", timeout=10), repeat=False)
    found = session.insist(lambda api: list(api.list_models(filter=LIBRARY, limit=1000)))
    return [Model(name=model.id, where="hub", commit=model.sha or "") for model in found]
