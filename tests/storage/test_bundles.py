from __future__ import annotations

import contextlib
from itertools import product
from pathlib import Path

import pytest

from fewshot_sdk.errors import BundleError
from fewshot_sdk.storage.bundles import format_of, read_archive, write_archive


def test_an_archive_is_the_same_bytes_for_the_same_files(tmp_path: Path) -> None:
    first = write_archive(tmp_path / "a", {"x": b"1", "y": b"2"}).read_bytes()
    assert write_archive(tmp_path / "b", {"x": b"1", "y": b"2"}).read_bytes() == first
    assert read_archive(tmp_path / "a") == {"x": b"1", "y": b"2"}


@pytest.mark.parametrize("config", ['{"format": ["a"]}', '{"format": {}}', '{"format": 1}', "[]", "", "[" * 100_000])
def test_a_format_that_is_no_text_is_none(config: str) -> None:
    assert format_of(config) is None


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "a", {"model.safetensors": bytes(300)})
    good = path.read_bytes()
    for position, bit in product(range(len(good)), (1, 4)):  # 1 of a flag says that a member is encrypted
        bad = bytearray(good)
        bad[position] ^= bit
        path.write_bytes(bad)
        with contextlib.suppress(BundleError):  # a bit that means nothing, as of a date, does not matter
            assert read_archive(path) == {"model.safetensors": bytes(300)}
    path.write_bytes(good[:-9])
    with pytest.raises(BundleError, match="not a checkpoint, or is damaged"):
        read_archive(path)
    with pytest.raises(BundleError, match="expected a checkpoint"):
        read_archive(tmp_path / "nowhere")
