"""Opening an artifact by name: one look-up, one read, one hash, and the reader of its format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any, TypeAlias

from fewshot_sdk.artifacts.classifier import Classifier, read_classifier, read_delta
from fewshot_sdk.artifacts.initialization import (
    AnyInitialization,
    Initialization,
    NumberInitialization,
    from_weights,
    of_numbers,
    read_initialization,
    read_numbers,
)
from fewshot_sdk.artifacts.inspector import Inspector, read_inspector
from fewshot_sdk.artifacts.regressor import Regressor, read_regressor
from fewshot_sdk.artifacts.timm import TIMM, pretrained
from fewshot_sdk.config.records import Origin, Provenance
from fewshot_sdk.config.regression import NUMBER_PRESETS
from fewshot_sdk.errors import BundleError, SupportError
from fewshot_sdk.images.tables import read_cells
from fewshot_sdk.storage.bundles import (
    CLASSIFIER,
    DELTA,
    FORMATS,
    INITIALIZATION,
    INSPECTOR,
    REGRESSION,
    REGRESSOR,
    WEIGHTS,
    Format,
    format_of,
    settings_of,
)
from fewshot_sdk.storage.files import read_folder, sha256
from fewshot_sdk.storage.repositories import Opened, bundled, open_named
from fewshot_sdk.version import versions

Artifact: TypeAlias = AnyInitialization | Classifier | Regressor | Inspector
Base: TypeAlias = Initialization | str | Path | None
Files: TypeAlias = Mapping[str, bytes]

READERS: dict[str, Callable[[Files, Path, Base], Artifact]] = {
    INITIALIZATION.name: lambda files, where, _: read_initialization(files, where),
    REGRESSION.name: lambda files, where, _: read_numbers(files, where),
    CLASSIFIER.name: lambda files, where, _: read_classifier(files, where),
    DELTA.name: lambda files, where, base: read_delta(files, where, lambda origin: base_of(origin, where, base)),
    REGRESSOR.name: lambda files, where, _: read_regressor(files, where),
    INSPECTOR.name: lambda files, where, _: read_inspector(files, where),
}


def open_artifact(name: str | Path) -> Artifact:
    """The artifact of this name: a bundled initialization, a folder of any kind, `user/repo[@revision]` or `timm:NAME`.

    The name is looked up in that order. Every file is checked against the manifest's sha256, every tensor against the
    settings. Raises BundleError for a folder that holds none of these or was changed, ParamsMismatch for a tensor that
    is missing, unexpected or of another shape, HubError if the Hub refuses.
    """
    if str(name).startswith(TIMM):
        return _from_timm(str(name))
    return read_artifact(open_named(name))


def open_model(folder: str | Path, base: Base = None) -> Classifier | Regressor | Inspector:
    """The classifier, regressor or inspector in a folder made by `adapt`. base: as for `load_classifier`.

    Raises as `open_artifact` does.
    """
    opened = Opened(files=read_folder(Path(folder)), folder=Path(folder))
    _check_format(opened, CLASSIFIER, DELTA, REGRESSOR, INSPECTOR)
    found = read_artifact(opened, base)
    assert isinstance(found, Classifier | Regressor | Inspector)
    return found


def read_artifact(opened: Opened, base: Base = None) -> Artifact:
    """The artifact in files that are already read and checked. Raises as `open_artifact` does."""
    _check_format(opened, *FORMATS.values())
    reader = READERS[str(format_of(opened.files["config.json"]))]
    made = reader(opened.files, opened.folder, base)
    return replace(made, source=opened.source) if isinstance(made, Initialization) else made


def load(name: str | Path) -> Initialization:
    """The initialization of this name: a bundled one (such as `omniglot`), a folder, or one on the Hub.

    They are looked up in that order; on the Hub it is `user/repo` or `user/repo@revision`, pulled if need be.
    `timm:NAME` is a model of the timm library, with its weights from the Hub and a zero head.
    Every file is checked against the manifest's sha256, every tensor against the recipe.
    Raises BundleError for a folder that holds no initialization or was changed, ParamsMismatch for a tensor that
    is missing, unexpected or of another shape, HubError if the Hub refuses.
    """
    if str(name).startswith(TIMM):
        return _from_timm(str(name))
    opened = open_named(name)
    _check_format(opened, INITIALIZATION)
    found = read_artifact(opened)
    assert isinstance(found, Initialization)
    assert not of_numbers(found)
    return found


def load_any(name: str | Path) -> AnyInitialization:
    """As `load`, but finds initializations for numbers, too."""
    if str(name).startswith(TIMM):
        return _from_timm(str(name))
    opened = open_named(name)
    _check_format(opened, INITIALIZATION, REGRESSION)
    found = read_artifact(opened)
    assert isinstance(found, Initialization)
    return found


def load_bundled() -> dict[str, Initialization]:
    """The bundled initializations for pictures, by name."""
    return {name: load(name) for name in bundled() if name not in NUMBER_PRESETS}


def bundled_for(table: Path) -> NumberInitialization | None:
    """The bundled initialization for numbers whose columns are in a CSV's header; None for a CSV of pictures."""
    for name in sorted(bundled().keys() & NUMBER_PRESETS.keys()):
        init = load_any(name)
        assert of_numbers(init)
        try:
            header = read_cells(table, (*init.recipe.inputs, init.recipe.output)).header
        except SupportError:
            continue
        if not {"path", "label"} <= set(header):
            return init
    return None


