"""The table of CONTRIBUTING.md: a folder imports only folders above it, and the starred ones no PyTorch."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import fewshot_sdk
from tests.conftest import REPOSITORY
from tests.layout import folders

LIBRARY = REPOSITORY / "fewshot_sdk"
COMMAND = REPOSITORY / "cli" / "fewshot_cli"
FILES = {
    ".".join(path.relative_to(LIBRARY).with_suffix("").parts): path
    for path in LIBRARY.rglob("*.py")
    if path.name != "__init__.py" and "assets" not in path.parts
}
FOLDERS = [folder.name for folder in folders()]

COMMAND_FILES = {
    ".".join(path.relative_to(COMMAND).with_suffix("").parts): path
    for path in COMMAND.rglob("*.py")
    if path.name != "__init__.py"
}


def imported(tree: ast.AST) -> set[str]:
    """Every module that an import in this code names; `from a import b` gives a and a.b."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def own(tree: ast.AST) -> set[str]:
    names = {name.removeprefix("fewshot_sdk.") for name in imported(tree) if name.startswith("fewshot_sdk.")}
    return names & FILES.keys()


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def at_once(tree: ast.Module) -> ast.Module:
    """The code that runs on import: the module level, without functions, classes and imports for type checkers."""
    body = [node for node in tree.body if not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.If)]
    return ast.Module(body=body, type_ignores=[])


def used_of_the_command(tree: ast.AST) -> set[str]:
    names = {name.removeprefix("fewshot_cli.") for name in imported(tree) if name.startswith("fewshot_cli.")}
    return names & COMMAND_FILES.keys()


def folder(module: str) -> str:
    return module.partition(".")[0] if "." in module else ""


def imports() -> Iterator[tuple[str, str]]:
    for name, path in FILES.items():
        yield from ((name, other) for other in sorted(own(parsed(path))))


def test_the_table_names_every_module_and_no_other() -> None:
    named = [".".join(filter(None, [f.name, *module.split("/")])) for f in folders() for module in f.holds]
    assert len(named) == len(set(named))
    assert set(named) == FILES.keys()


def test_a_folder_imports_only_folders_above_it() -> None:
    upwards = [pair for pair in imports() if FOLDERS.index(folder(pair[1])) > FOLDERS.index(folder(pair[0]))]
    assert not upwards


@pytest.mark.parametrize(
    ("files", "its"), [(FILES, own), (COMMAND_FILES, used_of_the_command)], ids=["library", "command"]
)
def test_modules_import_each_other_in_no_circle(files: dict[str, Path], its: Callable[[ast.AST], set[str]]) -> None:
    left = {name: its(parsed(path)) for name, path in files.items()}
    while free := [name for name, needs in left.items() if not needs & left.keys()]:
        for name in free:
            del left[name]
    assert not left


def test_nothing_in_a_starred_folder_imports_pytorch() -> None:
    heavy = {
        name
        for name, path in FILES.items()
        if "torch" in {m.partition(".")[0] for m in imported(at_once(parsed(path)))}
    }
    while more := {name for name, path in FILES.items() if name not in heavy and own(at_once(parsed(path))) & heavy}:
        heavy |= more
    assert heavy
    light = {f.name for f in folders() if f.light}
    assert not [name for name in heavy if folder(name) in light]


def test_nothing_in_the_library_imports_its_testing() -> None:
    assert not [pair for pair in imports() if folder(pair[1]) == "testing" and folder(pair[0]) != "testing"]


def test_only_main_imports_commands_and_no_command_another() -> None:
    found = {(name, other) for name, path in COMMAND_FILES.items() for other in used_of_the_command(parsed(path))}
    assert {name for name, other in found if other.startswith("commands.")} == {"main"}


def test_a_command_is_registered_in_the_file_of_its_name() -> None:
    from typer.main import get_command

    from fewshot_cli.main import app

    known: dict[str, object] = get_command(app).commands  # type: ignore[attr-defined]
    there = {name.removeprefix("commands.").replace("_", "-") for name in COMMAND_FILES if name.startswith("commands.")}
    assert known.keys() == there


def test_the_check_would_notice_an_import_upwards() -> None:
    planted = ast.parse("def late():\n    from fewshot_sdk.meta.training import meta_train\n")
    assert own(planted) == {"meta.training"}


def test_every_folder_says_what_it_is_for() -> None:
    for name in FOLDERS:
        assert ast.get_docstring(parsed(LIBRARY / name / "__init__.py")), name


def test_a_module_is_one_concept_long() -> None:
    long = {
        name: n for name, path in (FILES | COMMAND_FILES).items() if (n := len(path.read_text().splitlines())) > 300
    }
    assert not long


def test_only_the_commands_output_prints() -> None:
    for path in [*FILES.values(), *COMMAND_FILES.values()]:
        calls = {
            node.func.id
            for node in ast.walk(parsed(path))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert "print" not in calls, path


def test_the_command_uses_no_private_name() -> None:
    for path in COMMAND_FILES.values():
        private = {name for name in imported(parsed(path)) if "._" in name.removeprefix("__future__")}
        assert not private, path


def test_every_public_name_is_there_and_no_folder_hides_behind_one() -> None:
    for name in fewshot_sdk.__all__:
        assert getattr(fewshot_sdk, name) is not None
        assert name not in FOLDERS
        assert name not in FILES
    assert set(fewshot_sdk.__all__) <= set(dir(fewshot_sdk))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        getattr(fewshot_sdk, "nothing")  # noqa: B009


def test_the_page_on_adding_names_files_that_are_there() -> None:
    text = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text.partition("| a new | files |")[2].partition("\n\n")[0]
    named = re.findall(r"^\|[^|]*\| `([^`]+)` \|", table, re.MULTILINE)
    assert len(named) >= 10
    for name in named:
        path = Path(name.replace("NAME", "__init__"))
        assert (LIBRARY / path).exists() or (REPOSITORY / path).is_file(), name
