"""The entry point: loads the command and runs it."""

from __future__ import annotations

import os
import sys


def run() -> None:
    """Run `fewshot`; Ctrl-C while it is still loading ends it in one line, too."""
    try:
        from fewshot_cli.main import app

        app()
    except KeyboardInterrupt:
        if sys.stderr is not None:
            sys.stderr.write("interrupted\n")
        os._exit(130)  # half-loaded modules may not bear Python's own way out


if __name__ == "__main__":
    run()
