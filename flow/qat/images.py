"""Data sets of images: CIFAR-10's binary batches, folders of pictures, or .npz; no torch.

CIFAR-10's binary version (A. Krizhevsky, https://www.cs.toronto.edu/~kriz/cifar.html): records of
one label and 3 x 32 x 32 bytes, red, green, blue. Its Python version is pickled, and not read.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flow.errors import UsageError
from flow.packages import require
from flow.qat.data import FloatArray, IntArray, Split, missing
from flow.user_data import read_labelled

CIFAR_SHAPE = (3, 32, 32)
TRAIN_BATCHES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST_BATCH = "test_batch.bin"
PEOPLE_SHAPE = (3, 96, 96)
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")
TEST_EVERY = 10  # of a folder's pictures, in the order of their names: for testing
_RECORD = 1 + 3 * 32 * 32
_MAX_RECORDS = 100_000
_MAX_PICTURES = 120_000
_MAX_BYTES = 32 << 20  # of one picture's file
_MAX_PIXELS = 1 << 26


def cifar10(looked: tuple[Path, ...]) -> Split:
    """CIFAR-10 with its own split; its batches are in one of the folders, or in
    `cifar-10-batches-bin` there.

    Raises:
        UsageError: they are not, or one is damaged.
    """
    folders = [place for folder in looked for place in (folder, folder / "cifar-10-batches-bin")]
    for folder in folders:
        if (folder / TEST_BATCH).is_file():
            parts = [_batch(folder / name) for name in TRAIN_BATCHES]
            train_x, train_y = (np.concatenate(part) for part in zip(*parts, strict=True))
            test_x, test_y = _batch(folder / TEST_BATCH)
            return Split(train_x, train_y, test_x, test_y, image_shape=CIFAR_SHAPE)
    how = (
        "unpack https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz (the binary version, as "
        "the other one is pickled)"
    )
    raise missing("cifar10", TEST_BATCH, tuple(folders), how)


def _batch(path: Path) -> tuple[FloatArray, IntArray]:
    """Images (n, 3, 32, 32) from 0 to 1 and labels (n,) of one batch. Raises UsageError."""
    try:
        size = path.stat().st_size
        if size == 0 or size % _RECORD or size > _RECORD * _MAX_RECORDS:
            raise UsageError(
                f"{path}: must hold whole records of {_RECORD} bytes, at most {_MAX_RECORDS}, not "
                f"{size} bytes; take CIFAR-10's binary version"
            )
        records = np.fromfile(path, dtype=np.uint8).reshape(-1, _RECORD)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error}") from error
    if records[:, 0].max() > 9:
        raise UsageError(f"{path}: labels must be from 0 to 9, not {records[:, 0].max()}")
    return _unit(records[:, 1:].reshape(-1, *CIFAR_SHAPE)), records[:, 0].astype(np.int64)


def people(looked: tuple[Path, ...]) -> Split:
    """Visual wake words: pictures without a person (class 0) and with one (class 1).

    In one of the folders: two folders of pictures, the class in the order of their names
    (non_person, person), of which every tenth is for testing; or train.npz and test.npz with x
    (n, 3, 96, 96) as floats from 0 to 1, and y.

    Raises:
        UsageError: there are neither, or a file is damaged.
        ToolMissing: there are pictures, and Pillow is not installed.
    """
    for folder in looked:
        if (folder / "train.npz").is_file():
            return _from_npz(folder)
        classes = sorted(path for path in folder.glob("*") if path.is_dir())
        if len(classes) == 2:
            return _from_pictures(classes)
    how = "download MLPerf Tiny's visual wake words (vw_coco2014_96, folders non_person and person)"
    raise missing("vww", "two folders of pictures, or train.npz", looked, how)


def _from_npz(folder: Path) -> Split:
    train, test = (
        read_labelled(folder / f"{part}.npz", PEOPLE_SHAPE) for part in ("train", "test")
    )
    for name, labels in (("train", train.y), ("test", test.y)):
        if not np.isin(labels, (0, 1)).all():
            raise UsageError(f"{folder / name}.npz: labels must be 0 or 1")
    return Split(
        train.x.astype(np.float32),
        train.y,
        test.x.astype(np.float32),
        test.y,
        image_shape=PEOPLE_SHAPE,
    )


def _from_pictures(classes: list[Path]) -> Split:
    require("pillow")
    files = [sorted(p for p in c.iterdir() if p.suffix.lower() in SUFFIXES) for c in classes]
    total = sum(map(len, files))
    if any(len(pictures) < TEST_EVERY for pictures in files) or total > _MAX_PICTURES:
        raise UsageError(
            f"{classes[0].parent}: each of its two folders must hold {TEST_EVERY} pictures "
            f"({', '.join(SUFFIXES)}) or more, together at most {_MAX_PICTURES}, not "
            f"{', '.join(str(len(pictures)) for pictures in files)}"
        )
    labels = np.repeat(np.arange(2), [len(pictures) for pictures in files])
    x = np.empty((total, *PEOPLE_SHAPE), np.float32)
    for place, path in enumerate(path for pictures in files for path in pictures):
        x[place] = _picture(path)
    test = np.concatenate([np.arange(len(pictures)) % TEST_EVERY == 0 for pictures in files])
    return Split(x[~test], labels[~test], x[test], labels[test], image_shape=PEOPLE_SHAPE)


def _picture(path: Path) -> FloatArray:
    """A picture (3, 96, 96) from 0 to 1, resized if need be. Raises UsageError."""
    from PIL import Image

    try:
        if path.stat().st_size > _MAX_BYTES:
            raise UsageError(f"{path}: more than {_MAX_BYTES >> 20} MiB are not read")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # refused below
            opened = Image.open(path, formats=("JPEG", "PNG", "BMP"))
        with opened as picture:
            if picture.width * picture.height > _MAX_PIXELS:
                raise UsageError(f"{path}: more than {_MAX_PIXELS} pixels are not read")
            _, height, width = PEOPLE_SHAPE
            pixels = picture.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
            return _unit(np.asarray(pixels).transpose(2, 0, 1))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UsageError(f"{path} is no picture that can be read: {error}") from error


def _unit(pixels: NDArray[np.uint8]) -> FloatArray:
    """Bytes as floats from 0 to 1."""
    scaled: FloatArray = pixels.astype(np.float32) / np.float32(255)
    return scaled
