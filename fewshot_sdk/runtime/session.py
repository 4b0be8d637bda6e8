"""An ONNX file, opened once: its session and its metadata. It can be pickled, and used after a fork."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from fewshot_sdk.config.onnx_file import METADATA_KEY
from fewshot_sdk.errors import BundleError
from fewshot_sdk.runtime.contents import check_contents
from fewshot_sdk.storage.bundles import format_of
from fewshot_sdk.storage.files import MAX_FILE_BYTES, read_bounded, sha256

MAX_MEMORY = 4 * 2**30  # bytes; a file of 100 bytes can ask for any number


class Session:
    """What onnxruntime runs of a file, on the CPU; any number of threads may use it at once.

    A copy shares it. A pickle holds the path of the file and its SHA-256, or the bytes where there is no file; what is
    unpickled opens it when it is first used, and so does a forked process, in which onnxruntime's own would hang.
    """

    def __init__(self, source: Path | bytes, data: bytes, *, name: str, threads: int) -> None:
        self._source, self._name, self._threads = source, name, threads
        self._sha256 = sha256(data)
        self._opened, self._process = _open(data, name, threads), _process

    def run(self, outputs: Sequence[str] | None, feed: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The outputs of these names; None: all. Raises BundleError if onnxruntime cannot compute them."""
        session, names = self._here, None if outputs is None else list(outputs)
        try:
            return [np.asarray(found) for found in session.run(names, dict(feed))]
        except MemoryError:
            raise
        except Exception as error:  # onnxruntime's exceptions share no other base
            reason = str(error).strip().partition("\n")[0]
            if "memory" in reason:
                raise BundleError(
                    f"{self._name} needs more memory than there is, or than {MAX_MEMORY / 2**30:g} GiB; give it less "
                    "at once, and do not trust it if it comes from somebody else"
                ) from None
            raise BundleError(f"{self._name} cannot be run ({reason[:300]}); export it again") from None

    def get_inputs(self) -> list[onnxruntime.NodeArg]:
        """The inputs that a feed must have."""
        return list(self._here.get_inputs())

    def get_outputs(self) -> list[onnxruntime.NodeArg]:
        """The outputs, in order."""
        return list(self._here.get_outputs())

    def get_overridable_initializers(self) -> list[onnxruntime.NodeArg]:
        """The inputs that a feed may have."""
        return list(self._here.get_overridable_initializers())

    @property
    def metadata(self) -> str | None:
        """What fewshot-sdk wrote into the file, if it did. Raises BundleError if it is damaged."""
        try:
            stored: str | None = self._here.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        except UnicodeDecodeError:
            raise BundleError(f"{self._name}: its metadata is damaged; export it again") from None
        return stored

    def __copy__(self) -> Session:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Session:
        return self

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "_opened": None}

    @property
    def _here(self) -> onnxruntime.InferenceSession:
        """The session of this process. Raises BundleError if the file has changed or gone since."""
        if self._opened is None or self._process != _process:
            with _opening:
                if self._opened is None or self._process != _process:
                    if self._opened is not None:
                        _inherited.append(self._opened)  # its destructor waits for threads that did not come along
                    self._opened, self._process = _open(self._again(), self._name, self._threads), _process
        return self._opened

    def _again(self) -> bytes:
        if isinstance(self._source, bytes):
            return self._source
        advice = "it was opened before in another process, and every process reads it for itself; put it back"
        data = read_bounded(self._source, MAX_FILE_BYTES, advice=advice)
        if sha256(data) != self._sha256:
            raise BundleError(
                f"{self._source} has changed since it was opened: expected the SHA-256 {self._sha256[:16]}..., found "
                f"{sha256(data)[:16]}...; open it again, or open its bytes, which stay the same"
            )
        return data


@dataclass(frozen=True, kw_only=True, eq=False)
class OnnxFile:
    """A file that onnxruntime runs on the CPU. name: what messages call it; metadata: fewshot-sdk's, if it has any."""

    name: str
    session: Session
    data: bytes
    metadata: str | None

    @property
    def format(self) -> str | None:
        """The format named in its metadata."""
        return None if self.metadata is None else format_of(self.metadata)


Model = str | Path | bytes | OnnxFile


def opened(model: Model, threads: int, name: str = "the model") -> OnnxFile:
    """Open a file or its bytes; an open file is returned as it is. name: what messages call bytes.

    Raises BundleError if it is not ONNX.
    """
    if isinstance(model, OnnxFile):
        return model
    if isinstance(model, bytes):
        return _file(model, model, name, threads)
    return _file(Path(model).absolute(), read_bounded(Path(model), MAX_FILE_BYTES), str(model), threads)


def _file(source: Path | bytes, data: bytes, name: str, threads: int) -> OnnxFile:
    session = Session(source, data, name=name, threads=threads)
    return OnnxFile(name=name, data=data, session=session, metadata=session.metadata)


def _open(data: bytes, name: str, threads: int) -> onnxruntime.InferenceSession:
    check_contents(data, name)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # its own errors reach us as exceptions
    options.add_session_config_entry("session.load_model_format", "ONNX")  # its own format was not checked
    if _process is _first:  # in a forked process another thread's lock may never be free
        with _bounding:
            _bound_memory()
        options.add_session_config_entry("session.use_env_allocators", "1")
    try:  # without fallback, which prints what happened
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"], enable_fallback=0)
        for each in (*session.get_inputs(), *session.get_outputs(), *session.get_overridable_initializers()):
            _ = each.name, each.type, each.shape  # a name that is not UTF-8 is an error here, not later
        return session
    except Exception as error:  # onnxruntime's exceptions share no other base
        reason = str(error).splitlines()[0]
        if "INVALID_PROTOBUF" in reason:
            expected = "expected one made by `fewshot export` or `fewshot export-learner`"
            raise BundleError(f"{name} is not an ONNX file; {expected}") from None
        raise BundleError(f"{name} is not an ONNX file that can be run ({reason}); export it again") from None


@cache
def _bound_memory() -> None:
    """Let all sessions of this process together take at most `MAX_MEMORY` for what they compute."""
    place = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    as_requested = {"max_mem": MAX_MEMORY, "arena_extend_strategy": 1}
    onnxruntime.create_and_register_allocator(place, onnxruntime.OrtArenaCfg(as_requested))


_bounding = threading.Lock()
_opening = threading.Lock()
_process = _first = object()  # another one in each process
_inherited: list[onnxruntime.InferenceSession] = []


def _in_child() -> None:
    global _opening, _process
    _opening, _process = threading.Lock(), object()  # another thread may have held the lock


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_in_child)
