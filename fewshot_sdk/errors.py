"""Every error the library raises on purpose, and how a message lists some of many things.

    FewshotError
    |-- ConfigError       a setting, preset or config.json that cannot be used
    |-- DataError         a data set that is missing, corrupt or too small
    |-- ImageError        a file that is not an image, or one past the limits
    |-- SupportError      a support folder that no classifier can be made from
    |-- ParamsMismatch    tensors that do not fit the network
    |-- TrainingDiverged  a loss that is no longer a number
    |-- WorkersError         a worker process that died
    |-- WorkersStopped       a signal that ended the work of a team
    |-- BundleError       a folder or file that is not what it claims to be
    |-- SignatureError    a signature that is missing or does not fit, or a key that is none
    |-- HubError          the Hugging Face Hub refused, or could not be reached
    |-- OutputExists      an output that already holds something
    |-- SaveError         the disk refused; nothing half-written is left behind
    `-- ExportError       an ONNX file that could not be made
        `-- ParityError   one that was made, but disagrees with PyTorch, or loses too much

Each message is for the person who has to act on it: which thing, what was expected, what was
found, what to do.
"""

from __future__ import annotations

from collections.abc import Sequence

SHOWN = 5  # of many things in one message


class FewshotError(Exception):
    """The root of the tree: catch it to catch every known failure."""


class ConfigError(FewshotError):
    """A setting, preset or config.json that cannot be used."""


class DataError(FewshotError):
    """A data set that is missing, corrupt or too small."""


class ImageError(FewshotError):
    """A file that is not an image, or one past the limits."""


class SupportError(FewshotError):
    """A support folder that no classifier can be made from; each argument is one thing that is wrong with it."""

    def __str__(self) -> str:
        return "\n".join(map(str, self.args))


class ParamsMismatch(FewshotError):
    """Tensors that do not fit the network."""


class TrainingDiverged(FewshotError):
    """A loss that is no longer a number."""


class WorkersError(FewshotError):
    """A worker process that died."""


class WorkersStopped(FewshotError):
    """A signal that ended the work of a team; `number` says which."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by signal {number}")
        self.number = number


class BundleError(FewshotError):
    """A folder or file that is not what it claims to be."""


class SignatureError(FewshotError):
    """A signature that is missing or does not fit, or a key that is none."""


class HubError(FewshotError):
    """The Hugging Face Hub refused, or could not be reached."""


class OutputExists(FewshotError):
    """An output that already holds something."""


class SaveError(FewshotError):
    """The disk refused; nothing half-written is left behind."""


class MissingExtra(FewshotError):
    """Something that needs a package which is not installed."""


class ExportError(FewshotError):
    """An ONNX file that could not be made, or that disagrees with PyTorch."""


class ParityError(ExportError):
    """An ONNX file that disagrees with PyTorch, or whose fewer bits lose too much."""


def listed(names: Sequence[str]) -> str:
    """Some of many names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def first_few(complaints: Sequence[str], of: str) -> str:
    """Some of many complaints, a line each, and how many more there are. of: what they are of, such as `rows`."""
    more = f" (and {len(complaints) - SHOWN} more such {of})" if len(complaints) > SHOWN else ""
    return "\n".join(complaints[:SHOWN]) + more
