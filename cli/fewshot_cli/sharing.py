"""What `push`, `pull`, `models`, `info` and `verify` do, once their words are parsed."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from fewshot_cli.output import emit, emit_json, say
from fewshot_sdk.errors import BundleError, HubError
from fewshot_sdk.storage.files import MANIFEST, SIGNATURE, read_folder


def push(
    folder: Path, name: str, *, private: bool, branch: str | None, create_pr: bool, message: str | None,
    key: Path | None, json: bool,
) -> None:  # fmt: skip
    """`fewshot push`."""
    import fewshot_sdk as sdk

    made = sdk.push(folder, name, private=private, branch=branch, create_pr=create_pr, message=message, key=key)
    if json:
        emit_json(asdict(made))
    say(f"pushed {folder} as {made.source}{f', signed by {key}' if key else ''}; see {made.url}")
    say(f"next, anywhere: fewshot adapt --init {made.source} --support DIR --output DIR")


def pull(name: str, output: Path | None, json: bool) -> None:
    """`fewshot pull`."""
    import fewshot_sdk as sdk

    made = sdk.pull(name, output)
    if json:
        emit_json({"folder": str(made.folder), "source": made.source})
    say(f"pulled {made.source}, every file as its manifest says; it is in {made.folder}")
    say(f"next: fewshot adapt --init {output or made.source} --support DIR --output DIR")


def models(json: bool) -> None:
    """`fewshot models`."""
    from fewshot_sdk.artifacts.sharing import hub_models, models

    found = models()
    try:
        found += hub_models()
    except HubError as error:
        say(f"only what is here: {error}")
    if json:
        emit_json([asdict(model) for model in found])
        return
    width = max((len(model.name) for model in found), default=0)
    for model in found:
        emit(f"{model.name:<{width}}  {model.where:<7}  {model.commit}".rstrip())


def info(name: str, json: bool) -> None:
    """`fewshot info`."""
    from fewshot_sdk.runtime.lineage import lineage

    found = lineage(name)
    if json:
        adaptation = found.adaptation.model_dump(mode="json") if found.adaptation else None
        emit_json(
            {
                **{k: v for k, v in vars(found).items() if k in ("kind", "initialization", "sha256", "source", "seed")},
                "data": found.data,
                "labels": list(found.labels),
                "adaptation": adaptation,
                "provenance": found.provenance.model_dump(mode="json"),
                "evaluations": [result.model_dump(mode="json") for result in found.evaluations],
                "chain": found.steps(),
            }
        )
        return
    for number, step in enumerate(found.steps()):
        emit(f"{'   ' * number}{'<- ' if number else ''}{step}")


def verify(folder: Path, key: Path | None, base: str | None) -> None:
    """`fewshot verify`: every file against the manifest, every tensor against the settings, the signature by a key."""
    from fewshot_sdk.artifacts.opening import read_artifact
    from fewshot_sdk.storage.repositories import Opened

    checked = read_folder(folder)
    others = sorted(entry.name for entry in folder.iterdir() if entry.name not in {*checked, MANIFEST})
    if "config.json" not in checked:
        raise BundleError(f"{folder}: its manifest names no config.json; expected a folder made by `fewshot`")
    if key is not None:
        from fewshot_sdk.storage.signing import check

        check(checked, key, folder)
    read_artifact(Opened(files=checked, folder=folder), base)
    emit(f"{folder}: {len(checked)} files are as the manifest says, and load")
    if key is not None:
        emit(f"{folder}: signed by the private half of {key}")
    elif SIGNATURE in checked:
        say(f"it is signed, and by whom was not checked: --key names a public key ({SIGNATURE})")
    if others:
        say(f"not in the manifest, and never read: {', '.join(others)}")
