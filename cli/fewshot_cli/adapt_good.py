"""`fewshot adapt` to good pictures alone."""

from __future__ import annotations

import shlex
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from fewshot_cli.adapt_options import AdaptOptions
from fewshot_cli.output import emit_json, progress, say
from fewshot_cli.watching import gathered, watched
from fewshot_sdk.errors import ConfigError
from fewshot_sdk.storage.files import write_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fewshot_sdk.artifacts.inspector import Inspector


def wanted(given: AdaptOptions) -> bool:
    """Whether an inspector is to be made: it is asked for, or extended, or the support set has a single class.

    Raises ConfigError if one is asked for that would extend something else.
    """
    from fewshot_sdk.images.goods import of_one_class

    if given.extend is not None:
        inspector = _is_inspector(given.extend)
        if given.one_class and given.extend.is_dir() and not inspector:
            raise ConfigError(f"{given.extend} is no inspector, and --one-class is for those; leave it out")
        return inspector
    return given.one_class or of_one_class(given.support)


def adapt(given: AdaptOptions, began: float) -> None:
    """Make or extend an inspector, and write and report it. Raises ConfigError for options that are for classes."""
    unfit = {
        "--method": given.method, "--steps": given.steps is not None, "--trainable": given.trainable,
        "--delta": given.delta, "--backbone": given.backbone, "--labels": given.labels, "--verbose": given.verbose,
        "--label-from": given.label_from != "folder",
    }  # fmt: skip
    if odd := [name for name, value in unfit.items() if value not in (None, False)]:
        raise ConfigError(f"{odd[0]} is for classes, and good pictures are one; leave it out")
    if given.extend is not None and given.init != "auto":
        raise ConfigError(f"leave out --init: --extend uses the network of {given.extend}")
    from fewshot_sdk.adaptation.inspection import REJECT_RATE, adapt_inspector, extend_inspector
    from fewshot_sdk.artifacts.opening import load, load_inspector
    from fewshot_sdk.config.promises import promise_of
    from fewshot_sdk.images.goods import read_goods

    before = None if given.extend is None else load_inspector(given.extend)
    init = None if before else load("photo" if given.init == "auto" else given.init)
    preprocessing = before.preprocessing if before else init.recipe.preprocessing if init else None
    assert preprocessing is not None
    with gathered(in_report=False) as warn:
        goods = read_goods(given.support, preprocessing, skip_bad=given.skip_bad, warn=warn, watch=watched)
    if before:
        made = extend_inspector(before, goods.support, watch=_left_out)
    else:
        assert init is not None
        rate = REJECT_RATE if given.reject_rate is None else given.reject_rate
        made = adapt_inspector(init, goods.support, reject_rate=rate, seed=given.seed, watch=_left_out)
    write_folder(given.output, (made if given.keep_pictures else made.without_pictures()).files())
    if given.json:
        emit_json(_record(made, [asdict(finding) for finding in goods.warnings], given.output))
    config = made.config
    pictures = f"{config.good} good picture{'' if config.good == 1 else 's'}"
    bad = f" and {config.bad} bad one{'' if config.bad == 1 else 's'}" if config.bad else ""
    look = "looks" if config.good == 1 else "look"
    say(f"learned what {pictures} {look} like, kept {config.patches.views}{bad}. {promise_of(config)}")
    folder, file = shlex.quote(str(given.output)), shlex.quote(f"{given.output}.onnx")
    seconds = time.perf_counter() - began
    say(f"wrote {given.output} in {seconds:.1f} s; next: fewshot export {folder} --output {file}")


def _left_out(work: Iterator[str], total: int) -> Iterator[str]:
    return progress(work, total, "leaving each picture out", str, plain_seconds=1.0)


def _is_inspector(folder: Path) -> bool:
    from fewshot_sdk.storage.bundles import INSPECTOR, format_of

    try:
        return format_of((folder / "config.json").read_bytes()) == INSPECTOR.name
    except OSError:
        return False  # what opens it says why


def _record(made: Inspector, findings: list[dict[str, str]], output: Path) -> dict[str, object]:
    from fewshot_sdk.config.promises import promise_of

    config = made.config
    return {
        "output": str(output), "initialization": config.initialization.name, "good": config.good, "bad": config.bad,
        "limit": config.limit, "promise": promise_of(config), "patches": config.patches.model_dump(mode="json"),
        "inspection": config.inspection.model_dump(mode="json"), "findings": findings,
    }  # fmt: skip
