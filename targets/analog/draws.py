"""Random numbers by what they are for: no chip's numbers depend on which other chips are simulated,
on the order, or on how the work is shared out."""

from __future__ import annotations

from enum import Enum

import numpy as np
from numpy.random import Generator, Philox

MAX_SEED = 1 << 63


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


def stream(seed: int, chip: int, layer: int, tile: int, draw: Draw, batch: int = 0) -> Generator:
    """The stream of one chip's tile; `batch` counts the batches of samples that a draw for every
    product is made for.

    Philox maps a key and a counter to random words, independent for every pair (Salmon et al.,
    "Parallel random numbers: as easy as 1, 2, 3", SC 2011): seed and chip are the key, the rest is
    the counter's upper words, of which the lowest counts the words drawn.
    """
    counter = np.array([0, batch, draw.value, layer << 32 | tile], dtype=np.uint64)
    return Generator(Philox(key=np.array([seed, chip], dtype=np.uint64), counter=counter))
