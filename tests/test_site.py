"""The site: its pages hold together, show what the code says, and its tutorial does what it shows."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt
from typer.main import get_command

import fewshot_sdk
from fewshot_cli.main import app
from fewshot_sdk import errors
from tests import render_line, render_site
from tests.conftest import REPOSITORY, Run

DOCS = REPOSITORY / "docs"
EXAMPLES = REPOSITORY / "examples"
PAGES = {path.name: path.read_text(encoding="utf-8") for path in DOCS.glob("*.md")}
TUTORIAL = PAGES["tutorial.md"]
COMMANDS: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
OLDER = {
    "adapting.md",
    "deploying.md",
    "training.md",
    "sharing.md",
    "datasets.md",
    "clusters.md",
}  # have tests of their own


def named(nav: list[Any]) -> set[str]:
    """The pages that the navigation names."""
    found: set[str] = set()
    for entry in nav:
        for value in entry.values():
            found |= {value} if isinstance(value, str) else named(value)
    return found


NAMED = named(tomllib.loads((DOCS / "zensical.toml").read_text(encoding="utf-8"))["project"]["nav"])


def test_every_page_is_in_the_navigation() -> None:
    rendered = {"commands.md", "settings.md", render_site.FILES_PAGE}
    beside = {"CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "benchmarks/README.md", "models/README.md"}
    assert (PAGES.keys() | rendered | beside | {"figures/README.md"}) ^ NAMED <= render_site.EXPECTED


def test_every_public_name_and_error_is_in_the_reference() -> None:
    documented = set(re.findall(r"^::: (?:fewshot_sdk\.)(\S+)$", PAGES["api.md"], re.MULTILINE))
    assert set(fewshot_sdk.__all__) - {"__version__"} <= documented
    assert {"config", "errors", "sklearn.FewShotClassifier", "testing.LocalHub"} <= documented
    assert all(vars(errors)[name].__doc__ for name in re.findall(r"-- (\w+)", str(errors.__doc__)))


def test_every_command_has_a_guide_and_a_section() -> None:
    assert set(re.findall(r"^\| `fewshot ([a-z-]+)` \|", PAGES["guides.md"], re.MULTILINE)) == COMMANDS.keys()
    page = render_site.commands_page()
    for name, command in COMMANDS.items():
        section = page.partition(f"\n## fewshot {name}\n")[2].partition("\n## ")[0]
        assert command.help.split(".")[0] in section.replace("\n", " ")
        options = [parameter.opts[0] for parameter in command.params if not getattr(parameter, "hidden", False)]
        assert [option for option in options if option.startswith("--") and option not in section] == []


@pytest.mark.parametrize("page", sorted(PAGES.keys() - OLDER))
def test_the_commands_of_a_page_are_ones_that_fewshot_takes(page: str) -> None:
    for line in re.findall(r"^ *fewshot (.+)$", PAGES[page], re.MULTILINE):
        name, *words = shlex.split(line, comments=True)
        COMMANDS[name].make_context(name, words)


@pytest.mark.parametrize("page", sorted(PAGES.keys() - OLDER))
def test_the_python_of_a_page_is_an_example(page: str) -> None:
    examples = [path.read_text(encoding="utf-8").partition('"""\n\n')[2] for path in EXAMPLES.glob("*.py")]
    assert all(block in examples for block in re.findall(r"```python\n(.*?)```", PAGES[page], re.DOTALL))


@pytest.mark.parametrize("page", ["choosing.md", "coming-from.md", "concepts.md", "faq.md"])
def test_the_figures_of_a_page_are_measured_ones(page: str) -> None:
    measured = PAGES["photographs.md"] + PAGES["results.md"]
    figures = re.findall(r"\d+\.\d+ ± \d+\.\d+", PAGES[page])
    assert figures
    assert [figure for figure in figures if figure not in measured] == []


def test_the_picture_of_the_line_is_the_rendered_one() -> None:
    assert render_line.PAGE.read_text(encoding="utf-8") == render_line.rendered(), "run `python -m tests.render_line`"


def test_the_links_lead_to_pages_and_anchors_of_the_site(tmp_path: Path) -> None:
    render_site.lay_out(tmp_path)
    pages = tmp_path / "pages"
    anchors = {path: headings(path.read_text(encoding="utf-8")) for path in pages.rglob("*.md")}
    for path in anchors:
        for link in re.findall(r"\]\((?!https?://|mailto:)([^)\s]+)", prose(path.read_text(encoding="utf-8"))):
            name, _, anchor = link.partition("#")
            target = Path(os.path.normpath(path.parent / name)) if name else path
            assert target.exists(), f"{path.relative_to(pages)}: {link}"
            assert not anchor or anchor in anchors[target], f"{path.relative_to(pages)}: {link}"


