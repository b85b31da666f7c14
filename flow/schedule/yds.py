"""The least energy for jobs that may be interrupted, on one processor whose speed can be any mix of
its points: Yao, Demers and Shenker's critical intervals, each speed then split over the two points
of the hull beside it (Ishihara and Yasuura). All work scales with speed.

Sources: F. Yao, A. Demers, S. Shenker, "A scheduling model for reduced CPU energy", FOCS 1995;
T. Ishihara, H. Yasuura, "Voltage scheduling problem for dynamically variable voltage processors",
ISLPED 1998.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flow.errors import UsageError
from flow.schedule.platform import Way, hull
from flow.schedule.work import FloatArray

MAX_JOBS = 100_000


@dataclass(frozen=True, eq=False)
class Optimum:
    """`speed` (n,) is that of each job; `energy_mj` above the floor."""

    speed: FloatArray
    energy_mj: float


def speeds(release: FloatArray, deadline: FloatArray, work: FloatArray) -> FloatArray:
    """(n,): the speed of each job in the schedule whose power is least, whatever convex function of
    speed the power is. Times are of any unit, `work` is what speed 1 does in that unit.

    Raises:
        UsageError: arrays that do not fit each other, or a deadline that is not after its release.
    """
    from flow.schedule.critical import critical

    release, deadline, work = (np.asarray(a, np.float64) for a in (release, deadline, work))
    if not (release.shape == deadline.shape == work.shape and release.ndim == 1):
        raise UsageError("yds: release, deadline and work must be as many")
    if not 0 < len(release) <= MAX_JOBS:
        raise UsageError(f"yds: there must be 1 to {MAX_JOBS:,} jobs, not {len(release):,}")
    if not all(np.isfinite(array).all() for array in (release, deadline, work)):
        raise UsageError("yds: times and work must be numbers")
    if not (deadline > release).all() or not (work > 0).all():
        raise UsageError("yds: each deadline must be after its release, and work above 0")
    found = np.empty(len(release))
    order = np.argsort(release, kind="stable")
    reach = np.maximum.accumulate(deadline[order])
    cuts = np.flatnonzero(release[order][1:] >= reach[:-1]) + 1
    for part in np.split(order, cuts):  # whose windows do not touch those of others
        own = part[np.argsort(deadline[part], kind="stable")]
        found[own] = critical(release[own].copy(), deadline[own].copy(), work[own].copy())
    return found


def optimum(
    release_us: FloatArray, deadline_us: FloatArray, work_us: FloatArray, found: Sequence[Way]
) -> Optimum:
    """The least energy that meets every deadline; `work_us` is what each job takes at speed 1, in
    the unit of the ways' speeds.

    Raises:
        UsageError: as `speeds`; or a job needs more than the highest speed.
    """
    ladder = hull(found)
    if not ladder:
        raise UsageError("yds: the hull of speeds and powers is empty")
    needed = speeds(release_us, deadline_us, work_us)
    if needed.max() > ladder[-1].speed * (1 + 1e-9):
        raise UsageError(
            f"yds: job {int(np.argmax(needed)) + 1} needs speed {needed.max():g}, the highest is "
            f"{ladder[-1].speed:g}: no schedule meets every deadline"
        )
    # idling at (0, 0) is the lowest point of the hull
    levels = np.array([0.0, *(way.speed for way in ladder)])
    powers = np.array([0.0, *(way.mw for way in ladder)])
    energy = np.interp(needed, levels, powers) / needed * np.asarray(work_us) * 1e-6
    return Optimum(needed, float(energy.sum()))
