"""Every error the library raises on purpose, and how a message shortens a long list.

    FewshotError
    |-- ConfigError       a setting, preset or config.json that cannot be used
    |-- DataError         a data set that is missing, corrupt or too small
    |-- ImageError        a file that is not an image, or exceeds the limits
    |-- SupportError      a support set that no classifier can be made from
    |-- ParamsMismatch    tensors that do not fit the network
    |-- TrainingDiverged  a loss that is not finite
    |-- DeviceError       a GPU that ran out of memory
    |-- WorkersError      a worker process that died
    |-- WorkersStopped    workers ended by a signal
    |-- BundleError       a folder or file that is not what it claims to be
    |-- SignatureError    a missing or invalid signature, or a file that is not a key
    |-- HubError          the Hugging Face Hub refused, or could not be reached
    |-- OutputExists      an output that already exists
    |-- SaveError         a write that the disk refused; nothing half-written is left behind
    |-- MissingExtra      a feature whose optional package is not installed
    `-- ExportError       an ONNX file that could not be made
        `-- ParityError   an ONNX file that disagrees with PyTorch, or loses too much accuracy

Each message is for the person who has to act on it: which thing, what was expected, what was
found, what to do.
"""

from __future__ import annotations

from collections.abc import Sequence

SHOWN = 5  # items of a list in one message
LONGEST, _END = 2000, 500  # characters of a line, and those kept of its end, which says what to do


class FewshotError(Exception):
    """The root of the tree: catch it to catch every known failure."""

    def __str__(self) -> str:
        return "\n".join(self.messages)

    @property
    def messages(self) -> tuple[str, ...]:
        """What is wrong, each thing on a line of at most 2,000 characters, whatever text of a file it repeats."""
        return tuple(_on_one_line(str(each)) for each in self.args)


class ConfigError(FewshotError):
    """A setting, preset or config.json that cannot be used."""


class DataError(FewshotError):
    """A data set that is missing, corrupt or too small."""


class ImageError(FewshotError):
    """A file that is not an image, or exceeds the limits."""


class SupportError(FewshotError):
    """A support set that no classifier can be made from; each argument is one thing that is wrong with it."""

    @property
    def messages(self) -> tuple[str, ...]:
        """The same; a thing that is wrong with several files or rows has a line for each of the first few."""
        return tuple("\n".join(map(_on_one_line, str(each).split("\n"))) for each in self.args)


class ParamsMismatch(FewshotError):
    """Tensors that do not fit the network."""


class TrainingDiverged(FewshotError):
    """A loss that is not finite."""


class DeviceError(FewshotError):
    """A GPU that ran out of memory."""


class WorkersError(FewshotError):
    """A worker process that died."""


class WorkersStopped(FewshotError):
    """Workers ended by a signal; `number` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by signal {number}")
        self.number = number


class BundleError(FewshotError):
    """A folder or file that is not what it claims to be."""


class SignatureError(FewshotError):
    """A missing or invalid signature, or a file that is not a key."""


class HubError(FewshotError):
    """The Hugging Face Hub refused, or could not be reached."""


class OutputExists(FewshotError):
    """An output that already exists."""


class SaveError(FewshotError):
    """A write that the disk refused; nothing half-written is left behind."""


class MissingExtra(FewshotError):
    """A feature whose optional package is not installed."""


class ExportError(FewshotError):
    """An ONNX file that could not be made."""


class ParityError(ExportError):
    """An ONNX file that disagrees with PyTorch, or whose lower precision loses too much accuracy."""


def _on_one_line(text: str) -> str:
    line = text.replace("\r", "\\r").replace("\n", "\\n")  # as it is, a name that holds them names its file
    return line if len(line) <= LONGEST else f"{line[: LONGEST - _END - 5]} ... {line[-_END:]}"


def listed(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def first_few(complaints: Sequence[str], of: str) -> str:
    """The first few complaints, one per line, and how many more there are. of: what they concern, such as `rows`."""
    more = f" (and {len(complaints) - SHOWN} more such {of})" if len(complaints) > SHOWN else ""
    shown = (complaint.replace("\n", "\\n") for complaint in complaints[:SHOWN])  # names of files may have line ends
    return "\n".join(shown) + more
