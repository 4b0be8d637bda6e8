"""One nasty text as label, file name, title and command, through every output: nothing that shows it obeys it.

A class cannot be called what a terminal obeys: `config/labels.py` refuses control characters and what reorders letters.
"""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from fewshot_sdk import adapt, export_learner, export_onnx, save
from fewshot_sdk.artifacts.initialization import Initialization
from fewshot_sdk.errors import FewshotError
from fewshot_sdk.images.support import read_support
from fewshot_sdk.web.pages import demo_site
from fewshot_sdk.web.studio import studio_site
from tests.conftest import REPOSITORY, Run, draw_folder

PRINTABLE = "=cmd|' C calc'!A0 \"><img src=x onerror=alert(1)> $(reboot) `reboot` [a](javascript:alert(1)) {{7*7}} 'q"
OBEYED = "\x1b[2J\x1b]0;owned\x07\u202egnp\x9b31m"  # by a terminal
NASTY = f"{PRINTABLE}{OBEYED}\nerror: forged\r\tline"
FORBIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


class Parser(HTMLParser):
    """Finds what a page of ours never has: code in attributes and links that run code."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            runs = name in ("href", "src", "action") and (value or "").strip().lower().startswith("javascript:")
            if name.startswith("on") or runs or (tag == "img" and value == "x"):
                self.found.append(f"{tag} {name}={value}")


def harmless_page(text: str) -> None:
    assert not Parser(text).found
    assert "<img src=x" not in text


def harmless_card(text: str) -> None:
    harmless_page(MarkdownIt("commonmark", {"html": True}).enable("table").render(text.partition("\n---\n")[2] or text))


def harmless_output(text: str, command: object = None) -> None:
    assert not FORBIDDEN.search(text), command
    forged = [line for line in text.splitlines() if line.startswith(("error: forged", "forged"))]
    assert not forged, command


@dataclass(frozen=True)
class Made:
    folder: Path
    classifier: Path
    onnx: Path
    init: Path
    picture: Path
    support: Path


@pytest.fixture(scope="module")
def made(init: Initialization, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """An initialization with a nasty command, a classifier with a nasty label, a picture with a nasty name."""
    folder = tmp_path_factory.mktemp("nasty")
    support = draw_folder(folder / "drawings", (PRINTABLE, "bee", "cat"))
    picture = folder / NASTY / f"{NASTY}.png"
    picture.parent.mkdir()
    picture.write_bytes((support / "bee" / "0.png").read_bytes())
    (support / "cat" / f"{NASTY}.png").write_bytes((support / "cat" / "0.png").read_bytes())
    odd = replace(init, provenance=init.provenance.replace(command=NASTY))
    classifier = adapt(odd, support, steps=1, reject_rate=None)
    saved, kept = save(odd, folder / "init"), save(classifier, folder / PRINTABLE)
    return Made(
        folder, kept, export_onnx(classifier, folder / f"{PRINTABLE}.onnx").path, saved, picture, support
    )  # fmt: skip


@pytest.mark.parametrize("label", ["\x1b[2J", "a\nb", "a\u202eb", "a\x9bb", "a\x00b", "a\tb"])
def test_a_class_cannot_be_called_what_a_terminal_obeys(label: str, init: Initialization, drawings: Path) -> None:
    support = read_support(drawings, init.recipe.preprocessing)
    with pytest.raises(FewshotError):
        adapt(init, replace(support, labels=(label, *support.labels[1:])), steps=1, reject_rate=None)


def test_terminal(made: Made, run: Run, tmp_path: Path) -> None:
    broken = made.picture.with_name(f"{NASTY}.broken.png")
    broken.write_bytes(b"not a picture")
    for words in (
        ("info", made.init),
        ("info", made.classifier),
        ("info", made.onnx),
        ("predict", made.onnx, made.picture),
        ("predict", made.onnx, broken),
        ("predict", made.onnx, made.picture.parent, "--recursive"),
        ("predict", made.classifier, made.picture, "--copy-to", tmp_path / "sorted"),
        ("test", made.onnx, made.support),
        ("doctor", made.support, "--init", made.init),
        ("doctor", made.picture.parent),
        ("verify", made.init),
        ("predict", made.folder / NASTY / "absent.onnx", made.picture),
        ("info", NASTY),
        ("pull", NASTY),
        ("edit", made.onnx, "--drop", NASTY, "--output", tmp_path / "edited.onnx"),
    ):
        _, out, err = run(*words)
        harmless_output(out, words)
        harmless_output(err, words)
    broken.unlink()


def test_info_prints_one_line_for_each_step(made: Made, run: Run) -> None:
    _, out, _ = run("info", made.init)
    assert len(out.splitlines()) == 3


def test_json(made: Made, run: Run) -> None:
    code, out, _ = run("predict", made.onnx, made.picture, "--json")
    assert code == 0
    assert PRINTABLE in json.dumps(json.loads(out), ensure_ascii=False).replace('\\"', '"')
    harmless_output(out)
    for words in (("info", made.init, "--json"), ("test", made.onnx, made.support, "--json")):
        _, out, _ = run(*words)
        json.loads(out)
        harmless_output(out)
    code, out, _ = run("predict", made.onnx, made.picture, "--json-lines")
    assert [json.loads(line)["image"] for line in out.splitlines()] == [str(made.picture)]


def test_csv_keeps_names_as_they_are_each_in_its_cell(made: Made, run: Run, tmp_path: Path) -> None:
    run("predict", made.onnx, made.picture, "--csv", tmp_path / "answers.csv")
    header, row = csv.reader(io.StringIO((tmp_path / "answers.csv").read_bytes().decode(), newline=""))
    assert len(header) == len(row)
    assert row[0] == str(made.picture)


def test_pages(made: Made, run: Run, tmp_path: Path, init: Initialization) -> None:
    bundle = tmp_path / f"{PRINTABLE} bundle"
    assert run("export", made.classifier, "--bundle", bundle)[0] == 0
    assert run("test", made.onnx, made.support, "--html", tmp_path / "scored.html")[0] in (0, 1)
    learner = export_learner(init, tmp_path / "learner.onnx").path.read_bytes()
    pages = [(bundle / "index.html").read_text(), (tmp_path / "scored.html").read_text()]
    for site in (demo_site(learner), studio_site(learner)):
        pages += [data.decode() for name, data in site.items() if name.endswith(".html")]
    assert len(pages) >= 4
    for page in pages:
        harmless_page(page)
    for card in bundle.rglob("*.md"):
        harmless_card(card.read_text())


def test_the_report_of_adapt_and_its_suggested_commands(made: Made, run: Run, tmp_path: Path) -> None:
    output = tmp_path / PRINTABLE
    code, out, err = run(
        "adapt", "--support", made.support, "--init", made.init, "--steps", 1, "--method", "reptile", "--output", output
    )
    assert code == 0, err
    harmless_output(out + err)
    harmless_page((output / "report.html").read_text())
    harmless_card((output / "README.md").read_text())
    (line,) = (line for line in err.splitlines() if "next: " in line)
    words = shlex.split(line.partition("next: ")[2])
    assert words == ["fewshot", "export", str(output), "--output", f"{output}.onnx"]


def test_suggested_commands_are_quoted(made: Made, run: Run, tmp_path: Path) -> None:
    for words, output in (
        (("export", made.classifier, "--output"), tmp_path / f"{PRINTABLE}.onnx"),
        (("export-learner", made.init, "--output"), tmp_path / f"{PRINTABLE}.learner.onnx"),
    ):
        code, _, err = run(*words, output)
        if code:  # an untrained network may differ too much; then nothing is suggested
            continue
        (line,) = (line for line in err.splitlines() if line.startswith("next: "))
        assert str(output) in shlex.split(line.removeprefix("next: "))


def test_cards(made: Made) -> None:
    cards = [made.init / "README.md", made.classifier / "README.md"]
    for card in cards:
        text = card.read_text()
        harmless_card(text)
        assert "\x1b" not in text
        assert not re.search("(?m)^error: forged", text)


def test_the_recipe_is_toml(made: Made, run: Run) -> None:
    code, out, _ = run("recipe", "--init", made.init)
    assert code == 0
    tomllib.loads(out)
    harmless_output(out)


def scripts() -> Iterator[Path]:
    yield from (REPOSITORY / "fewshot_sdk" / "web" / "assets").glob("*.js")


def test_the_pages_scripts_put_texts_into_pages_as_texts() -> None:
    ways = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|setAttribute\(.on")
    assert not [path.name for path in scripts() if ways.search(path.read_text())]
