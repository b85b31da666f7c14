"""Nonlinear ramps: converters whose thresholds are the steps of a function, as devices make them.

As Yang et al., Nature Communications 16 (2025), s41467-025-56254-6, have it: a column of memory
devices makes the ramp, each of which is a step, and further ones the voltage that it starts from.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from targets.analog.device import NlAdc
from targets.analog.draws import Draw, stream
from targets.analog.mapping import FloatArray
from targets.analog.programmed import Condition, Draws
from targets.analog.steps import StepFunction


@dataclass(frozen=True, eq=False)
class Ramp:
    """Thresholds between whole sums, in steps of the integer weights.

    The largest of the steps between them is a device at `max_us`, the others are in proportion. The
    first threshold is made of as many devices, each the same, as it takes of that largest step.
    """

    steps: StepFunction

    @cached_property
    def ideal(self) -> FloatArray:
        """The thresholds as they shall be, (k,)."""
        return self.steps.cuts - 0.5

    @property
    def middle(self) -> int:
        """The threshold that calibration makes right."""
        return len(self.steps.cuts) // 2

    @cached_property
    def largest(self) -> float:
        """The step that a device at its largest conductance makes."""
        ideal = self.ideal
        return float(np.diff(ideal).max()) if len(ideal) > 1 else float(np.abs(ideal).max())

    @cached_property
    def starters(self) -> int:
        """How many devices make the first threshold."""
        return int(np.ceil(np.abs(self.ideal[0]) / self.largest))

    @property
    def devices(self) -> int:
        """How many devices make the ramp and its start."""
        return self.starters + len(self.steps.cuts) - 1 if len(self.steps.cuts) else 0

    @cached_property
    def levels(self) -> FloatArray:
        """What devices shall hold, from 0 to 1: those of the start, then those of the steps."""
        start = np.full(self.starters, abs(self.ideal[0]) / self.largest / self.starters)
        return np.concatenate([start, np.diff(self.ideal) / self.largest])

    def drawn(
        self, law: NlAdc, noise: float, calibrated: bool, by: np.random.Generator
    ) -> FloatArray:
        """The thresholds that devices make (k,): errors of steps add up along the ramp, which
        calibration shifts as a whole, so that its middle threshold is right."""
        if not len(self.steps.cuts):
            return self.ideal
        span = law.max_us - law.min_us
        held = law.min_us + span * self.levels
        held += noise * law.sigma_us * by.standard_normal(len(held))
        made = (np.maximum(held, law.min_us) - law.min_us) * (self.largest / span)
        count = self.starters
        start = np.sign(self.ideal[0]) * made[:count].sum()
        found: FloatArray = start + np.concatenate([[0.0], np.cumsum(made[count:])])
        if calibrated:
            found += self.ideal[self.middle] - found[self.middle]
        return found

    def nonlinearity(self, found: FloatArray) -> tuple[float, float]:
        """INL and DNL of thresholds (k,): the farthest that one lies from its place, in codes, and
        the largest error of a step, as a share of what it shall be; 0 where there are none."""
        ideal = self.ideal
        if len(ideal) < 2:
            return 0.0, 0.0
        steps = np.diff(ideal)
        at = np.clip(np.searchsorted(ideal, found, side="right") - 1, 0, len(steps) - 1)
        places = at + (found - ideal[at]) / steps[at]  # beyond the ends by the last step
        off = np.abs(places - np.arange(len(ideal))).max()
        return float(off), float(np.abs(np.diff(found) / steps - 1).max())


def thresholds(
    ramp: Ramp, tiles: int, law: NlAdc, condition: Condition, draws: Draws
) -> list[list[FloatArray]]:
    """Of each chip's ramp of each of a layer's tiles."""
    return [
        [
            ramp.drawn(
                law,
                condition.noise,
                condition.calibrate,
                stream(draws.seed, chip, draws.layer, tile, Draw.RAMP),
            )
            for tile in range(tiles)
        ]
        for chip in draws.chips
    ]


def read(steps: StepFunction, thresholds: FloatArray, readings: FloatArray) -> FloatArray:
    """What the digital part gets for readings of any shape: sums of `steps`."""
    return steps.sums[np.searchsorted(thresholds, readings, side="right")].astype(np.float64)
