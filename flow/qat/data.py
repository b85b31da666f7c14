"""Data sets by name, each with one fixed split; no torch.

* `digits`: scikit-learn's copy of the UCI optical recognition of handwritten digits (1,797 images
  of 8x8 pixels, values 0 to 16), split 1,400/397, stratified, seed 0.
* `mnist`: the usual four idx files, with their own split of 60,000/10,000 (LeCun, Cortes, Burges).
* `jets`: OpenML 42468, `hls4ml_lhc_jets_hlf` (830,000 simulated jets, 16 features, 5 classes),
  split 80/20 with seed 42, as in hls4ml's tutorials (Duarte et al., arXiv:1804.06913).

`mnist` and `jets` are read from files: from the folder that is given, else from the folder of that
name in $BITWRIGHT_DATA, in ../shared/data, or in the user's cache.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flow.errors import UsageError
from flow.options import unknown_name

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]

FOLDER = "BITWRIGHT_DATA"
JETS_FILE = "hls4ml_lhc_jets_hlf.arff"
_JETS_BYTES = 1 << 30


@dataclass(frozen=True)
class Split:
    """Samples x (n, *input_shape) float32 and labels y (n,) int64, for training and for testing.

    `image_shape` is the (C, H, W) as which a sample can be seen, None where it is not an image.
    """

    train_x: FloatArray
    train_y: IntArray
    test_x: FloatArray
    test_y: IntArray
    image_shape: tuple[int, int, int] | None = None

    def digest(self) -> str:
        """sha256 over all samples and labels, hex."""
        hashed = hashlib.sha256()
        for array in (self.train_x, self.train_y, self.test_x, self.test_y):
            hashed.update(np.ascontiguousarray(array).data)
        return hashed.hexdigest()


def load(name: str, input_shape: tuple[int, ...], folder: Path | None = None) -> Split:
    """The named data set, each sample reshaped to `input_shape`; its files are in `folder`.

    Raises:
        UsageError: no data set has that name, its files are not there (the message says how to get
            them) or are damaged.
    """
    if name not in _LOADERS:
        raise unknown_name("data set", name, _LOADERS)
    split = _LOADERS[name](folder)
    return Split(
        split.train_x.reshape(-1, *input_shape),
        split.train_y,
        split.test_x.reshape(-1, *input_shape),
        split.test_y,
        split.image_shape,
    )


def places(name: str, given: Path | None) -> tuple[Path, ...]:
    """The folders in which the data set's files are looked for; the last one is the cache."""
    if given is not None:
        return (given,)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bitwright" / name
    home = os.environ.get(FOLDER)
    return ((Path(home) if home else Path("../shared/data")) / name, cache)


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
        raise UsageError(
            f"the data set jets is not here (looked for {JETS_FILE} in "
            f"{', '.join(str(p) for p in looked)}). Get it: download the ARFF file of OpenML data "
            f"set 42468 (https://www.openml.org/d/42468) under this name and give DATA=folder, or "
            f"put it in $BITWRIGHT_DATA/jets. To see the hardware alone, build the model with "
            f'seeded random weights: OPTS="untrained=true"'
        )
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


_LOADERS: dict[str, Callable[[Path | None], Split]] = {
    "digits": _digits,
    "mnist": _mnist,
    "jets": _jets,
}
