"""Data sets by name, each with one fixed split; no torch.

* `digits`: scikit-learn's copy of the UCI optical recognition of handwritten digits (1,797 images
  of 8x8 pixels, values 0 to 16), split 1,400/397, stratified, seed 0.
* `mnist`: the usual four idx files, with their own split of 60,000/10,000 (LeCun, Cortes, Burges).
* `fsdd`: the Free Spoken Digit Dataset (3,000 recordings by 6 speakers at 8 kHz; Z. Jackson and
  others, CC BY-SA 4.0), with its own split: index 0 to 4 of each speaker and digit is for testing.
* `machines`: the toy cars of DCASE 2020's task 2 (recordings at 16 kHz of ToyADMOS; Y. Koizumi and
  others, CC BY-NC-SA 4.0): normal ones for training, and for testing those of its test split,
  normal and anomalous, that MLPerf Tiny's evaluation set names.
* `cifar10`: its binary version with its own split of 50,000/10,000 (A. Krizhevsky, 2009).
* `vww`: visual wake words (arXiv:1906.05721), 96x96 pictures with a person or without.
* `jets`: OpenML 42468, `hls4ml_lhc_jets_hlf` (830,000 simulated jets, 16 features, 5 classes),
  split 80/20 with seed 42, as in hls4ml's tutorials (Duarte et al., arXiv:1804.06913).

All but `digits` are read from files: from the folder that is given, else from the folder of that
name in $BITWRIGHT_DATA, in ../shared/data, or in the user's cache.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flow.artifact import user_cache
from flow.errors import UsageError
from flow.features_snippet import FrontEnd
from flow.options import unknown_name

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]

FOLDER = "BITWRIGHT_DATA"
JETS_FILE = "hls4ml_lhc_jets_hlf.arff"
_JETS_BYTES = 1 << 30
# What the labels 0, 1, ... of a data set stand for.
CLASSES: dict[str, tuple[str, ...]] = {
    "digits": tuple("0123456789"),
    "mnist": tuple("0123456789"),
    "jets": ("g", "q", "t", "w", "z"),
    "fsdd": tuple("0123456789"),
    "cifar10": (
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    ),
    "vww": ("non_person", "person"),
}


@dataclass(frozen=True)
class Split:
    """Samples x (n, *input_shape) float32 and labels y (n,) int64, for training and for testing.

    `image_shape` is the (C, H, W) as which a sample can be seen, None where it is not an image; of
    `sound` it is (1, frames, numbers of a frame). `held_out` marks the training samples (n,) by
    which the epoch is chosen whose weights are kept, and which are fitted to in none; None leaves
    the choice to the training. `recordings` (n,) numbers the recordings that test samples are parts
    of, where a recording is judged by all its parts.
    """

    train_x: FloatArray
    train_y: IntArray
    test_x: FloatArray
    test_y: IntArray
    image_shape: tuple[int, int, int] | None = None
    sound: bool = False
    held_out: NDArray[np.bool_] | None = None
    recordings: IntArray | None = None

    def digest(self) -> str:
        """sha256 over all samples and labels, hex."""
        hashed = hashlib.sha256()
        for array in (self.train_x, self.train_y, self.test_x, self.test_y):
            hashed.update(np.ascontiguousarray(array).data)
        for marks in (self.held_out, self.recordings):
            if marks is not None:
                hashed.update(np.ascontiguousarray(marks).data)
        return hashed.hexdigest()


def load(
    name: str,
    input_shape: tuple[int, ...],
    folder: Path | None = None,
    front_end: FrontEnd | None = None,
) -> Split:
    """The named data set, each sample reshaped to `input_shape`; its files are in `folder`. Sound
    becomes numbers by `front_end`.

    Raises:
        UsageError: no data set has that name, its files are not there (the message says how to get
            them) or are damaged.
    """
    if name in _SOUND:
        if front_end is None:
            raise UsageError(f"data set {name!r} is sound: the recipe must have a front_end")
        split = _SOUND[name](folder, front_end)
    elif name in _LOADERS:
        split = _LOADERS[name](folder)
    else:
        raise unknown_name("data set", name, (*_LOADERS, *_SOUND))
    return replace(
        split,
        train_x=split.train_x.reshape(-1, *input_shape),
        test_x=split.test_x.reshape(-1, *input_shape),
    )


def places(name: str, given: Path | None) -> tuple[Path, ...]:
    """The folders in which the data set's files are looked for; the last one is the cache."""
    if given is not None:
        return (given,)
    home = os.environ.get(FOLDER)
    return ((Path(home) if home else Path("../shared/data")) / name, user_cache() / name)


