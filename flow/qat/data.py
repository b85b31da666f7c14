"""Data sets by name, each with one fixed split; no torch.

`digits` is scikit-learn's copy of the UCI optical recognition of handwritten digits (1,797 images
of 8x8 pixels, values 0 to 16), split 1,400/397, stratified, seed 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow.options import unknown_name

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]


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


def load(name: str, input_shape: tuple[int, ...]) -> Split:
    """The named data set, each sample reshaped to `input_shape`.

    Raises:
        UsageError: no data set has that name.
    """
    if name not in _LOADERS:
        raise unknown_name("data set", name, _LOADERS)
    split = _LOADERS[name]()
    return Split(
        split.train_x.reshape(-1, *input_shape),
        split.train_y,
        split.test_x.reshape(-1, *input_shape),
        split.test_y,
        split.image_shape,
    )


def _digits() -> Split:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    x = (bunch.data / 16.0).astype(np.float32)
    y = bunch.target.astype(np.int64)
    train_x, test_x, train_y, test_y = train_test_split(
        x, y, train_size=1400, test_size=397, stratify=y, random_state=0
    )
    return Split(train_x, train_y, test_x, test_y, image_shape=(1, 8, 8))


_LOADERS: dict[str, Callable[[], Split]] = {"digits": _digits}
