"""Lays out the pages of the site in a folder, with the settings beside them: `make docs` builds the site from it.

The pages are docs/ and the other Markdown files of the repository, whose links are turned to where they lie here, and
pages that are rendered from the code: the commands, the settings of recipes, and the files that pages link to.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from typer.main import get_command

from fewshot_cli.main import app
from fewshot_sdk.config.presets import PRESETS
from fewshot_sdk.config.recipe_files import recipe_text
from fewshot_sdk.config.regression import NUMBER_PRESETS

REPOSITORY = Path(__file__).parent.parent
DOCS = REPOSITORY / "docs"
SETTINGS = "zensical.toml"
FILES_PAGE = "files.md"
EXPECTED = {"inspection.md"}  # pages that the navigation names before they are there
LANGUAGES = {".py": "python", ".sh": "bash", ".yaml": "yaml", ".toml": "toml"}
LINK = re.compile(r"(?<=\]\()(?!https?://|mailto:|#)([^)#\s]+)")


def sources() -> dict[Path, str]:
    """The Markdown files of the repository that are pages, and where they lie in the site."""
    others = ["SECURITY.md", "CHANGELOG.md", "CONTRIBUTING.md", "benchmarks/README.md"]
    models = [str(path.relative_to(REPOSITORY)) for path in sorted((REPOSITORY / "models").rglob("*.md"))]
    pages = {path: str(path.relative_to(DOCS)) for path in sorted(DOCS.rglob("*.md"))}
    return {**pages, **{REPOSITORY / name: name for name in (*others, *models)}}


def lay_out(output: Path) -> None:
    """Write the site's pages to `output`/pages and its settings to `output`."""
    pages, known = output / "pages", sources()
    shutil.rmtree(pages, ignore_errors=True)
    for path in (*DOCS.rglob("*"), *(REPOSITORY / "models").rglob("*.png")):
        if path.is_file() and path.suffix not in (".md", ".toml"):
            home = DOCS if path.is_relative_to(DOCS) else REPOSITORY
            _write(pages / path.relative_to(home), path.read_bytes())
    shown: set[Path] = set()
    for path, name in known.items():
        text = with_lists(_without_front_matter(path.read_text(encoding="utf-8")))
        _write(pages / name, turned(text, path, name, known, shown).encode())
    _write(pages / "commands.md", commands_page().encode())
    _write(pages / "settings.md", settings_page().encode())
    _write(pages / FILES_PAGE, files_page(sorted(shown)).encode())
    _write(output / SETTINGS, settings((DOCS / SETTINGS).read_text(encoding="utf-8"), pages).encode())


def turned(text: str, path: Path, name: str, known: dict[Path, str], shown: set[Path]) -> str:
    """The text of a page with its links turned to where their targets lie; files that it links to join `shown`."""

    def target(link: re.Match[str]) -> str:
        to = Path(os.path.normpath(path.parent / link[1]))
        if not to.exists():
            raise FileNotFoundError(f"{path.relative_to(REPOSITORY)}: {link[1]}")
        if to == REPOSITORY / "README.md":
            return os.path.relpath("index.md", Path(name).parent)
        if to in known:
            return os.path.relpath(known[to], Path(name).parent)
        if to.is_relative_to(DOCS) or to.suffix == ".png":
            return (
                link[1] if to.is_relative_to(DOCS) else os.path.relpath(to.relative_to(REPOSITORY), Path(name).parent)
            )
        shown.add(to)
        return f"{os.path.relpath(FILES_PAGE, Path(name).parent)}#{anchor(str(to.relative_to(REPOSITORY)))}"

    return _outside_code(text, lambda line: LINK.sub(target, line))


def with_lists(text: str) -> str:
    """The text with an empty line before each list, which the builder needs and GitHub does not."""
    lines: list[str] = []
    for line in text.splitlines():
        if re.match(r"(\*|-|\d+\.) ", line) and lines and lines[-1] and not re.match(r"(\*|-|\d+\.) |\s", lines[-1]):
            lines.append("")
        lines.append(line)
    return "\n".join(lines) + "\n"


