"""Known vulnerabilities of the pinned packages, from PyPI's list.

python -m tests.audit PIP_AUDIT [--if-reachable]

PIP_AUDIT is that program's path. Ends with 1 for a vulnerability that `ACCEPTED` does not name, and with 3 where the
list could not be asked about any package: pip-audit alone would end with 0. With --if-reachable, that is 0 and a line.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ACCEPTED: dict[str, str] = {}  # a vulnerability's id, and why it does not matter here
PINNED = Path(__file__).parents[1] / "constraints.txt"
UNREACHABLE = 3
SECONDS = 120.0


def report(program: str) -> tuple[list[dict[str, Any]], str]:
    """What pip-audit says of each pinned package, nothing if it could not ask; and the last line of its stderr."""
    command = [program, "--no-deps", "--disable-pip", "--progress-spinner", "off", "-f", "json", "-r", str(PINNED)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        return list(json.loads(done.stdout)["dependencies"]), ""
    except (OSError, subprocess.TimeoutExpired) as error:
        return [], str(error)
    except (ValueError, KeyError, TypeError):
        return [], (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]


def findings(packages: Sequence[Mapping[str, Any]], accepted: Mapping[str, str]) -> list[str]:
    """A line for each vulnerability that is not accepted."""
    return [
        f"{package['name']} {package['version']}: {found['id']}, "
        + (f"mended in {', '.join(found['fix_versions'])}" if found["fix_versions"] else "not mended yet")
        for package in packages
        for found in package.get("vulns", ())
        if not {found["id"], *found.get("aliases", ())} & accepted.keys()
    ]


def main(program: str, *, if_reachable: bool) -> int:
    """Print what was found, in lines; the exit code."""
    packages, reason = report(program)
    asked = [package for package in packages if "skip_reason" not in package]
    unasked = [package["name"] for package in packages if "skip_reason" in package]
    if not asked:
        why = reason or f"it knows none of the {len(unasked)} pinned packages"
        say(f"no audit: the list of known vulnerabilities could not be asked ({why[:200]})")
        return 0 if if_reachable else UNREACHABLE
    found = findings(asked, ACCEPTED)
    if unasked:
        say(f"not in the list: {', '.join(unasked)}")
    say(*(f"vulnerable: {line}" for line in found))
    say(f"audited {len(asked)} of {len(packages)} pinned packages: {len(found)} vulnerabilities")
    return 1 if found else 0


def say(*lines: str) -> None:
    """Print lines."""
    sys.stdout.writelines(f"{line}\n" for line in lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], if_reachable="--if-reachable" in sys.argv[2:]))
