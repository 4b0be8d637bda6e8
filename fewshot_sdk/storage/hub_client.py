"""The Hugging Face Hub's own client, with a deadline, retries, quiet and one process at a time.

Importing that client takes a second, so every function here does it for itself.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fewshot_sdk.errors import BundleError, ConfigError, HubError
from fewshot_sdk.storage.hub_errors import PUSHED, explain, is_passing
from fewshot_sdk.version import __version__

if TYPE_CHECKING:
    from huggingface_hub import HfApi

T = TypeVar("T")
LIBRARY = "fewshot-sdk"
SECONDS = 120.0
PAUSES = 0.5, 8.0  # seconds between the first two tries; at most


def endpoint() -> str:
    """The Hub's address: `HF_ENDPOINT`, or the public one."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def cache() -> Path:
    """Where the client keeps files. It reads the variables once, when imported; we, whenever we are asked."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser().resolve()


class Session:
    """Dealings with one repository, over by a deadline: `FEWSHOT_HUB_SECONDS` from now, or 120.

    name: as in user/repo; revision, and expected, what the repository should be and have in it: for messages only.
    home: the repository's folder in the cache.
    """

    def __init__(self, name: str, revision: str | None = None, expected: tuple[str, str] = PUSHED) -> None:
        from huggingface_hub import HfApi

        self.name, self.revision, self.expected = name, revision, expected
        self.seconds = _patience()
        self.deadline = time.monotonic() + self.seconds
        self.api = HfApi(endpoint=endpoint(), library_name=LIBRARY, library_version=__version__)
        self.home = cache() / f"models--{name.replace('/', '--')}"

    def insist(self, call: Callable[[HfApi], T], *, repeat: bool = True) -> T:
        """What a call of the client gives; tried again, ever more slowly, while the trouble may pass.

        Raises HubError, saying what to do; SaveError if the cache cannot be written.
        """
        pause, longest = PAUSES
        trouble: Exception | None = None
        while True:
            try:
                return self._in_time(lambda: call(self.api))
            except Exception as error:
                if trouble is None or not isinstance(error, TimeoutError):  # a last try cut short tells nothing new
                    trouble = error
                if not (repeat and is_passing(error)) or time.monotonic() + pause > self.deadline:
                    told = explain(trouble, self.name, self.revision, self.api.endpoint, self.seconds, self.expected)
                    if told is None:
                        raise
                    raise told from None
            time.sleep(pause)
            pause = min(2 * pause, longest)

    def resolve(self) -> str:
        """The commit that the revision names: on the Hub, or without a network when it was last pulled."""
        found = self.insist(lambda api: api.resolve_revision(self.name, revision=self.revision, cache_dir=cache()))
        if not re.fullmatch("[0-9a-f]{40}", found.resolved):  # it becomes the name of a folder
            raise HubError(f"{self.api.endpoint} named no commit for {self.name}; check HF_ENDPOINT")
        return found.resolved

    def file(self, name: str, commit: str, size: int | None, limit: int) -> Path:
        """Where a file of a commit lies in the cache, if need be after a download.

        Raises BundleError, before anything is fetched, if the Hub offers more than `limit` bytes, or
        not `size`.
        """
        place = self.home / "snapshots" / commit / name
        return place if place.exists() else self.insist(lambda api: _download(api, self.name, place, size, limit))

    @contextmanager
    def alone(self) -> Iterator[None]:
        """While no other process of ours pulls this repository: one downloads, the others find it there."""
        from filelock import FileLock, Timeout

        lock = FileLock(cache() / ".locks" / self.home.name / f"{LIBRARY}.lock")
        try:
            Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=self.seconds, poll_interval=0.02)
        except Timeout:
            raise HubError(
                f"another process is pulling {self.name}, for {self.seconds:.0f} s now; wait for it"
            ) from None
        except OSError:  # a cache that can only be read needs no lock
            yield
            return
        self.deadline = time.monotonic() + self.seconds  # the wait for others was not the network's fault
        try:
            yield
        finally:
            lock.release()

    def _in_time(self, call: Callable[[], T]) -> T:
        """What `call` gives, or a TimeoutError at the deadline: the client has none, only one for each packet."""
        outcome: list[T | Exception] = []

        def run() -> None:
            try:
                with _quiet:
                    outcome.append(call())
            except Exception as error:
                outcome.append(error)

        drafts = self._drafts()
        worker = threading.Thread(target=run, daemon=True)
        worker.start()
        worker.join(max(self.deadline - time.monotonic(), 0.1))
        if not outcome:
            for draft in self._drafts() - drafts:  # the client removes its own, but is stuck before that
                draft.unlink(missing_ok=True)
            raise TimeoutError
        if isinstance(outcome[0], Exception):
            raise outcome[0]
        return outcome[0]

    def _drafts(self) -> set[Path]:
        return set(self.home.glob("blobs/*.incomplete"))


def _patience() -> float:
    told = os.environ.get("FEWSHOT_HUB_SECONDS") or str(SECONDS)
    try:
        seconds = float(told)
    except ValueError:
        seconds = 0
    if not 0 < seconds <= 1e6:
        raise ConfigError(f"FEWSHOT_HUB_SECONDS is {told!r}; expected a number of seconds above 0, such as {SECONDS:g}")
    return seconds


def _download(api: HfApi, repository: str, place: Path, size: int | None, limit: int) -> Path:
    from huggingface_hub import hf_hub_url

    name, commit = place.name, place.parent.name
    url = hf_hub_url(repository, name, revision=commit, endpoint=api.endpoint)
    offered = api.get_hf_file_metadata(url=url).size or 0
    if offered > limit or (size is not None and offered != size):
        expected = f"{size}" if size is not None and size <= limit else f"at most {limit}"
        raise BundleError(
            f"{place}: expected {expected} bytes, the Hub offers {offered}; "
            "nothing of it was fetched, do not trust this repository"
        )
    meter = _meter(offered, place)
    return Path(api.hf_hub_download(repository, name, revision=commit, cache_dir=cache(), tqdm_class=meter))


def _meter(limit: int, place: Path) -> type[Any]:
    """A progress bar that shows nothing, and stops a server that sends more than it offered."""
    from huggingface_hub.utils.tqdm import tqdm

    class Meter(tqdm):
        received = 0

        def update(self, n: float | None = 1) -> bool | None:
            self.received += int(n or 0)
            if self.received > limit:
                raise BundleError(f"{place}: the Hub sent more than the {limit} bytes it offered; it was not kept")
            return None

    return Meter


class _Quiet:
    """Without the client's own messages and bars: what matters of them is in our errors.

    Its settings are the process's: the first thread to enter changes them, the last one out puts them back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0

    def __enter__(self) -> None:
        from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars

        logger = logging.getLogger("huggingface_hub")
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._before = logger.level, are_progress_bars_disabled()
                logger.setLevel(logging.CRITICAL)
                disable_progress_bars()

    def __exit__(self, *_: object) -> None:
        from huggingface_hub.utils.tqdm import enable_progress_bars

        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                logging.getLogger("huggingface_hub").setLevel(self._before[0])
                if not self._before[1]:
                    enable_progress_bars()


_quiet = _Quiet()
