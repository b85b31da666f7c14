"""Data sets of recordings: .wav files of the names that their collections give them; no torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flow.errors import UsageError
from flow.features_snippet import FrontEnd
from flow.qat.data import FloatArray, Split, missing

# {digit}_{speaker}_{index}.wav; its README sets the test split: recordings 0 to 4, of 0 to 49.
_DIGIT = re.compile(r"(\d)_([a-z]{1,32})_(\d{1,3})\.wav")
TEST_INDICES = range(0, 5)
HELD_OUT_INDICES = range(5, 10)  # ours: to choose the epoch by
_MAX_FILES = 20_000

# normal_id_{machine}_{index}.wav and anomaly_id_..., in `train` (normal ones alone) and `test`.
_MACHINE = re.compile(r"(normal|anomaly)_id_(\d{2})_(\d{8})\.wav")
# Of ten test recordings in a row the one that MLPerf Tiny's evaluation set has (datasets/ad01 in
# github.com/mlcommons/tiny: 140 normal and 108 anomalous ones), and, ours, of ten to train on the
# one to choose the epoch by.
EVALUATED, HELD_OUT = 3, 9
_MAX_MACHINE_FILES = 8_000  # of each part: 4 GB of log energies


def spoken_digits(looked: tuple[Path, ...], front_end: FrontEnd) -> Split:
    """The Free Spoken Digit Dataset; its files are in one of the folders, or in `recordings` there.

    Raises:
        UsageError: they are not, or one is damaged.
    """
    folders = [place for folder in looked for place in (folder, folder / "recordings")]
    for folder in folders:
        if folder.is_dir():
            found = {p: m for p in sorted(folder.iterdir()) if (m := _DIGIT.fullmatch(p.name))}
            if found:
                return _split(folder, found, front_end)
    how = (
        "clone https://github.com/Jakobovski/free-spoken-digit-dataset, whose folder recordings "
        "has the files,"
    )
    raise missing("fsdd", "0_george_0.wav and so on", tuple(folders), how)


def _split(folder: Path, found: dict[Path, re.Match[str]], front_end: FrontEnd) -> Split:
    if len(found) > _MAX_FILES:
        raise UsageError(f"{folder}: more than {_MAX_FILES} recordings are not read")
    labels = np.array([int(match[1]) for match in found.values()], dtype=np.int64)
    index = np.array([int(match[3]) for match in found.values()])
    test = np.isin(index, TEST_INDICES)
    held_out = np.isin(index[~test], HELD_OUT_INDICES)
    if not test.any() or not held_out.any() or held_out.all():
        raise UsageError(
            f"{folder}: must hold recordings for testing (index 0 to 4), for choosing weights (5 "
            f"to 9) and for training (10 and more), as {{digit}}_{{speaker}}_{{index}}.wav"
        )
    x = np.stack([_one(path, front_end) for path in found])
    return Split(
        x[~test],
        labels[~test],
        x[test],
        labels[test],
        image_shape=(1, front_end.stack, front_end.width),
        sound=True,
        held_out=held_out,
    )


def _one(path: Path, front_end: FrontEnd) -> FloatArray:
    """The input (frames, width) of a recording. Raises UsageError."""
    inputs = _inputs(path, front_end)
    if len(inputs) != 1:
        raise UsageError(f"{path}: must give one input, not {len(inputs)}")
    first: FloatArray = inputs[0]
    return first


def _inputs(path: Path, front_end: FrontEnd) -> FloatArray:
    """The inputs (n, frames, width) of a recording. Raises UsageError."""
    try:
        return front_end.wav(path)
    except (ValueError, OSError) as error:
        text = str(error)
        raise UsageError(text if str(path) in text else f"{path}: {text}") from error


def machines(looked: tuple[Path, ...], front_end: FrontEnd) -> Split:
    """The toy cars of DCASE 2020's task 2: folders `train` and `test` in one of the folders, or in
    `ToyCar` or `dev_data/ToyCar` there. Every input is a sample, labelled 0 (normal) or 1.

    Raises:
        UsageError: they are not, or a recording is damaged.
    """
    inner = ("", "ToyCar", "dev_data/ToyCar")
    folders = [folder / name for folder in looked for name in inner]
    for folder in folders:
        train, test = (_recordings(folder / part) for part in ("train", "test"))
        if train and test:
            return _machine_split(folder, train, test, front_end)
    how = (
        "unpack https://zenodo.org/record/3678171/files/dev_data_ToyCar.zip (CC BY-NC-SA 4.0), "
        "whose folder ToyCar has the folders train and test,"
    )
    raise missing("machines", "train/normal_id_01_00000000.wav and so on", tuple(folders), how)


def _recordings(folder: Path) -> dict[Path, re.Match[str]]:
    if not folder.is_dir():
        return {}
    return {p: m for p in sorted(folder.iterdir()) if (m := _MACHINE.fullmatch(p.name))}


def _machine_split(
    folder: Path,
    train: dict[Path, re.Match[str]],
    test: dict[Path, re.Match[str]],
    front_end: FrontEnd,
) -> Split:
    if max(len(train), len(test)) > _MAX_MACHINE_FILES:
        raise UsageError(f"{folder}: more than {_MAX_MACHINE_FILES} recordings are not read")
    if strange := [path for path, match in train.items() if match[1] != "normal"]:
        raise UsageError(f"{strange[0]}: only normal recordings are for training")
    tested = {path: match for path, match in test.items() if int(match[3]) % 10 == EVALUATED}
    anomalous = np.array([match[1] == "anomaly" for match in tested.values()], dtype=bool)
    held_out = np.array([int(match[3]) % 10 == HELD_OUT for match in train.values()])
    if not anomalous.any() or anomalous.all() or not held_out.any() or held_out.all():
        raise UsageError(
            f"{folder}: must hold normal and anomalous recordings for testing (of each machine "
            f"those whose index ends with {EVALUATED}), and, in train, such for choosing weights "
            f"(with {HELD_OUT}) and for training (the others)"
        )
    x, test_x = (_stacked(list(paths), front_end) for paths in (train, tested))
    windows = x.shape[1]
    return Split(
        x.reshape(-1, *x.shape[2:]),
        np.zeros(len(train) * windows, np.int64),
        test_x.reshape(-1, *x.shape[2:]),
        np.repeat(anomalous.astype(np.int64), windows),
        sound=True,
        held_out=np.repeat(held_out, windows),
        recordings=np.repeat(np.arange(len(tested)), windows),
    )


def _stacked(paths: Sequence[Path], front_end: FrontEnd) -> FloatArray:
    """The inputs (files, n, frames, width) of recordings, as many of each. Raises UsageError."""
    first = _inputs(paths[0], front_end)
    x = np.empty((len(paths), *first.shape), np.float32)
    for place, path in enumerate(paths):
        inputs = _inputs(path, front_end)
        if len(inputs) != len(first):
            raise UsageError(f"{path}: must give {len(first)} inputs, as others, not {len(inputs)}")
        x[place] = inputs
    return x