def headings(text: str) -> set[str]:
    """The anchors of a page's headings."""
    tokens = MarkdownIt().parse(text)
    titles = [after.children or [] for token, after in pairwise(tokens) if token.type == "heading_open"]
    return {render_site.anchor("".join(child.content for child in title)) for title in titles}


def prose(text: str) -> str:
    """The text without code."""
    return re.sub(r"`[^`\n]+`", "", re.sub(r"^(`{3,})\w*\n.*?\n\1$", "", text, flags=re.DOTALL | re.MULTILINE))


def test_a_link_to_nothing_is_an_error_and_an_expected_page_is_left_out(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"docs/index\.md: nothing\.md"):
        render_site.turned("[x](nothing.md)", DOCS / "index.md", "index.md", {}, set())
    text = '{ "Home" = "index.md" },\n{ "Later" = "inspection.md" },\n'
    assert render_site.settings(text, tmp_path) == '{ "Home" = "index.md" },\n'
    (tmp_path / "inspection.md").touch()
    assert render_site.settings(text, tmp_path) == text


def test_lists_begin_after_an_empty_line() -> None:
    assert render_site.with_lists("Either\n* one\n  of\n* two\n") == "Either\n\n* one\n  of\n* two\n"


def test_the_parameters_of_a_docstring_become_a_list() -> None:
    pytest.importorskip("griffe", reason="needs fewshot-sdk[docs]")
    from tests.site_docstrings import listed

    text = "Adds.\n\nleft: the first. right, more: the rest: all.\nRaises ConfigError if not."
    items = ["**left**: the first.", "**right**, more: the rest: all.", "**Raises** ConfigError if not."]
    found = listed(text, ["left", "right", "more"])
    assert re.findall(r"^\* (.*?) *$", found, re.MULTILINE) == items
    assert listed(text, []) == text


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built with warnings as errors."""
    try:
        distribution("zensical")
    except PackageNotFoundError:
        pytest.skip("needs fewshot-sdk[docs]")
    folder = tmp_path_factory.mktemp("site")
    render_site.lay_out(folder)
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--config-file", str(folder / "zensical.toml")]
    own = {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "cli")])}
    done = subprocess.run(command, env={**os.environ, **own}, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "site"


def test_the_site_fetches_nothing_from_other_hosts_and_lacks_no_file(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        fetched = re.findall(r'<(?:script|img|iframe|source)\b[^>]*?\ssrc="?([^"\s>]+)', text)
        fetched += re.findall(r'<link\b[^>]*rel="?(?:stylesheet|icon|preload)"?[^>]*href="?([^"\s>]+)', text)
        if page.name == "404.html":  # its addresses begin at the root of the host
            continue
        for address in fetched:
            assert not re.match(r"(https?:)?//", address), f"{page.name}: {address}"
            assert address.startswith("data:") or (page.parent / address.partition("?")[0]).exists(), (
                f"{page}: {address}"
            )
    styles = [path.read_text(encoding="utf-8") for path in site.rglob("*.css")]
    assert styles
    assert not any(re.search(r"@import|url\([\"']?(https?:)?//", style) for style in styles)


def test_the_site_has_the_reference_and_can_be_searched(site: Path) -> None:
    page = (site / "api.html").read_text(encoding="utf-8")
    assert all(f'id="fewshot_sdk.{name}"' in page for name in set(fewshot_sdk.__all__) - {"__version__"})
    assert all(f'id="fewshot_sdk.errors.{name}"' in page for name in re.findall(r"-- (\w+)", str(errors.__doc__)))
    found = (site / "search.json").read_text(encoding="utf-8")
    assert all(
        words in found for words in ("Photographs to ONNX in ten minutes", "fewshot export-learner", "loss_divisor")
    )


SHOWN = re.compile(r"^```bash\n(.*?)^```\n(?:\n^```text\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE)


@pytest.mark.slow
def test_the_tutorial_does_what_it_shows(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tried = []
    for command, shown in SHOWN.findall(TUTORIAL):
        name, *words = shlex.split(command.strip()) if "\n" not in command.strip() else ("pip",)
        if name == "python":
            monkeypatch.setattr(sys, "argv", words)
            runpy.run_path(str(EXAMPLES / words[0]), run_name="__main__")
        if name == "fewshot":
            code, out, err = run(*words)
            assert code == 0, err
            printed = [masked(line) for line in (out + err).splitlines()]
            assert all(masked(line) in printed for line in shown.splitlines()), out + err
            tried.append(words[0])
    assert tried == ["doctor", "adapt", "test", "export", "predict", "adapt"]
    runpy.run_path(str(EXAMPLES / "photographs.py"), run_name="__main__")
    assert "Prediction(label='lemon'" in capsys.readouterr().out


def masked(line: str) -> str:
    """The line without what differs from one processor to another: numbers, and the spaces that align them."""
    return re.sub(r"\s+", " ", re.sub(r"\d[\d.,e+-]*", "N", line))
