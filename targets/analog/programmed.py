"""A layer on some chips, ready to multiply, whatever its devices are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from targets.analog.mapping import FloatArray


class Compensation(Enum):
    """Whether the digital part multiplies readings by how much smaller they became since
    programming, told by all devices of a tile (`global`), or by each reading's own (`column`)."""

    NONE = "none"
    GLOBAL = "global"
    COLUMN = "column"


@dataclass(frozen=True)
class Condition:
    """When and how much: `time_s` seconds after the device's first reading, `noise` times the
    standard deviations of programming, reading and converters; whether nonlinear ramps are
    calibrated."""

    time_s: float = 0.0
    noise: float = 1.0
    compensation: Compensation = Compensation.GLOBAL
    calibrate: bool = True


@dataclass(frozen=True)
class Draws:
    """What random numbers are of: the seed, the chips' numbers, the layer's, and the batch of
    samples."""

    seed: int
    chips: Sequence[int]
    layer: int
    batch: int = 0


@dataclass(frozen=True, eq=False)
class Programmed:
    """A layer on c chips. `weights` (c, groups, inputs, readings) are what the readings multiply
    by, in steps of the integer weights; `variance` (c, groups, inputs, readings, or columns where
    readings share them) what they vary by at every product anew, in squares of the same units, and
    `by_sample` what for every sample anew; `gain` (c, row blocks, groups, readings) are the digital
    part's factors.
    """

    weights: FloatArray
    variance: FloatArray | None = None
    by_sample: FloatArray | None = None
    gain: FloatArray | None = None
