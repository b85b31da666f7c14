"""Data files and input types that users give."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from flow.errors import UsageError
from flow.idx import Part
from flow.plan import read_input_type
from flow.user_data import read_labelled


def idx(shape: tuple[int, ...], body: bytes) -> bytes:
    return bytes([0, 0, 8, len(shape)]) + np.array(shape, dtype=">u4").tobytes() + body


def folder_of(tmp_path: Path, images: bytes, labels: bytes, *, zipped: bool) -> Path:
    for name, content in zip(Part.TEST.value, (images, labels), strict=True):
        if zipped:
            (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (tmp_path / name).write_bytes(content)
    return tmp_path


@pytest.mark.parametrize("zipped", [True, False])
def test_idx_files_are_read(tmp_path: Path, zipped: bool) -> None:
    pixels = bytes(range(24))
    folder = folder_of(tmp_path, idx((2, 3, 4), pixels), idx((2,), b"\x07\x01"), zipped=zipped)
    data = read_labelled(folder, (1, 3, 4))
    assert data.y.tolist() == [7, 1]
    assert data.x.shape == (2, 1, 3, 4)
    expected = np.arange(24, dtype=np.float32).reshape(2, 1, 3, 4) / np.float32(255)
    np.testing.assert_array_equal(data.x, expected)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (b"", "not an idx file"),
        (b"\0\0\x0d\x03" + bytes(12), "not an idx file of bytes"),
        (idx((2, 3, 4), bytes(23)), "holds 23 entries"),
        (idx((2, 3, 4), bytes(25)), "holds 25 entries or more"),
        (idx((1 << 31, 1 << 31, 1 << 31), b""), "impossible"),
        (idx((3, 2, 4), bytes(24)), "do not go with"),
    ],
)
def test_damaged_idx_files_are_refused(tmp_path: Path, images: bytes, message: str) -> None:
    folder = folder_of(tmp_path, images, idx((2,), b"\1\1"), zipped=False)
    with pytest.raises(UsageError, match=message):
        read_labelled(folder, (1, 3, 4))


def test_a_damaged_gzip_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, idx((2, 3, 4), bytes(24)), idx((2,), b"\1\1"), zipped=True)
    path = folder / f"{Part.TEST.value[0]}.gz"
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(UsageError, match="cannot be read"):
        read_labelled(folder, (1, 3, 4))


def test_input_types() -> None:
    quantizer = read_input_type("fixed<8,3>")
    assert float(quantizer.scale) == 2.0**-5
    assert (quantizer.qtype.low, quantizer.qtype.high) == (-128, 127)
    quantizer = read_input_type("ufixed<8,0>")
    assert float(quantizer.scale) == 2.0**-8
    assert (quantizer.qtype.low, quantizer.qtype.high) == (0, 255)


@pytest.mark.parametrize("text", ["fixed<8>", "int8", "fixed<1,0>", "fixed<99,3>", "fixed<8,3", ""])
def test_wrong_input_types_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="option input must be like"):
        read_input_type(text)
