"""What `fewshot predict` and `fewshot test` do with an inspector."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from fewshot_cli.batch import pictures, reasons, tell_of_sorting
from fewshot_cli.explanations import file_names
from fewshot_cli.output import emit, emit_json, on_one_line, progress, say
from fewshot_sdk.errors import ConfigError, ImageError
from fewshot_sdk.storage.files import check_free, write_files

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fewshot_sdk.config.recipe import Preprocessing
    from fewshot_sdk.images.preprocessing import Picture
    from fewshot_sdk.runtime.inspections import Inspected, InspectionScore
    from fewshot_sdk.runtime.scoring import Share


@runtime_checkable
class Inspecting(Protocol):
    """An Inspector or an InspectionPredictor; recognizing it does not import PyTorch."""

    @property
    def limit(self) -> float | None:
        """The score above which a picture is not good."""

    @property
    def preprocessing(self) -> Preprocessing:
        """How pictures become the network's pixels."""

    def predict(self, pictures: Sequence[Picture], *, threshold: float | None = None) -> list[Inspected]:
        """Whether each picture is good, and its score."""

    def explain(self, pictures: Sequence[Picture]) -> list[NDArray[np.float32]]:
        """The heat map (h, w) of each picture."""


def inspect(
    model: Inspecting, images: Sequence[Path], names: Callable[[], bytes], *,
    recursive: bool, threshold: float | None, json: bool, json_lines: bool, explain: Path | None, into: Path | None,
    move: bool, strict: bool,
) -> bool:  # fmt: skip
    """Print whether each picture is good, and its score; whether that went well, see `fewshot predict --strict`.

    names: see `list_pictures`; into: the folder that pictures are sorted into, by moving or copying them.
    """
    from fewshot_sdk.config.inspection import GOOD, NOT_GOOD
    from fewshot_sdk.images.listing import list_pictures
    from fewshot_sdk.storage.sorting import UNKNOWN, Misplaced, sorter

    if explain is not None:
        check_free(explain, "--explain")
    listing = list_pictures(images, names, recursive=recursive, leave_out=into)
    paths = list({str(Path(path).absolute()): path for path in listing.paths}.values())
    files = file_names([Path(path) for path in paths]) if explain is not None else [""] * len(paths)
    drawn: list[tuple[str, bytes]] = []
    rows: list[dict[str, object]] = []
    errors: list[str] = []
    misplaced = 0
    width = min(60, max(map(len, paths)))
    with ExitStack() as stack:
        sort = stack.enter_context(sorter(into, (GOOD, NOT_GOOD), move=move)) if into is not None else None
        if sort is not None:
            stack.callback(tell_of_sorting, sort)  # after Ctrl-C or on a full disk, too
        for path, file in zip(paths, files, strict=True):
            try:
                (found,) = model.predict([Path(path)], threshold=threshold)
                if explain is not None:
                    drawn.append((file, _drawn(model, Path(path), found)))
            except ImageError as error:
                if len(paths) == 1:
                    raise
                errors.append(str(error))
                rows.append({"image": path, "error": str(error)})
            else:
                row: dict[str, object] = {"image": path, **asdict(found)}
                rows.append({**row, "heat_map": str(explain / file)} if explain is not None else row)
                if sort is not None:
                    try:
                        sort.place(Path(path), {True: GOOD, False: NOT_GOOD, None: UNKNOWN}[found.good])
                    except Misplaced as left:
                        misplaced += 1
                        rows[-1]["error"] = str(left)
                        say(str(left))
                if not json and not json_lines:
                    emit(on_one_line(f"{path:<{width}}  {in_words(found)}"))
            if json_lines:
                emit_json(rows[-1], one_line=True)
    if json:
        emit_json(rows)
    if explain is not None:
        write_files(explain, drawn)
        say(f"wrote {explain}: {pictures(len(drawn))} beside a heat map")
    if errors:
        say(reasons(f"{pictures(len(errors))} of {len(paths):,} could not be read", errors, len(errors)))
    return not (misplaced or len(errors) == len(paths) or (strict and errors))


