"""What a schedule turns on: the load, what nobody measured, and the tables of powers themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from flow.errors import UsageError
from flow.schedule.engine import simulate
from flow.schedule.oracle import Capped, bounds
from flow.schedule.platform import OperatingPoint, Platform
from flow.schedule.policies.base import Policy
from flow.schedule.policies.predictive import Replay
from flow.schedule.result import VARIED, Front, Swept
from flow.schedule.trace import Trace
from flow.schedule.trace_spec import stretched
from flow.schedule.variants import Known
from flow.schedule.work import Table, make_table

LOADS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0)  # arrivals for one of the trace
AWAKE_MW = (0.0, 100.0, 500.0, 1000.0, 2000.0)
PRICES = (0.02, 0.05, 0.1, 0.3, 1.0, 10.0)  # of a miss, for one of the trace
FRONT = 2_000  # requests that the oracle's front is over
ROOM = 1 << 12  # steps that its schedules may be late; where misses are too cheap they never end


def table_of(platform: Platform, known: Sequence[Known], models: Sequence[str]) -> Table:
    """Every action of the variants on the platform. Raises UsageError, as `make_table`."""
    real, believed = [each.variant for each in known], [each.believed for each in known]
    return make_table(platform, real, models, believed)


def load_sweep(
    policies: Sequence[Policy], trace: Trace, table: Table, platform: Platform, miss_mj: float
) -> list[Swept]:
    """The same requests, closer together and farther apart."""
    if trace.closed:
        return []  # its client waits: more load is another client
    return [
        _swept(load, f"{load:g}", policies, stretched(trace, 1 / load), table, platform, miss_mj)
        for load in LOADS
    ]


def awake_sweep(
    policies: Sequence[Policy],
    trace: Trace,
    known: Sequence[Known],
    platform: Platform,
    miss_mj: float,
) -> list[Swept]:
    """Other powers of what stays on while anything runs."""
    found = []
    for mw in AWAKE_MW:
        other = replace(platform, p_awake_mw=mw)
        table = table_of(other, known, trace.models)
        found.append(_swept(mw, f"{mw:g} mW", policies, trace, table, other, miss_mj))
    return found


def table_sweep(
    policies: Sequence[Policy],
    trace: Trace,
    known: Sequence[Known],
    platform: Platform,
    miss_mj: float,
) -> list[Swept]:
    """Each cluster's powers of running and of idling varied, and the device tree's in their
    place."""
    found = []
    for number, (label, other) in enumerate(_tables(platform)):
        table = table_of(other, known, trace.models)
        found.append(_swept(number, label, policies, trace, table, other, miss_mj))
    return found


def _tables(platform: Platform) -> Iterator[tuple[str, Platform]]:
    yield "as it is", platform
    for place, cluster in enumerate(platform.clusters):
        if not any(point.busy_mw for point in cluster.points):
            continue
        for factor in (1 - VARIED, 1 + VARIED):
            yield (
                f"{cluster.name} running times {factor:g}",
                _with(platform, place, partial(_busy, by=factor)),
            )
            yield (
                f"{cluster.name} idling times {factor:g}",
                _with(platform, place, partial(_idle, by=factor)),
            )
    if all(cluster.coefficient is not None for cluster in platform.clusters):
        yield "C * V^2 * f of the device tree", platform.by_formula()


def _with(
    platform: Platform, place: int, change: Callable[[OperatingPoint], OperatingPoint]
) -> Platform:
    clusters = list(platform.clusters)
    clusters[place] = replace(
        clusters[place], points=tuple(change(point) for point in clusters[place].points)
    )
    return replace(platform, clusters=tuple(clusters))


def _busy(point: OperatingPoint, by: float) -> OperatingPoint:
    return replace(point, busy_mw={load: mw * by for load, mw in point.busy_mw.items()})


def _idle(point: OperatingPoint, by: float) -> OperatingPoint:
    return replace(point, idle_mw=point.idle_mw * by)


def _swept(
    value: float,
    label: str,
    policies: Sequence[Policy],
    trace: Trace,
    table: Table,
    platform: Platform,
    miss_mj: float,
) -> Swept:
    cost, missed = {}, {}
    for policy in policies:
        outcome = simulate(policy, trace, table, platform)
        cost[policy.name] = outcome.cost_mj(miss_mj) / len(trace)
        missed[policy.name] = 100 * outcome.misses / len(trace)
    return Swept(value, label, cost, missed)


def front(
    trace: Trace, table: Table, platform: Platform, miss_mj: float, grid_us: int
) -> list[Front]:
    """What the oracle's schedules take and miss where a miss costs more or less."""
    part = trace.part(0, min(len(trace), FRONT))
    found = []
    for price in PRICES:
        try:
            best = bounds(part, table, platform, price * miss_mj, grid_us, room=ROOM)
        except Capped:
            continue
        outcome = simulate(Replay(best.actions), part, table, platform)
        count = len(part)
        energy, missed = outcome.energy_mj / count, 100 * outcome.misses / count
        found.append(Front(price * miss_mj, energy, missed))
    return found


def fitting(
    policies: Sequence[Policy], trace: Trace, table: Table, platform: Platform
) -> tuple[list[Policy], list[str]]:
    """The policies that this platform and these variants allow, and why the others do not."""
    kept, said = [], []
    first = trace.part(0, 1)
    for policy in policies:
        try:
            simulate(policy, first, table, platform)
        except UsageError as error:
            said.append(f"left out: {error}")
        else:
            kept.append(policy)
    return kept, said
