"""The least cost that any schedule of a trace can have, from below and from above.

J = energy above the floor + `miss_mj` for each miss. Requests run one at a time, in order of
arrival, each by one action from its beginning to its end. Where nothing else costs anything, the
two bounds enclose the optimum and are the oracle. Where switches, wakes or idling cost something
too, the lower one leaves those out: it is a relaxed bound, and the upper one is a schedule's cost
on the platform as it is. So it is with `mixing`, which lets a request change its point on the way,
as governors do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from flow.errors import FlowError, UsageError
from flow.schedule.engine import check, checked_work, simulate
from flow.schedule.platform import Platform
from flow.schedule.policies.predictive import Replay
from flow.schedule.trace import Trace
from flow.schedule.work import FloatArray, IntArray, Table

ROOM = 1 << 20  # steps of the grid that lateness may reach
KEPT = 1 << 24  # labels that are kept for the schedule
PIECES = 64  # of the convex hull of (time, energy), where points are mixed
SLACK = 1e-9  # of what sums of many numbers in another order differ by


class Capped(FlowError):
    """A run that dropped labels for want of room: no bound."""


@dataclass(frozen=True, eq=False)
class Bounds:
    """`lower_mj` <= J of every schedule, and J of the best one <= `upper_mj`. `exact`: both are of
    the same problem; else the lower one is relaxed, and `why` says by what. `actions` (n,) are
    those of a schedule that costs at most `upper_mj`; `labels` the most at a time."""

    lower_mj: float
    upper_mj: float
    exact: bool
    why: str
    grid_us: int
    actions: NDArray[np.int32]
    labels: int

    @property
    def gap(self) -> float:
        """As a share of the lower bound; 0 where both are 0."""
        return (self.upper_mj - self.lower_mj) / self.lower_mj if self.lower_mj else 0.0

    @property
    def name(self) -> str:
        return "oracle" if self.exact else "relaxed bound"


def bounds(
    trace: Trace,
    table: Table,
    platform: Platform,
    miss_mj: float,
    grid_us: int = 500,
    work: FloatArray | None = None,
    mixing: bool = False,
    room: int = ROOM,
) -> Bounds:
    """Bounds on the least J; a grid of 1 us makes both the optimum.

    Raises:
        UsageError: as `simulate`, or a grid or a price of misses that is out of range.
        Capped: lateness beyond `room` steps of the grid; take a coarser one.
    """
    if not 1 <= grid_us <= 1_000_000:
        raise UsageError(f"the oracle's grid must be from 1 to 1,000,000 us, not {grid_us}")
    if not (np.isfinite(miss_mj) and miss_mj >= 0):
        raise UsageError(f"the price of a miss must be a number from 0, not {miss_mj}")
    check(trace, table)
    factor = checked_work(trace, table, work)
    plain = [_worth(table, model) for model in range(len(table.models))]
    least = replace(table, time_us=table.next_us)  # as if each followed on its like
    offer = _mixed if mixing else _worth
    offers = [offer(least, model) for model in range(len(table.models))]
    lower, capped, labels = _run(trace, offers, factor, miss_mj, grid_us, not mixing, room, None)
    if capped:
        raise Capped(
            f"{trace.generator}: a schedule may be more than {room:,} steps of {grid_us} us "
            "behind, so that this run is no bound; take a coarser grid"
        )
    chosen = np.zeros(len(trace), np.int32)
    upper, _, most = _run(trace, plain, factor, miss_mj, grid_us, True, room, chosen)
    numbers = np.concatenate([offer.action for offer in plain]).astype(np.int32)
    actions = numbers[chosen]
    reasons = ["points may change within a request"] if mixing else []
    if table.batches:
        reasons.append("every request follows on its like")
    if platform.has_extras:
        reasons.append("switching, waking and idling cost nothing")
    if platform.has_extras or table.batches:
        # a schedule that left no time for stalls would miss what it was made to meet
        stalled = [replace(offer, time=offer.time + _stall(platform)) for offer in plain]
        _run(trace, stalled, factor, miss_mj, grid_us, True, room, chosen)
        found = {
            simulate(Replay(given), trace, table, platform, work).cost_mj(miss_mj): given
            for given in (actions, numbers[chosen])
        }
        upper = min(found)
        actions = found[upper]
    return Bounds(
        lower * (1 - SLACK),
        upper * (1 + SLACK),
        not reasons,
        " and ".join(reasons),
        grid_us,
        actions,
        max(labels, most),
    )


def _stall(platform: Platform) -> int:
    """The longest that a request waits for its platform to be ready, in us."""
    wakes = (
        cluster.transition_us + max(state.entry_us + state.exit_us for state in cluster.idle_states)
        for cluster in platform.clusters
    )
    return max(wakes) + platform.migration_us


@dataclass(frozen=True, eq=False)
class _Offer:
    """What a model's requests may choose, by time; `action` is the number in the table."""

    time: IntArray
    power: FloatArray
    accuracy: FloatArray
    action: IntArray


