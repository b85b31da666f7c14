"""What a policy made of a trace: each request, and where time and energy went."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from flow.schedule.trace import Times
from flow.schedule.work import FloatArray, Table


class Part(Enum):
    """What a stretch of time is spent on, by its place in arrays."""

    BUSY = 0
    IDLE = 1
    SWITCH = 2
    WAKE = 3


@dataclass(frozen=True)
class Segment:
    """From `start_us` to `stop_us` the platform drew `mw` above its floor. `cluster` and `point`
    index; `request` is the one that was served or is waited for, -1 after the last."""

    part: Part
    start_us: int
    stop_us: int
    mw: float
    cluster: int
    point: int
    request: int


@dataclass(frozen=True, eq=False)
class Outcome:
    """Of n requests: `arrival_us` and `deadline_us` as they came to be (in a closed trace they
    depend on the policy), `finish_us`, and `action`, the index in `Table.actions` with which each
    began; governors may have changed its point on the way.

    `part_us` and `part_mj` are by `Part`, energies above the floor; the times add up to
    `horizon_us`, from 0 to when the last request is done. `busy_us` (clusters, points) is how long
    each point ran something. `switches` counts changes of point, `migrations` of cluster.
    `segments` are those that begin in the window that was asked for; `cut` says that there were
    more than fit.
    """

    policy: str
    arrival_us: Times
    deadline_us: Times
    finish_us: Times
    action: NDArray[np.int32]
    part_us: Times
    part_mj: FloatArray
    busy_us: Times
    switches: int
    migrations: int
    wakes: int
    horizon_us: int
    floor_mw: float
    segments: tuple[Segment, ...] = ()
    cut: bool = False

    @property
    def energy_mj(self) -> float:
        """Above the floor."""
        return float(self.part_mj.sum())

    @property
    def floor_mj(self) -> float:
        """What the floor took over the horizon."""
        return self.floor_mw * self.horizon_us * 1e-6

    @property
    def missed(self) -> NDArray[np.bool_]:
        return self.finish_us > self.deadline_us

    @property
    def misses(self) -> int:
        return int(np.count_nonzero(self.missed))

    @property
    def latency_us(self) -> Times:
        return self.finish_us - self.arrival_us

    def cost_mj(self, miss_mj: float) -> float:
        """J: energy above the floor, and `miss_mj` for each miss."""
        return self.energy_mj + miss_mj * self.misses

    def accuracy(self, table: Table) -> FloatArray:
        """Of the variant that each request got."""
        return table.accuracy[self.action]