def in_words(found: Inspected) -> str:
    """The answer in words."""
    if found.good is None or found.limit is None:
        return f"score {found.score:.3f} (no limit)"
    return f"{'good' if found.good else 'not good'}  score {found.score:.3f} (limit {found.limit:.3f})"


def _drawn(model: Inspecting, path: Path, found: Inspected) -> bytes:
    from fewshot_sdk.images.overlays import explanation
    from fewshot_sdk.images.preprocessing import read_image
    from fewshot_sdk.runtime.inspections import FAR, excess

    (heat,), data = model.explain([path]), io.BytesIO()
    page = explanation(
        read_image(path), excess(heat, found.limit), model.preprocessing, in_words(found), most=1.0, legend=FAR
    )
    page.save(data, format="PNG")
    return data.getvalue()


def measure(model: Inspecting, source: Path, *, json: bool, strict: bool) -> bool:
    """Print how well good pictures are told from bad ones; whether that went well, see `fewshot test --strict`."""
    from fewshot_sdk.config.inspection import GOOD
    from fewshot_sdk.images.decoding import decode
    from fewshot_sdk.images.goods import good_or_not, label_from
    from fewshot_sdk.images.preprocessing import preprocess
    from fewshot_sdk.images.sources import SourceFile, open_source
    from fewshot_sdk.runtime.inspections import inspection_score

    errors: dict[str, str] = {}
    answers: dict[bool, list[Inspected]] = {True: [], False: []}
    known = {image.tobytes() for image in getattr(model, "pictures", ())}
    seen = 0

    def answered(files: list[SourceFile]) -> Iterator[str]:
        nonlocal seen
        meant = good_or_not([file.label or GOOD for file in files], source)
        for file in files:
            try:
                image = decode(file.read(), file.name)
                (found,) = model.predict([image])
                seen += bool(known) and preprocess(image, model.preprocessing).tobytes() in known
                answers[meant[file.label or GOOD] == GOOD].append(found)
            except ImageError as error:
                errors[file.name] = str(error)
            yield Path(file.name).name

    with open_source(source, label_from(source), least=1) as files:
        for _ in progress(answered(files), len(files), "testing", str):
            pass
        total = len(files)
    result = inspection_score(answers[True], answers[False])
    if json:
        unread = [{"image": name, "error": error} for name, error in errors.items()]
        emit_json({**asdict(result), "limit": model.limit, "unreadable": unread})
    elif len(errors) < total:
        emit("\n".join(_lines(result)))
    if seen:
        say(
            f"warning: {pictures(seen)} of {total:,} {'is' if seen == 1 else 'are'} among those that the inspector "
            "learned from, so that it looks better than it is; test it on others"
        )
    if errors:
        say(reasons(f"{pictures(len(errors))} of {total:,} could not be read", list(errors.values()), len(errors)))
    return not (len(errors) == total or (strict and errors))


def _lines(result: InspectionScore) -> Iterator[str]:
    if result.auroc is not None:
        yield f"area under the ROC curve: {result.auroc:.3f}"
    if result.lost is not None:
        yield f"good pictures called not good: {_words(result.lost)}"
    if result.missed is not None:
        yield f"bad pictures called good: {_words(result.missed)}"
    if result.lost is None and result.missed is None:
        yield "there is no limit, so nothing is called good or not good"


def _words(share: Share) -> str:
    interval = f"95 % interval {100 * share.low:.1f} to {100 * share.high:.1f} %"
    return f"{share.count:,} of {share.n:,} ({share.count / share.n:.1%}; {interval})"


def refuse(model: Path, options: Sequence[str], verb: str) -> None:
    """Raises ConfigError if there are options that an inspector does not take yet."""
    if options:
        raise ConfigError(
            f"{model} is an inspector, with which fewshot {verb} does not take {options[0]}; leave it out"
        )