def _worth(table: Table, model: int) -> _Offer:
    """The actions that no other is as quick, as cheap and as right as."""
    span = range(int(table.start[model]), int(table.start[model + 1]))
    energy = table.energy_mj
    kept: list[int] = []
    for k in sorted(span, key=lambda k: (table.time_us[k], energy[k], -table.accuracy[k])):
        if not any(energy[j] <= energy[k] and table.accuracy[j] >= table.accuracy[k] for j in kept):
            kept.append(k)
    own = np.array(kept, np.int64)
    return _Offer(table.time_us[own], table.power_mw[own], table.accuracy[own], own)


def _mixed(table: Table, model: int) -> _Offer:
    """Of each variant pieces of the lower convex hull of (time, energy): as quick as a piece's
    quick end, as cheap as its cheap end. No sharing of time between points is better."""
    rows: list[tuple[float, float, float, int]] = []
    span = np.arange(table.start[model], table.start[model + 1])
    variants = np.array([table.actions[k].variant for k in span])
    for variant in dict.fromkeys(variants.tolist()):
        own = span[variants == variant]
        times, energies = _hull(table.time_us[own].astype(float), table.energy_mj[own])
        ends = np.geomspace(times[0], times[-1], PIECES + 1) if len(times) > 1 else times
        ends[0], ends[-1] = times[0], times[-1]
        cheap = np.append(np.interp(ends[1:], times, energies), energies[-1])
        accuracy = float(table.accuracy[own[0]])
        rows += [(end, mj, accuracy, int(own[0])) for end, mj in zip(ends, cheap, strict=True)]
    rows.sort()
    time = np.floor([row[0] for row in rows]).astype(np.int64).clip(1)
    # the last microsecond of a request may be one of which only a part was needed
    energy = np.array([row[1] for row in rows]) * (1 - 1e-6)
    return _Offer(
        time,
        energy / (time * 1e-6),
        np.array([row[2] for row in rows]),
        np.array([row[3] for row in rows], np.int64),
    )


def _hull(time: FloatArray, energy: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The lower convex hull from the quickest to the cheapest."""
    kept: list[tuple[float, float]] = []
    for t, e in sorted(zip(time.tolist(), energy.tolist(), strict=True)):
        if kept and e >= kept[-1][1]:
            continue
        while len(kept) > 1 and (kept[-1][1] - kept[-2][1]) * (t - kept[-2][0]) >= (
            e - kept[-2][1]
        ) * (kept[-1][0] - kept[-2][0]):
            kept.pop()
        kept.append((t, e))
    return np.array([t for t, _ in kept]), np.array([e for _, e in kept])


def _run(
    trace: Trace, offers: list[_Offer], work: FloatArray, miss_mj: float, grid_us: int,
    whole: bool, room: int, chosen: NDArray[np.int32] | None,
) -> tuple[float, bool, int]:  # fmt: skip
    """(least cost, whether it was capped, most labels); `chosen` is filled from a schedule, with
    lateness rounded up; without it, it is rounded down."""
    from flow.schedule import labels

    gap = np.full(len(trace), labels.FREE, np.int64)
    if not trace.closed:
        np.subtract(trace.arrival_us[1:], trace.arrival_us[:-1], out=gap[:-1])
    asked = labels.Asked(
        gap, trace.deadline_us - trace.arrival_us, trace.model, trace.min_accuracy, work
    )
    offered = labels.Offered(
        np.cumsum([0, *(len(offer.time) for offer in offers)]).astype(np.int64),
        np.concatenate([offer.time for offer in offers]),
        np.concatenate([offer.power for offer in offers]),
        np.concatenate([offer.accuracy for offer in offers]),
    )
    kept = KEPT + room if chosen is not None else 0
    path = labels.Path(
        np.zeros(0, np.int32) if chosen is None else chosen,
        np.zeros(0 if chosen is None else len(trace), np.int64),
        np.empty(kept, np.int32),
        np.empty(kept, np.int32),
    )
    up, half = chosen is not None, 0.5 if whole else 0.0
    return labels.cheapest(asked, offered, miss_mj, grid_us, up, half, room, path)
