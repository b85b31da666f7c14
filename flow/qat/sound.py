"""Data sets of recordings: .wav files of the names that their collections give them; no torch."""

from __future__ import annotations

import re
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
    try:
        inputs = front_end.wav(path)
    except (ValueError, OSError) as error:
        raise UsageError(str(error)) from error
    if len(inputs) != 1:
        raise UsageError(f"{path}: must give one input, not {len(inputs)}")
    first: FloatArray = inputs[0]
    return first