def load_classifier(folder: str | Path, base: Base = None) -> Classifier:
    """The classifier in a folder, every file checked against its hash, every tensor by name.

    base: for a `Delta`, its initialization, or a name for `load`; None looks up what the delta
    records: the repository it is from, or the bundled one with that hash.
    Raises BundleError for a folder that holds no classifier or was changed, or a delta on another base, ParamsMismatch
    for a tensor that is missing, unexpected or of another shape.
    """
    return classifier_in(Opened(files=read_folder(Path(folder)), folder=Path(folder)), base)


def classifier_in(opened: Opened, base: Base = None) -> Classifier:
    """The classifier in files that are already read and checked. Raises as `load_classifier` does."""
    _check_format(opened, CLASSIFIER, DELTA)
    found = read_artifact(opened, base)
    assert isinstance(found, Classifier)
    return found


def load_inspector(folder: str | Path) -> Inspector:
    """The inspector in a folder, every file checked against its hash, every tensor by name.

    Raises BundleError for a folder that holds no inspector or was changed, ParamsMismatch for a tensor that does not
    fit.
    """
    opened = Opened(files=read_folder(Path(folder)), folder=Path(folder))
    _check_format(opened, INSPECTOR)
    return read_inspector(opened.files, opened.folder)


def load_regressor(folder: str | Path) -> Regressor:
    """The regressor in a folder, every file checked against its hash, every tensor by name.

    Raises BundleError for a folder that holds no regressor or was changed, ParamsMismatch for a tensor that does not
    fit.
    """
    opened = Opened(files=read_folder(Path(folder)), folder=Path(folder))
    _check_format(opened, REGRESSOR)
    return read_regressor(opened.files, opened.folder)


def _check_format(opened: Opened, *wanted: Format[Any]) -> None:
    if format_of(opened.files.get("config.json", b"")) not in {form.name for form in wanted}:
        settings_of(opened.files, opened.folder, wanted[0])  # raises, naming what is missing or which format was found
        raise AssertionError("settings of another format were read")


def _from_timm(name: str) -> Initialization:
    found = pretrained(name)
    made = Provenance(
        command=f"the timm library, as {found.source}", seed=0, meta_steps_done=0, data_sha256="", seconds=0,
        versions={**versions(), "timm": metadata.version("timm")},
    )  # fmt: skip
    return replace(from_weights(found.recipe, found.params, made), source=found.source)


def base_of(origin: Origin, where: Path, given: Base) -> Initialization:
    """The initialization of the delta in the folder `where`. given: as `base` of `load_classifier`."""
    if isinstance(given, Initialization):
        return given
    if given is not None:
        return load(given)
    wanted = origin.source or _name_of(origin)
    try:
        return load(wanted)
    except BundleError:
        raise BundleError(
            f"{where} is a delta on {origin.name} (sha256 {origin.sha256[:16]}...), which is neither bundled nor "
            "on the Hub; name its folder with --base, or with --init to extend the delta"
        ) from None


def _name_of(origin: Origin) -> str:
    """The name under which an initialization is bundled now, found by its hash: it may have had another name once."""
    folders = bundled()
    own = {origin.name: folders[origin.name]} if origin.name in folders else {}
    for name, folder in {**own, **folders}.items():
        files = read_folder(folder)
        if sha256(b"".join(files.get(file, b"") for file in WEIGHTS)) == origin.sha256:
            return name
    return origin.name
