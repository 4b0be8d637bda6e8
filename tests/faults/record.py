"""What docs/reliability.md tells of the long runs of the programs beside this module, from the record in tried.toml."""

from __future__ import annotations

import tomllib

from tests.conftest import REPOSITORY

RECORD = REPOSITORY / "tests" / "faults" / "tried.toml"


def on_purpose() -> str:
    """The section on kills, disks and environments."""
    rows = []
    for run in tomllib.loads(RECORD.read_text())["runs"]:
        bound = "" if run["wrong"] else f"{300 / run['tried']:.2g} %"
        cells = (run["what"], f"`{run['program']}`", f"{run['tried']:,}", run["wrong"], bound)
        rows.append(f"| {' | '.join(map(str, cells))} |")
    return f"""## Kills, disks and environments
Faults made on purpose, by programs that are kept. Wrong is another bit than without the fault, a process or file left
over, something old that is not intact, a message that says "wrote", a traceback. `make test` runs a short form of each,
`make test-all` the long one. The bound is 3/n, as below; kills and refusals are spread over all moments, or tried at
each, which is what it supposes.

| what | program | tried | wrong | bound |
|---|---|---|---|---|
{chr(10).join(rows)}
"""


def fuzzed() -> str:
    """The section on damaged files, from the record of the runs."""
    record = tomllib.loads(RECORD.read_text())
    rows, mended = [], []
    for kind in record["kinds"]:
        faults = kind.get("mended", ())
        bound = "" if kind["left"] else f"{300 / kind['tried']:.2g} %"
        cells = (kind["name"], f"{kind['tried']:,}", f"{kind['read']:,}", len(faults), kind["left"], bound)
        rows.append(f"| {' | '.join(map(str, cells))} |")
        mended += [f"* {kind['name']}: {fault}" for fault in faults]
    tried = sum(kind["tried"] for kind in record["kinds"])
    return f"""## Damaged files
Good files, small and made by code, then damaged: bits flipped, parts cut, doubled and exchanged, lengths and numbers
replaced by 0, -1, 2^31, 2^63 or text; and the lengths, checksums and hashes around the damage made right again, so that
it reaches the inside. Each of {tried:,} was read as a command or the server reads it. Allowed are success, from a model
with finite numbers of the right shape, and one sentence. A fault is anything else: another exception, a warning, a
crash, more than {record["seconds"]} s of processor time, more than {record["megabytes"]} MB of memory.

`python -m tests.faults.fuzz KIND N {record["seed"]}` tries N of a kind, the same ones each time, and keeps the faulty.
With no fault among n, the share of such files that make one is below 3/n, at 95 % confidence; of other damage that
says nothing. The deliberate cases (bombs, endless loops, traversal) have tests of their own.

| kind | tried | of them read | faults found before, and mended | left | bound |
|---|---|---|---|---|---|
{chr(10).join(rows)}

What was found, each mended for its whole kind:

{chr(10).join(mended)}
"""
