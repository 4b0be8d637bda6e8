"""What `make audit` makes of what pip-audit says; pip-audit itself needs a network."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests import audit
from tests.conftest import REPOSITORY

SOUND = {"name": "numpy", "version": "2.0", "vulns": []}
WEAK = {
    "name": "pillow", "version": "1.0",
    "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-2020-1"], "fix_versions": ["1.1"], "description": "x"}],
}  # fmt: skip
UNKNOWN = {"name": "torch", "skip_reason": "Dependency not found on PyPI"}


def program(folder: Path, said: str, code: int = 0) -> str:
    """A program that says this and ends."""
    (folder / "said").write_text(said)
    (folder / "audit").write_text(f"#!/bin/sh\necho 'No route to host' >&2\ncat '{folder}/said'\nexit {code}\n")
    (folder / "audit").chmod(0o755)
    return str(folder / "audit")


@pytest.mark.parametrize(
    ("packages", "code", "line"),
    [
        ([SOUND], 0, "audited 1 of 1 pinned packages: 0 vulnerabilities"),
        ([SOUND, UNKNOWN], 0, "not in the list: torch\naudited 1 of 2 pinned packages: 0 vulnerabilities"),
        ([SOUND, WEAK], 1, "vulnerable: pillow 1.0: PYSEC-1, mended in 1.1\naudited 2 of 2 pinned packages"),
        ([UNKNOWN], 3, "no audit: the list of known vulnerabilities could not be asked (it knows none of the 1 pinned"),
    ],
)
def test_a_vulnerability_and_a_list_that_knows_nothing_are_failures(
    packages: list[object], code: int, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = json.dumps({"dependencies": packages})
    assert audit.main(program(tmp_path, said, 1 if WEAK in packages else 0), if_reachable=False) == code
    assert line in capsys.readouterr().out


@pytest.mark.parametrize("name", ["PYSEC-1", "CVE-2020-1"])
def test_a_vulnerability_that_was_judged_is_left_out_by_any_of_its_names(name: str) -> None:
    assert audit.findings([WEAK], {name: "we never call that"}) == []
    assert len(audit.findings([WEAK], {"CVE-2020-2": ""})) == 1


def test_where_the_list_cannot_be_reached_ci_says_so_in_one_line_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for it in (program(tmp_path, "", 1), str(tmp_path / "not installed")):
        assert audit.main(it, if_reachable=True) == 0
        (line,) = capsys.readouterr().out.splitlines()
        assert line.startswith("no audit: the list of known vulnerabilities could not be asked (")
        assert audit.main(it, if_reachable=False) == audit.UNREACHABLE
        assert "No route to host" in capsys.readouterr().out or it.endswith("not installed")


def test_ci_audits_and_goes_on_only_if_the_list_cannot_be_reached() -> None:
    assert "\nmake audit AUDIT=--if-reachable\n" in (REPOSITORY / ".ci" / "run").read_text()
    done = subprocess.run(
        ["make", "--dry-run", "audit", "AUDIT=--if-reachable"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ".venv/bin/python -m tests.audit .venv/audit/bin/pip-audit --if-reachable" in done.stdout.splitlines()
