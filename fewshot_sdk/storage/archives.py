"""A folder as one file, so that a newer one can take its place in a single step: for checkpoints."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from fewshot_sdk.errors import BundleError
from fewshot_sdk.storage.files import MANIFEST, MAX_FILE_BYTES, checked, manifest_of, overwrite_file, read_bounded


def write_archive(path: Path, contents: Mapping[str, bytes]) -> Path:
    """Write files and their manifest as one uncompressed zip, durably, in place of an older one.

    Raises SaveError if the disk refuses; the older one is then still there.
    """
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in {**contents, MANIFEST: manifest_of(contents)}.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return overwrite_file(path, data.getvalue())


def read_archive(path: Path) -> dict[str, bytes]:
    """The files of an archive, each checked against its hash.

    Raises BundleError, naming the file, if it is missing, no archive, damaged or packed by another program.
    """
    data = read_bounded(path, MAX_FILE_BYTES, advice="expected a checkpoint written by `fewshot meta-train`")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise BundleError(f"{path} is compressed; it was not written by `fewshot`")
            return checked(archive.read(MANIFEST), archive.read, path)
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError, NotImplementedError, OSError) as error:
        raise BundleError(f"{path} is not a checkpoint, or is damaged ({error}); remove it and start again") from None