def anchor(heading: str) -> str:
    """The anchor that the builder gives a heading."""
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower())


def commands_page() -> str:
    """Every command with its arguments and options, from the command itself."""
    group: Any = get_command(app)
    sections = [
        f"# Commands\n\nWhat `fewshot COMMAND --help` says, of version {_version()}. [Guides](guides.md) tell more.\n"
    ]
    with group.make_context("fewshot", ["models"], resilient_parsing=True) as context:
        names = group.list_commands(context)
        sections += [_section(name, group.get_command(context, name), context) for name in names]
    return "\n".join(sections)


def _section(name: str, command: Any, parent: Any) -> str:
    """One command's heading, text and tables."""
    context = command.make_context(name, [], parent=parent, resilient_parsing=True)
    usage = " ".join(command.collect_usage_pieces(context))
    panels: dict[str, list[str]] = {}
    for parameter in command.get_params(context):
        if record := parameter.get_help_record(context):
            default = "Arguments" if parameter.param_type_name == "argument" else "Options"
            panel = default if default == "Arguments" else getattr(parameter, "rich_help_panel", None) or default
            panels.setdefault(panel, []).append(f"| `{record[0]}` | {_cell(record[1])} |")
    tables = [f"| {title} | |\n|---|---|\n" + "\n".join(rows) + "\n" for title, rows in panels.items()]
    words = [escape(text, quote=False).strip() + "\n" for text in (command.help, command.epilog) if text]
    return "\n".join([f"## fewshot {name}\n", *words, f"    fewshot {name} {usage}\n", *tables])


def _cell(text: str) -> str:
    return escape(text, quote=False).replace("|", "&#124;").replace("*", "&#42;").replace("\n", " ")


def settings_page() -> str:
    """The recipes of two presets, with a comment on each setting."""
    texts = {"omniglot": recipe_text(PRESETS["omniglot"]), "sine": recipe_text(NUMBER_PRESETS["sine"])}
    about = "What `fewshot recipe NAME` prints: each setting, what it may be and its default. See [recipes as files]"
    sections = [f"## {name}\n\n```toml\n{text.strip()}\n```\n" for name, text in texts.items()]
    return "\n".join([f"# Settings of a recipe\n\n{about}(training.md#recipes-are-files).\n", *sections])


def files_page(paths: list[Path]) -> str:
    """The files of the repository that pages link to, in full."""
    sections = ["# Examples and other files\n\nFiles of the repository that the other pages name.\n"]
    for path in paths:
        language, fence = LANGUAGES.get(path.suffix, "text"), "`" * 4
        text = path.read_text(encoding="utf-8").rstrip()
        sections.append(f"## {path.relative_to(REPOSITORY)}\n\n{fence}{language}\n{text}\n{fence}\n")
    return "\n".join(sections)


def settings(text: str, pages: Path) -> str:
    """The settings without those entries of the navigation whose pages are expected and not there yet."""
    missing = [f'"{name}"' for name in EXPECTED if not (pages / name).exists()]
    kept = [line for line in text.splitlines(keepends=True) if not any(name in line for name in missing)]
    return "".join(kept).replace("{repository}", REPOSITORY.as_posix())


def _outside_code(text: str, change: Any) -> str:
    """The text, with `change` made to each line outside blocks of code."""
    return "\n".join(change(line) if not inside else line for line, inside in _lines(text)) + "\n"


def _lines(text: str) -> Iterator[tuple[str, bool]]:
    """Each line, and whether it is in a block of code."""
    fenced = False
    for line in text.splitlines():
        fence = line.startswith("```")
        yield line, fenced or fence or line.startswith("    ")
        fenced ^= fence


def _without_front_matter(text: str) -> str:
    return re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)


def _version() -> str:
    from fewshot_sdk import __version__

    return __version__


def _write(path: Path, contents: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(contents)


if __name__ == "__main__":
    lay_out(Path(sys.argv[1]))
