"""The Hugging Face Hub's errors, each as one sentence that says what to do.

No text from the server or the client is repeated: it may contain a token, or control characters.
"""

from __future__ import annotations

import traceback

from fewshot_sdk.errors import FewshotError, HubError, SaveError

PUSHED = "an initialization", "what `fewshot push` uploads"
_LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"


def is_passing(error: Exception) -> bool:
    """Whether the same request may succeed a moment later: status 408, 429 or 5xx, a timeout, a broken connection."""
    import httpx2

    error = _root(error)
    if status := _status(error):
        return status in (408, 429) or status >= 500
    if isinstance(error, httpx2.ConnectError):
        return False  # no network, or no server: whether to wait is the user's decision
    return isinstance(error, (httpx2.TransportError, TimeoutError)) or _is_short(error)


def explain(
    error: Exception, name: str, revision: str | None, endpoint: str, seconds: float, expected: tuple[str, str] = PUSHED
) -> FewshotError | None:
    """The error to show instead of the client's; None if it is a bug and not a failure of the Hub.

    seconds: for how long the request was tried; expected: what the repository should be, and what it should hold.
    """
    import httpx2
    from huggingface_hub import errors

    error = _root(error)
    at = f" at {revision!r}" if revision else ""
    match error:
        case FewshotError():
            return error
        case errors.OfflineModeIsEnabled():
            message = f"{name}{at} was never pulled here, and HF_HUB_OFFLINE forbids a download; unset it to allow one"
        case errors.GatedRepoError():
            message = f"{name} is gated; ask for access at {endpoint}/{name}, then {_LOG_IN}"
        case errors.RevisionNotFoundError():
            message = f"{name} has no revision {revision!r}; {endpoint}/{name}/commits/main lists what there is"
        case errors.EntryNotFoundError():
            message = f"{name}{at} is not {expected[0]}: {_file(error)} is missing; expected {expected[1]}"
        case errors.HFValidationError():
            message = f"{name!r} is not the name of a repository; expected user/repo or user/repo@revision"
        case httpx2.ConnectError() | httpx2.ProxyError():
            message = (
                f"cannot reach {endpoint} for {name}{at}; check the network (bundled names, and what was pulled "
                "before, load without it)"
            )
        case OSError() if error.errno:
            return SaveError(f"cannot write the Hub's cache: {(error.strerror or '').lower()}; see HF_HOME")
        case errors.HfHubHTTPError() | httpx2.HTTPError() | httpx2.InvalidURL() | ValueError() | KeyError() | OSError():
            message = _by_status(_status(error), is_passing(error), name, endpoint, seconds)
        case _ if _of_client(error):  # it does not check all that it is sent
            message = _by_status(None, False, name, endpoint, seconds)
        case _:
            return None
    return HubError(message)


def _by_status(status: int | None, passing: bool, name: str, endpoint: str, seconds: float) -> str:
    if status in (401, 404):
        return f"{endpoint} has no {name} that you can see; check the spelling, and if it is private, {_LOG_IN}"
    if status == 403:
        return f"{endpoint} does not allow your token to do this with {name}; use a token that may"
    if status == 429:
        return f"{endpoint} has refused {name} for {seconds:.0f} s: too many requests; try again in a few minutes"
    if status and status >= 500:
        return f"{endpoint} has failed for {seconds:.0f} s (status {status}); try again later"
    if status:
        return f"{endpoint} refused this request for {name} (status {status}); see {endpoint}/{name}"
    if passing:
        return (
            f"{endpoint} did not send {name} within {seconds:.0f} s; check the network, "
            "or give it more time with FEWSHOT_HUB_SECONDS"
        )
    return f"{endpoint} does not answer like a Hugging Face Hub; check HF_ENDPOINT"


def _root(error: BaseException) -> Exception:
    """The cause behind the wrappers that the client puts around it."""
    from huggingface_hub import errors

    wrappers = (errors.RevisionResolutionError, errors.LocalEntryNotFoundError, RuntimeError)
    while isinstance(error, wrappers) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    assert isinstance(error, Exception)
    return error


def _of_client(error: Exception) -> bool:
    """Whether this comes out of the client's own code."""
    names = (str(frame.f_globals.get("__name__")) for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(name.startswith("huggingface_hub.") for name in names)


def _status(error: Exception) -> int | None:
    from huggingface_hub.errors import HfHubHTTPError

    return error.response.status_code if isinstance(error, HfHubHTTPError) else None


def _file(error: Exception) -> str:
    """The name of the requested file."""
    from huggingface_hub.errors import HfHubHTTPError

    name = isinstance(error, HfHubHTTPError) and error.response.request.url.path.rpartition("/")[2]
    return name if name and name.isprintable() else "a file"


def _is_short(error: Exception) -> bool:
    """Whether it is the client's error about a file of the wrong size: an OSError that the system did not raise."""
    return isinstance(error, OSError) and error.errno is None and "Consistency check failed" in str(error)
