"""Initializations on the Hub: the real client, LocalHub, one cache for each environment."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from fewshot_sdk import adapt, load, load_classifier, pull, push, save
from fewshot_sdk.artifacts.initialization import Initialization, files_of_run
from fewshot_sdk.errors import BundleError, ConfigError, HubError, OutputExists
from fewshot_sdk.runtime.lineage import lineage
from fewshot_sdk.storage.files import MANIFEST, manifest_of, write_folder
from fewshot_sdk.storage.recipes import read_recipe
from fewshot_sdk.storage.repositories import address, bundled, fetch
from fewshot_sdk.testing.http import Answer, Request, Server
from fewshot_sdk.testing.hub import LocalHub
from tests.conftest import REPOSITORY, Run, draw_folder
from tests.render_reliability import FAULTS, PAGE, row

SECRET = "hf_verysecret"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LocalHub]:
    """A Hub, the environment variables that point to it, and an empty cache."""
    with LocalHub(token=SECRET) as hub:
        for name, value in hub.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "A"))
        monkeypatch.setenv("FEWSHOT_HUB_SECONDS", "20")
        yield hub


def test_a_link_in_the_cache_to_a_file_elsewhere_does_not_cost_that_file(
    hub: LocalHub, init: Initialization, tmp_path: Path
) -> None:
    push(save(init, tmp_path / "init"), "user/repo")
    cached = pull("user/repo").folder
    (tmp_path / "elsewhere").write_bytes(b"mine")
    (cached / "model.safetensors").unlink()
    (cached / "model.safetensors").symlink_to(tmp_path / "elsewhere")
    pull("user/repo")
    assert (tmp_path / "elsewhere").read_bytes() == b"mine"
    assert (cached / "model.safetensors").read_bytes() != b"mine"


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_pushed_from_one_environment_it_is_pulled_byte_for_byte_in_another_and_its_chain_is_kept(
    hub: LocalHub, run: Run, init: Initialization, drawings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_folder(tmp_path / "init", files_of_run(init))
    code, out, err = run("push", folder, "user/repo", "--private", "--message", "first", "--json")
    assert code == 0, err
    source = json.loads(out)["source"]
    commit = source.partition("@")[2]
    assert hub.repository("user/repo").private
    assert hub.repository("user/repo").titles[commit] == "first"
    hub.commit("user/repo", {"README.md": b"somebody's later edit"})

    monkeypatch.setenv("HF_HOME", str(tmp_path / "B"))
    code, out, err = run("pull", source, "--output", tmp_path / "copy", "--json")
    assert code == 0, err
    assert json.loads(out) == {"folder": str(tmp_path / "copy"), "source": source}
    assert contents(tmp_path / "copy") == contents(folder)
    assert read_recipe(tmp_path / "copy" / "recipe.toml") == init.recipe

    model, file = tmp_path / "model", tmp_path / "m.onnx"
    assert run("adapt", "--init", source, "--support", drawings, "--steps", 3, "--output", model)[0] == 0
    assert run("export", model, "--output", file)[0] == 0
    assert load_classifier(model).config.initialization.source == source
    assert source in (model / "README.md").read_text()
    ours = adapt(init, drawings, steps=3, reject_rate=None)
    assert (model / "model.safetensors").read_bytes() == ours.files()["model.safetensors"]
    for made in (model, file):
        code, out, err = run("info", made)
        assert code == 0, err
        steps = out.splitlines()
        assert "of 3 classes (ant, bee, cat), 3 steps" in steps[0]
        assert f"<- initialization {source} (sha256 {init.sha256[:16]}" in steps[1]
        assert f"<- trained on glyphs, split seeded, sha256 {init.provenance.data_sha256[:16]}" in steps[2]
        assert f"<- by {init.provenance.command}" in steps[3]
    info = json.loads(run("info", model, "--json")[1])
    assert info["source"] == source
    assert len(info["chain"]) == 4


def test_an_initialization_is_named_by_branch_tag_or_commit_and_says_which_commit_it_was(
    hub: LocalHub, init: Initialization
) -> None:
    first = push(init, "user/repo").source
    hub.tag("user/repo", "v1")
    other = push(init, "user/repo", branch="next", message="again").source
    requested = push(init, "user/repo", create_pr=True)
    assert requested.url.endswith("/discussions/1")
    sources = {name: load(name).source for name in ("user/repo", "user/repo@v1", "user/repo@next", first)}
    assert sources == {"user/repo": first, "user/repo@v1": first, "user/repo@next": other, first: first}
    assert load("user/repo@refs/pr/1").source == requested.source
    assert load("user/repo").files() == init.files()
    assert pull(first).source == first


def test_evaluate_takes_it_and_records_nothing_in_the_cache(
    hub: LocalHub, run: Run, init: Initialization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fewshot_sdk.data.glyphs.GLYPH_CLASSES", 40)
    source = push(init, "user/repo").source
    before = fetch(address(source)).files
    code, out, _ = run("evaluate", "user/repo", "--tasks", 2, "--workers", 1, "--json")
    assert code == 0
    assert json.loads(out)["tasks"] == 2
    code, _, err = run("evaluate", "user/repo", "--tasks", 2, "--record")
    assert (code, "fewshot pull" in err) == (1, True)
    assert fetch(address(source)).files == before


def test_pulled_once_it_loads_with_no_network(
    hub: LocalHub, init: Initialization, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = push(init, "user/repo").source
    load("user/repo")
    requests = len(hub.requests)
    assert load(source).source == source
    assert len(hub.requests) == requests, "a full commit in the cache needs no request"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'cli'}"}
    command = [sys.executable, "-X", "importtime", "-m", "fewshot_cli.main", "pull", "user/repo", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["source"] == source
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "huggingface_hub" in imported
    assert "torch" not in imported, "a pull needs no PyTorch"
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert load("user/repo").source == source
    assert len(hub.requests) == requests
    code, out, err = run("models", "--json")
    assert code == 0
    assert {"name": "user/repo", "where": "cached", "commit": source.partition("@")[2]} in json.loads(out)
    assert "listing only those on this machine: cannot reach" in err


def test_models_lists_what_is_bundled_pulled_and_on_the_hub(hub: LocalHub, run: Run, init: Initialization) -> None:
    push(init, "user/repo")
    hub.commit("user/other", {"README.md": b"not ours"})
    code, out, err = run("models")
    assert (code, err) == (0, "")
    expected = [*([name, "bundled"] for name in sorted(bundled())), ["user/repo", "hub"]]
    assert [line.split()[:2] for line in out.splitlines()] == expected


@pytest.mark.parametrize("fault", FAULTS)
def test_the_page_on_reliability_is_what_happens(fault: str) -> None:
    assert row(fault) in PAGE.read_text().splitlines(), "run `python -m tests.render_reliability`"
    assert "HALF-WRITTEN" not in PAGE.read_text()


def test_of_200_flips_in_each_file_200_are_refused_by_name(init: Initialization, tmp_path: Path) -> None:
    folder = save(init, tmp_path / "init")
    good = contents(folder)
    draw = random.Random(0)
    for name in sorted(good.keys() - {MANIFEST}):
        for position in draw.choices(range(len(good[name])), k=200):
            flipped = bytearray(good[name])
            flipped[position] ^= 1 << draw.randrange(8)
            (folder / name).write_bytes(flipped)
            with pytest.raises(BundleError, match=f"{name} was changed or damaged"):
                load(folder)
        (folder / name).write_bytes(good[name])
    harmless = 0
    for position in draw.choices(range(len(good[MANIFEST])), k=200):
        flipped = bytearray(good[MANIFEST])
        flipped[position] ^= 1 << draw.randrange(8)
        (folder / MANIFEST).write_bytes(flipped)
        try:
            assert load(folder).files() == init.files(), "a flip in the manifest may only change its white space"
            harmless += 1
        except BundleError:
            continue
    assert harmless < 100


def test_32_threads_that_pull_at_once_all_get_it_right_and_one_downloads(hub: LocalHub, init: Initialization) -> None:
    push(init, "user/repo")
    with ThreadPoolExecutor(32) as pool:
        found = list(pool.map(lambda _: fetch(address("user/repo")).files, range(32)))
    assert all(files == init.files() for files in found)
    assert sum("GET" in line and "model.safetensors" in line for line in hub.requests) == 1


@pytest.mark.slow
def test_32_processes_that_pull_at_once_all_get_it_right(hub: LocalHub, init: Initialization) -> None:
    push(init, "user/repo")
    program = (
        "from fewshot_sdk.storage.repositories import address, fetch;"
        "from fewshot_sdk.storage.files import manifest_of, sha256;"
        "print(sha256(manifest_of(fetch(address('user/repo')).files)))"
    )
    environment = {**os.environ, "FEWSHOT_HUB_SECONDS": "250"}
    command = [sys.executable, "-c", program]
    all_of_them = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) for _ in range(32)
    ]
    hashes = {process.communicate()[0].strip() for process in all_of_them}
    assert len(hashes) == 1
    assert len(hashes.pop()) == 64
    assert sum("GET" in line and "model.safetensors" in line for line in hub.requests) == 1


@pytest.mark.parametrize("kind", ["401", "403", "404", "500"])
def test_no_token_is_ever_shown_not_even_if_the_server_repeats_it(
    hub: LocalHub, run: Run, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEWSHOT_HUB_SECONDS", "0.3")
    hub.commit("user/repo", {"config.json": b"{}"})
    hub.fault(kind)  # type: ignore[arg-type]
    code, out, err = run("pull", "user/repo")
    assert code == 1
    assert len(err.splitlines()) == 1
    with pytest.raises(HubError) as error:
        pull("user/repo")
    assert SECRET not in out + err + str(error.value)
    assert error.value.__suppress_context__


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("where", ["", "/resolve/"])
def test_the_token_does_not_follow_a_redirect_to_another_host(
    hub: LocalHub, run: Run, init: Initialization, where: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[Request] = []
    asked: list[Request] = []

    def listen(request: Request) -> Answer:
        heard.append(request)
        return Answer(404)

    def redirect(request: Request) -> Answer | None:
        asked.append(request)
        if where not in request.path:
            return hub._respond(request)
        elsewhere = {"Location": f"http://localhost:{other.server_port}{request.path}"}
        found = (where and hub._respond(request)) or Answer()
        linked = {"X-Linked-Etag": found.headers.get("ETag", '"0"'), "X-Linked-Size": str(len(found.body))}
        return Answer(status, headers={**found.headers, **(linked if where else {}), **elsewhere})

    push(init, "user/repo")
    other, front = Server(listen), Server(redirect)  # localhost is another host than 127.0.0.1
    try:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{front.server_port}")
        monkeypatch.setenv("FEWSHOT_HUB_SECONDS", "3")
        run("pull", "user/repo")
    finally:
        front.close()
        other.close()
    assert SECRET in repr(asked)
    assert heard, "nothing was redirected"
    assert SECRET not in repr(heard)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("user/repo@", "is not a name on the Hub"),
        ("repo", "is not a name on the Hub"),
        ("a/b/c", "is not a name on the Hub"),
        ("user/re..po", "is not a name on the Hub"),
        ("user/repo@../../x", "is not a name on the Hub"),
        ("user/repo@-x", "is not a name on the Hub"),
    ],
)
def test_a_name_that_is_none_is_told_before_anything_is_asked(hub: LocalHub, name: str, says: str) -> None:
    with pytest.raises(HubError, match=says):
        pull(name)
    assert hub.requests == []


@pytest.mark.parametrize("seconds", ["soon", "0", "-1", "nan"])
def test_a_patience_that_is_none_is_told(hub: LocalHub, seconds: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEWSHOT_HUB_SECONDS", seconds)
    with pytest.raises(ConfigError, match=f"FEWSHOT_HUB_SECONDS is '{seconds}'"):
        pull("user/repo")


def test_a_repository_of_something_else_is_not_pulled(hub: LocalHub, tmp_path: Path) -> None:
    files: dict[str, bytes] = {"config.json": b'{"format": "something else"}'}
    hub.commit("user/repo", {**files, MANIFEST: manifest_of(files)})
    with pytest.raises(BundleError, match=r"model\.safetensors is missing; expected an initialization"):
        pull("user/repo", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_what_cannot_be_pushed_is_told(
    hub: LocalHub, init: Initialization, drawings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save(init, tmp_path / "init")
    with pytest.raises(HubError, match="names a revision"):
        push(folder, "user/repo@v1")
    classifier = save(adapt(init, drawings, steps=1, reject_rate=None), tmp_path / "model")
    with pytest.raises(BundleError, match=r"inner_state\.safetensors is missing"):
        push(classifier, "user/repo")  # with its owner's pictures
    (folder / "config.json").write_bytes(b"{}")
    with pytest.raises(BundleError, match="changed or damaged"):
        push(folder, "user/repo")
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HubError, match="needs a token"):
        push(init, "user/repo")
    assert hub.requests == []
    with pytest.raises(OutputExists):
        pull("user/repo", tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(HubError, match="has no user/repo that you can see"):
        push(init, "user/repo")


@pytest.mark.parametrize("name", [".env", "id_rsa", "photos/me.jpg", "config.json.bak", ".git/config", "notes.txt"])
def test_what_lies_beside_an_initialization_is_not_pushed(
    hub: LocalHub, init: Initialization, tmp_path: Path, name: str
) -> None:
    push(init, "user/clean")
    folder = save(init, tmp_path / "init")
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(SECRET)
    with suppress(BundleError):
        push(folder, "user/repo")
        assert hub.files("user/repo").keys() == hub.files("user/clean").keys()
    assert SECRET.encode() not in b"".join(hub._store.contents.values())


def test_a_server_that_names_no_commit_cannot_name_a_folder(hub: LocalHub, init: Initialization) -> None:
    push(init, "user/repo")
    repository = hub.repository("user/repo")
    repository.commits["../../evil"] = repository.commits[repository.refs["main"]]
    repository.refs["main"] = "../../evil"
    with pytest.raises(HubError, match="returned no commit"):
        fetch(address("user/repo"))


def test_a_folder_of_that_name_wins_over_the_hub(
    hub: LocalHub, init: Initialization, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save(init, "user/repo")
    assert load("user/repo").source == ""
    assert hub.requests == []


def test_verify_checks_bytes_and_tensors(run: Run, init: Initialization, drawings: Path, tmp_path: Path) -> None:
    folder, model = (
        save(init, tmp_path / "init"),
        save(adapt(init, drawings, steps=1, reject_rate=None), tmp_path / "model"),
    )
    (folder / "notes.txt").write_text("mine")
    code, out, err = run("verify", folder)
    assert (code, out) == (0, f"{folder}: 4 files match the manifest and load\n")
    assert err == "not in the manifest, therefore never read: notes.txt\n"
    assert run("verify", model)[0] == 0
    (model / "model.safetensors").write_bytes(b"?")
    code, _, err = run("verify", model)
    assert code == 1
    assert "model.safetensors was changed or damaged" in err


def test_what_was_never_on_the_hub_has_a_chain_too(init: Initialization, drawings: Path, tmp_path: Path) -> None:
    found = lineage(save(adapt(init, drawings, steps=1, reject_rate=None), tmp_path / "model"))
    assert (found.source, found.initialization, found.sha256) == ("", "glyphs", init.sha256)
    assert lineage("omniglot").steps()[0].startswith("initialization omniglot (sha256 ")


def test_the_card_is_the_hubs_metadata(hub: LocalHub, init: Initialization) -> None:
    from huggingface_hub import ModelCard

    from fewshot_sdk.config.records import Evaluation

    result = Evaluation(
        data='a "quoted": name', data_sha256="", accuracy=0.9404, ci95=0.0066, tasks=1000, ways=5, shots=1,
        mode="frozen", seed=0,
    )  # fmt: skip
    for found in (init, load("omniglot"), init.with_evaluation(result)):
        data = ModelCard(found.files()["README.md"].decode()).data
        assert (data["license"], data["library_name"]) == ("apache-2.0", "fewshot-sdk")
        assert data["pipeline_tag"] == "image-classification"
        assert "fewshot-sdk" in data["tags"]
        assert data["datasets"] == [found.recipe.data.name]
        results = data["eval_results"] or []
        assert len(results) == len(found.evaluations)
        for shown, measured in zip(results, found.evaluations, strict=True):
            assert shown.metric_value == pytest.approx(100 * measured.accuracy, abs=0.005)
            assert (shown.metric_args or {})["ci95"] == pytest.approx(100 * measured.ci95, abs=0.005)
            assert shown.dataset_name == measured.data
            assert shown.dataset_config == f"{measured.ways}-way {measured.shots}-shot"


def test_training_goes_on_from_the_hub_and_names_the_commit(
    hub: LocalHub, run: Run, init: Initialization, tmp_path: Path
) -> None:
    source = push(init, "user/repo", private=True).source
    data = draw_folder(tmp_path / "classes", tuple("abcdefghijkl"))
    words = ("--init", "user/repo", "--data", data, "--meta-steps", 1, "--evaluate-every", 0, "--workers", 1)
    code, _, err = run("meta-train", *words, "--output", tmp_path / "mine")
    assert code == 0, err
    mine = load(tmp_path / "mine")
    (start,) = mine.provenance.chain
    assert (start.source, start.sha256) == (source, init.sha256)
    assert f"--init {source} " in mine.provenance.command
    assert source in (tmp_path / "mine" / "README.md").read_text(encoding="utf-8")
