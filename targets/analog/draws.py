"""Random numbers by what they are for: no chip's numbers depend on which other chips are simulated,
on the order, or on how the work is shared out."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from math import pi, prod
from typing import Any

import numpy as np
from numpy.random import Generator, Philox
from numpy.random.bit_generator import ISeedSequence
from numpy.typing import DTypeLike, NDArray

Normals = NDArray[np.float32]
MAX_SEED = 1 << 63
BLOCK = 1 << 14  # words that are made normal at a time: as many as the processor's cache holds


class Draw(Enum):
    """What a stream is drawn for; the numbers are part of the streams' keys."""

    PROGRAMMING = 0
    STUCK = 1
    DRIFT = 2
    FLICKER = 3
    WHITE = 4
    INPUT = 5
    CONVERTER_OFFSET = 6
    CONVERTER = 7
    RAMP = 8
    SAMPLE = 9


class _Key(ISeedSequence):
    """Philox's key as it is: given as `key`, it costs a call of the system's entropy, too."""

    def __init__(self, *words: int):
        self._words = np.array(words, dtype=np.uint64)

    def generate_state(self, n_words: int, dtype: DTypeLike = np.uint64) -> NDArray[Any]:
        assert (n_words, np.dtype(dtype)) == (len(self._words), self._words.dtype)
        return self._words


def stream(seed: int, chip: int, layer: int, tile: int, draw: Draw, batch: int = 0) -> Generator:
    """The stream of one chip's tile; `batch` counts the batches of samples that a draw for every
    product is made for.

    Philox maps a key and a counter to random words, independent for every pair (Salmon et al.,
    "Parallel random numbers: as easy as 1, 2, 3", SC 2011): seed and chip are the key, the rest is
    the counter's upper words, of which the lowest counts the words drawn.
    """
    counter = np.array([0, batch, draw.value, layer << 32 | tile], dtype=np.uint64)
    key: Any = _Key(seed, chip)  # numpy's stubs know of SeedSequence alone
    return Generator(Philox(key, counter=counter))


def normals(
    streams: Sequence[Generator], shape: tuple[int, ...], deviation: float = 1.0
) -> Normals:
    """Normal numbers (streams, *shape), each stream's from its next words; their standard deviation
    is 1, or a power of two.

    Two from a word of 64 bits, by the law of a normal pair's length and angle (Box and Muller,
    Annals of Mathematical Statistics 29, 610 (1958)); with 31 bits of length none is beyond 6.7.
    They are of float32, whose last bit may differ from one kind of processor to another, as numpy's
    logarithms and sines do.
    """
    count = prod(shape)
    pairs = -(-count // 2)
    found = np.empty((len(streams), 2 * pairs), dtype=np.float32)
    many = max(1, BLOCK // max(pairs, 1))
    words = np.empty((min(many, len(streams)), pairs), dtype=np.uint64)
    for start in range(0, len(streams), many):
        some = streams[start : start + many]
        for row, by in zip(words, some, strict=False):
            row[...] = by.bit_generator.random_raw(pairs)
        _pairs(words[: len(some)], found[start : start + len(some)], deviation)
    return found[:, :count].reshape(len(streams), *shape)


def _pairs(words: NDArray[np.uint64], found: Normals, deviation: float) -> None:
    """Fill rows of `found` with the pairs of as many rows of words."""
    halves = words.view(np.int32)
    length = (halves[:, 0::2] & np.int32(0x7FFFFFFF)).astype(np.float32)
    length += np.float32(0.5)
    length *= np.float32(2.0**-31)  # from 0, which it never is, to 1
    np.log(length, out=length)
    length *= np.float32(-2 * deviation**2)
    np.sqrt(length, out=length)
    angle = halves[:, 1::2].astype(np.float32)
    angle *= np.float32(pi * 2.0**-31)
    np.multiply(length, np.cos(angle), out=found[:, 0::2])
    np.multiply(length, np.sin(angle, out=angle), out=found[:, 1::2])
