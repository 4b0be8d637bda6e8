"""The real client against LocalHub, over a real socket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fewshot_sdk.testing.hub import LocalHub

FILES = {
    "config.json": b"{}\n",
    "README.md": b"---\ntags: [few-shot, fewshot-sdk]\n---\n",
    "w.safetensors": b"\x01" * 999,
}


@pytest.fixture
def hub() -> Iterator[LocalHub]:
    with LocalHub() as hub:
        yield hub


def folder(tmp_path: Path) -> Path:
    (tmp_path / "up").mkdir()
    for name, data in FILES.items():
        (tmp_path / "up" / name).write_bytes(data)
    return tmp_path / "up"


def test_what_the_client_uploads_it_downloads(hub: LocalHub, tmp_path: Path) -> None:
    from huggingface_hub import HfApi

    api = HfApi(endpoint=hub.url, token=hub.token)
    assert api.create_repo("user/repo", private=True).repo_id == "user/repo"
    assert api.create_repo("user/repo", exist_ok=True).repo_id == "user/repo"
    first = api.upload_folder(repo_id="user/repo", folder_path=folder(tmp_path), commit_message="first")
    assert hub.files("user/repo") == FILES
    info = api.model_info("user/repo")
    assert (info.sha, info.private) == (first.oid, True)
    assert {sibling.rfilename for sibling in info.siblings or []} == FILES.keys()

    api.create_tag("user/repo", tag="v1")
    api.create_branch("user/repo", branch="next")
    second = api.upload_file(repo_id="user/repo", path_or_fileobj=b"[]", path_in_repo="config.json", revision="next")
    api.delete_file("w.safetensors", "user/repo", revision="next")
    assert api.model_info("user/repo", revision="v1").sha == first.oid
    assert second.oid in hub.repository("user/repo").commits
    assert set(hub.files("user/repo", "next")) == {"config.json", "README.md"}
    refs = api.list_repo_refs("user/repo")
    assert [branch.name for branch in refs.branches] == ["main", "next"]
    assert [tag.name for tag in refs.tags] == ["v1"]
    for revision in (None, "v1", first.oid):
        got = Path(api.snapshot_download("user/repo", revision=revision, cache_dir=tmp_path / str(revision)))
        assert {file.name: file.read_bytes() for file in got.iterdir()} == FILES
        assert got.name == first.oid
    one = api.hf_hub_download("user/repo", "config.json", revision="next", cache_dir=tmp_path / "one")
    assert Path(one).read_bytes() == b"[]"
    entries = api.get_paths_info("user/repo", ["w.safetensors"])
    assert [entry.path for entry in entries] == ["w.safetensors"]


def test_a_pull_request_leaves_main_alone(hub: LocalHub, tmp_path: Path) -> None:
    from huggingface_hub import HfApi

    api = HfApi(endpoint=hub.url, token=hub.token)
    api.create_repo("user/repo")
    made = api.upload_folder(repo_id="user/repo", folder_path=folder(tmp_path), create_pr=True)
    assert made.pr_revision == "refs/pr/1"
    assert hub.files("user/repo") == {}
    assert hub.files("user/repo", "refs/pr/1") == FILES
    assert api.model_info("user/repo", revision="refs/pr/1").sha == made.oid


def test_models_are_found_by_their_tags_and_private_ones_only_by_their_owner(hub: LocalHub) -> None:
    from huggingface_hub import HfApi

    hub.commit("user/ours", FILES)
    hub.commit("user/secret", {"README.md": b"---\ntags:\n- fewshot-sdk\n---\n"})
    hub.commit("user/other", {"README.md": b"no front matter"})
    hub.repository("user/secret").private = True
    found = HfApi(endpoint=hub.url, token=hub.token).list_models(filter="fewshot-sdk")
    assert [model.id for model in found] == ["user/ours", "user/secret"]
    found = HfApi(endpoint=hub.url, token=False).list_models(filter="fewshot-sdk")
    assert [model.id for model in found] == ["user/ours"]


def test_the_client_raises_its_own_errors(hub: LocalHub, tmp_path: Path) -> None:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    hub.commit("user/repo", FILES)
    api, stranger = HfApi(endpoint=hub.url, token=hub.token), HfApi(endpoint=hub.url, token=False)
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("user/nothing")
    with pytest.raises(RevisionNotFoundError):
        api.model_info("user/repo", revision="v9")
    with pytest.raises(RemoteEntryNotFoundError):
        api.hf_hub_download("user/repo", "nothing.json")
    with pytest.raises(HfHubHTTPError, match="401"):
        stranger.create_repo("user/mine")
    hub.repository("user/repo").gated = True
    with pytest.raises(GatedRepoError):
        stranger.hf_hub_download(
            "user/repo", "config.json", cache_dir=tmp_path
        )  # a copy cached by another test would be used


def test_a_fault_happens_as_often_as_asked(hub: LocalHub) -> None:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    hub.commit("user/repo", FILES)
    hub.fault("500", on="GET /api/models/user/repo", times=1)
    api = HfApi(endpoint=hub.url, token=hub.token)
    with pytest.raises(HfHubHTTPError, match="500"):
        api.model_info("user/repo")
    assert api.model_info("user/repo").id == "user/repo"
    hub.fault(".. names")
    names = [sibling.rfilename for sibling in api.model_info("user/repo").siblings or []]
    hub.heal()
    assert "../evil.json" in names
    assert len(hub.requests) == 3


def test_the_client_checks_sizes_only_and_accepts_wrong_bytes(hub: LocalHub, tmp_path: Path) -> None:
    """This is why every file is checked against the manifest."""
    from huggingface_hub import HfApi

    hub.commit("user/repo", FILES)
    hub.fault("wrong bytes", on="GET .*w.safetensors")
    api = HfApi(endpoint=hub.url, token=hub.token)
    got = Path(api.hf_hub_download("user/repo", "w.safetensors", cache_dir=tmp_path)).read_bytes()
    assert len(got) == 999
    assert got != FILES["w.safetensors"]
