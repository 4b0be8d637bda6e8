"""An ONNX file, opened once: its session and its metadata."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnxruntime

from fewshot_sdk.config.onnx_file import METADATA_KEY
from fewshot_sdk.errors import BundleError
from fewshot_sdk.storage.bundles import format_of
from fewshot_sdk.storage.files import MAX_FILE_BYTES, read_bounded


@dataclass(frozen=True, kw_only=True, eq=False)
class OnnxFile:
    """A file that onnxruntime runs on the CPU. name: what messages call it; metadata: fewshot-sdk's, if it has any."""

    name: str
    data: bytes
    session: onnxruntime.InferenceSession
    metadata: str | None

    @property
    def format(self) -> str | None:
        """The format named in its metadata."""
        found = None if self.metadata is None else format_of(self.metadata)
        return found if isinstance(found, str) else None


Model = str | Path | bytes | OnnxFile


def opened(model: Model, threads: int, name: str = "the model") -> OnnxFile:
    """Open a file or its bytes; an open file is returned as it is. name: what messages call bytes.

    Raises BundleError if it is not ONNX.
    """
    if isinstance(model, OnnxFile):
        return model
    if isinstance(model, bytes):
        return _open(model, name, threads)
    return _open(read_bounded(Path(model), MAX_FILE_BYTES), str(model), threads)


def _open(data: bytes, name: str, threads: int) -> OnnxFile:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # its own errors reach us as exceptions
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no other base
        reason = str(error).splitlines()[0]
        if "INVALID_PROTOBUF" in reason:
            expected = "expected one made by `fewshot export` or `fewshot export-learner`"
            raise BundleError(f"{name} is not an ONNX file; {expected}") from None
        raise BundleError(f"{name} is not an ONNX file that can be run ({reason}); export it again") from None
    stored: str | None = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if data.count(b"location") > (stored or "").count("location"):  # ONNX's key for the name of another file
        raise BundleError(f"{name} keeps weights in another file, which is not read; export it again as one file")
    return OnnxFile(name=name, data=data, session=session, metadata=stored)