def missing(name: str, what: str, looked: tuple[Path, ...], how: str) -> UsageError:
    """The error for a data set that is nowhere: `what` was looked for, `how` to get it."""
    return UsageError(
        f"the data set {name} is not here (looked for {what} in "
        f"{', '.join(str(p) for p in looked)}). Get it: {how} and give DATA=folder, or put it in "
        f"$BITWRIGHT_DATA/{name}. To see the hardware alone, build the model with seeded random "
        f'weights: OPTS="untrained=true"'
    )


def _digits(given: Path | None) -> Split:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    if given is not None:
        raise UsageError(f"DATA={given}: the data set digits is built in, it has no files")
    bunch = load_digits()
    x = (bunch.data / 16.0).astype(np.float32)
    y = bunch.target.astype(np.int64)
    train_x, test_x, train_y, test_y = train_test_split(
        x, y, train_size=1400, test_size=397, stratify=y, random_state=0
    )
    return Split(train_x, train_y, test_x, test_y, image_shape=(1, 8, 8))


def _mnist(given: Path | None) -> Split:
    from flow.idx import Part, is_idx_folder, read_idx
    from flow.qat.download import download_mnist

    found = [folder for folder in places("mnist", given) if is_idx_folder(folder)]
    if not found and given is not None:
        raise UsageError(
            f"DATA={given}: must hold the four idx files of MNIST (train-images-idx3-ubyte and so "
            f"on, plain or .gz)"
        )
    folder = found[0] if found else download_mnist(places("mnist", None))
    train_x, train_y = read_idx(folder, Part.TRAIN)
    test_x, test_y = read_idx(folder, Part.TEST)
    _, height, width = train_x.shape
    return Split(train_x, train_y, test_x, test_y, image_shape=(1, height, width))


def _jets(given: Path | None) -> Split:
    from scipy.io import arff
    from sklearn.model_selection import train_test_split

    looked = places("jets", given)
    found = [folder / JETS_FILE for folder in looked if (folder / JETS_FILE).is_file()]
    if not found:
        how = (
            "download the ARFF file of OpenML data set 42468 (https://www.openml.org/d/42468) "
            "under this name"
        )
        raise missing("jets", JETS_FILE, looked, how)
    (path, *_) = found
    if path.stat().st_size > _JETS_BYTES:
        raise UsageError(f"{path}: more than {_JETS_BYTES >> 30} GiB are not read")
    try:
        table, header = arff.loadarff(str(path))
        names = list(header.names())
        features = [name for name in names if header[name][0] == "numeric"]
        (label,) = [name for name in names if header[name][0] == "nominal"]
        classes = sorted(header[label][1])
        x = np.stack([table[name] for name in features], axis=1).astype(np.float32)
        y = np.searchsorted(classes, table[label].astype(str)).astype(np.int64)
    except (ValueError, KeyError, IndexError, NotImplementedError, OSError, StopIteration) as error:
        what = str(error) or "it ends before its data"
        raise UsageError(f"{path} is not the ARFF file of the jets: {what}") from error
    if x.shape[1] != 16 or len(classes) != 5 or not np.isfinite(x).all():
        raise UsageError(
            f"{path}: must have 16 finite features and 5 classes, not {x.shape[1]} and "
            f"{len(classes)}"
        )
    train_x, test_x, train_y, test_y = train_test_split(x, y, test_size=0.2, random_state=42)
    return Split(train_x, train_y, test_x, test_y)


def _cifar10(given: Path | None) -> Split:
    from flow.qat.images import cifar10

    return cifar10(places("cifar10", given))


def _vww(given: Path | None) -> Split:
    from flow.qat.images import people

    return people(places("vww", given))


def _fsdd(given: Path | None, front_end: FrontEnd) -> Split:
    from flow.qat.sound import spoken_digits

    return spoken_digits(places("fsdd", given), front_end)


def _machines(given: Path | None, front_end: FrontEnd) -> Split:
    from flow.qat.sound import machines

    return machines(places("machines", given), front_end)


_SOUND: dict[str, Callable[[Path | None, FrontEnd], Split]] = {
    "fsdd": _fsdd,
    "machines": _machines,
}
_LOADERS: dict[str, Callable[[Path | None], Split]] = {
    "digits": _digits,
    "mnist": _mnist,
    "jets": _jets,
    "cifar10": _cifar10,
    "vww": _vww,
}
