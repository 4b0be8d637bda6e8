"""One process at a time for an output that takes long to make."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fewshot_sdk.errors import OutputExists


def is_held(checkpoint: Path) -> bool:
    """Whether a process of this machine makes the output of this checkpoint at the moment."""
    from filelock import FileLock, Timeout

    path = _lock_of(checkpoint)
    try:
        if not path.is_file():
            return False
        with FileLock(path).acquire(timeout=0):
            return False
    except Timeout:
        return True
    except (OSError, NotImplementedError):
        return False


def _lock_of(checkpoint: Path) -> Path:
    return checkpoint.with_name(f"{checkpoint.name}.lock")


@contextmanager
def alone_at(output: Path, checkpoint: Path, *, patience: float = 0) -> Iterator[None]:
    """While this process is the only one that makes `output`. Raises OutputExists if another one does.

    patience: the seconds to wait for that one to end.

    The system holds the lock, on CHECKPOINT.lock, for as long as the process lives. That file is removed under the
    lock: who has opened it by then, and locks it after, is told by filelock that it has no name any more.
    """
    from filelock import FileLock, Timeout

    path = _lock_of(checkpoint)
    lock = FileLock(path)
    try:
        made = [folder for folder in path.absolute().parents if not folder.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=patience)
    except Timeout:
        raise OutputExists(
            f"another process is making {output} at this moment; wait until it ends, or name another --output"
        ) from None
    except (OSError, NotImplementedError):  # what cannot be written there is told by whoever writes it
        yield
        return
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
        lock.release()
        with contextlib.suppress(OSError):  # where something was saved
            for folder in made:
                folder.rmdir()
