"""Reading the idx files in which MNIST and its relatives come, plain or gzipped; sizes bounded.

Source of the format: http://yann.lecun.com/exdb/mnist/, "the IDX file format".
"""

from __future__ import annotations

import gzip
import zlib
from enum import Enum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flow.errors import UsageError

MAX_ENTRIES = 1 << 30


class Part(Enum):
    """The two splits, by the names of their files of images and labels."""

    TRAIN = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
    TEST = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def is_idx_folder(folder: Path) -> bool:
    """Whether the folder holds a test split in idx files."""
    return _find(folder, Part.TEST.value[0]) is not None


def read_idx(folder: Path, part: Part) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(images (n, height, width) as floats from 0 to 1, labels (n,)) of one split.

    Raises:
        UsageError: a file is missing, or is no idx file of bytes.
    """
    images, labels = (_read(folder, name) for name in part.value)
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
        raise UsageError(f"{folder}: {images.shape} images do not go with {labels.shape} labels")
    return images.astype(np.float32) / np.float32(255), labels.astype(np.int64)


def _find(folder: Path, name: str) -> Path | None:
    for candidate in (folder / name, folder / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    return None


def _read(folder: Path, name: str) -> NDArray[np.uint8]:
    path = _find(folder, name)
    if path is None:
        raise UsageError(f"{folder}: has no {name} or {name}.gz")
    try:
        opened = gzip.open(path) if path.suffix == ".gz" else path.open("rb")
        with opened as handle:
            head = handle.read(4)
            if len(head) < 4 or head[:3] != b"\0\0\x08" or not 1 <= head[3] <= 4:
                raise UsageError(f"{path} is not an idx file of bytes")
            shape = np.frombuffer(handle.read(4 * head[3]), dtype=">u4").astype(np.int64)
            size = int(np.prod(shape))
            if len(shape) != head[3] or not 0 < size <= MAX_ENTRIES:
                raise UsageError(f"{path}: its shape {shape.tolist()} is impossible")
            body = handle.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    if len(body) != size:
        raise UsageError(f"{path}: holds {len(body)} entries or more, not the {size} it names")
    return np.frombuffer(body, dtype=np.uint8).reshape(shape)
