"""The Hugging Face Hub's own client with a deadline, retries, no output, and one process at a time.

Importing that client takes a second, so each function here imports it when called.
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

from fewshot_sdk.errors import BundleError, ConfigError, HubError, SaveError
from fewshot_sdk.storage.hub_errors import PUSHED, explain, is_passing
from fewshot_sdk.version import __version__

if TYPE_CHECKING:
    from huggingface_hub import HfApi

T = TypeVar("T")
LIBRARY = "fewshot-sdk"
SECONDS = 120.0
PAUSES = 0.5, 8.0  # seconds between the first two tries, and at most


def endpoint() -> str:
    """The Hub's address: `HF_ENDPOINT`, or the public one."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def cache() -> Path:
    """The client's cache folder; read from the environment at each call, not once at import as in the client.

    Raises SaveError if there is none.
    """
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    try:
        return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser().resolve()
    except RuntimeError:  # without HOME, for a user whom the system does not know
        raise SaveError("this user has no home folder for a cache; set HF_HOME to a folder for it") from None


class Session:
    """Requests to one repository with a common deadline: `FEWSHOT_HUB_SECONDS` from now, or 120.

    name: user/repo; revision: what `resolve` resolves; expected: for messages, what the repository should be and hold.
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
        """The result of a call of the client; with `repeat` retried, with growing pauses, while the failure may pass.

        Raises HubError, saying what to do; SaveError if the cache cannot be written.
        """
        pause, longest = PAUSES
        failure: Exception | None = None
        while True:
            try:
                return self._in_time(lambda: call(self.api))
            except Exception as error:
                if failure is None or not isinstance(error, TimeoutError):  # a last try cut short says nothing new
                    failure = error
                if not (repeat and is_passing(error)) or time.monotonic() + pause > self.deadline:
                    known = explain(failure, self.name, self.revision, self.api.endpoint, self.seconds, self.expected)
                    if known is None:
                        raise
                    raise known from None
            time.sleep(pause)
            pause = min(2 * pause, longest)

    def resolve(self) -> str:
        """The commit that the revision names now on the Hub, or without a network when it was last pulled."""
        found = self.insist(lambda api: api.resolve_revision(self.name, revision=self.revision, cache_dir=cache()))
        if not re.fullmatch("[0-9a-f]{40}", found.resolved):  # it becomes the name of a folder
            raise HubError(f"{self.api.endpoint} returned no commit for {self.name}; check HF_ENDPOINT")
        return found.resolved

    def file(self, name: str, commit: str, size: int | None, limit: int) -> Path:
        """The path of a commit's file in the cache, downloaded if it is not there.

        Raises BundleError, before anything is downloaded, if the Hub offers more than `limit` bytes, or another size
        than `size`; None: any.
        """
        place = self.home / "snapshots" / commit / name
        return place if place.exists() else self.insist(lambda api: _download(api, self.name, place, size, limit))

    @contextmanager
    def alone(self) -> Iterator[None]:
        """A lock on this repository: of several processes one downloads, and the others find the files in the cache."""
        from filelock import FileLock, Timeout

        lock = FileLock(cache() / ".locks" / self.home.name / f"{LIBRARY}.lock")
        try:
            Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=self.seconds, poll_interval=0.02)
        except Timeout:
            raise HubError(
                f"another process has been pulling {self.name} for {self.seconds:.0f} s; wait for it to finish"
            ) from None
        except OSError:  # a read-only cache needs no lock
            yield
            return
        self.deadline = time.monotonic() + self.seconds  # the wait for others was not the network's fault
        try:
            yield
        finally:
            lock.release()

    def _in_time(self, call: Callable[[], T]) -> T:
        """The result of `call`; TimeoutError at the deadline, because the client's timeouts are for single packets."""
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
            for draft in self._drafts() - drafts:  # the client would remove them, but is stuck before that
                draft.unlink(missing_ok=True)
            raise TimeoutError
        if isinstance(outcome[0], Exception):
            raise outcome[0]
        return outcome[0]

    def _drafts(self) -> set[Path]:
        return set(self.home.glob("blobs/*.incomplete"))


def _patience() -> float:
    text = os.environ.get("FEWSHOT_HUB_SECONDS") or str(SECONDS)
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not 0 < seconds <= 1e6:
        raise ConfigError(f"FEWSHOT_HUB_SECONDS is {text!r}; expected a number of seconds above 0, such as {SECONDS:g}")
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
            "nothing was downloaded, do not trust this repository"
        )
    meter = _meter(offered, place)
    return Path(api.hf_hub_download(repository, name, revision=commit, cache_dir=cache(), tqdm_class=meter))


def _meter(limit: int, place: Path) -> type[Any]:
    """A progress bar that shows nothing and stops a download of more bytes than the server announced."""
    from huggingface_hub.utils.tqdm import tqdm

    class Meter(tqdm):
        received = 0

        def update(self, n: float | None = 1) -> bool | None:
            self.received += int(n or 0)
            if self.received > limit:
                raise BundleError(
                    f"{place}: the Hub sent more than the {limit} bytes it offered; the file was not kept"
                )
            return None

    return Meter


class _Quiet:
    """Silences the client's own messages and progress bars; our errors say what matters of them.

    The settings are the whole process's: the first thread to enter changes them, the last to leave restores them.
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
