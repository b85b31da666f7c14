"""Running a policy over a trace: arguments packed for the compiled loops of `kernels`.

One request runs at a time, in order of arrival, from its beginning to its end. Choosers pick an
action when a request begins; governors change its frequency while it runs. Changing a point stalls
for the cluster's transition, at the larger of both points' power; moving to another cluster stalls
for the migration. Idle, the cluster walks down its ladder of idle states; waking delays what comes.
Ten million requests take below 2 GB: what is kept for each is its finish and its action.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.errors import UsageError
from flow.schedule.outcome import Outcome, Part, Segment
from flow.schedule.platform import Platform
from flow.schedule.policies.base import Chooser, Governing, Governor, Mode, Pinned, Policy, home
from flow.schedule.policies.predictive import Replay
from flow.schedule.trace import Trace
from flow.schedule.work import FloatArray, IntArray, Table

MAX_SEGMENTS = 1 << 20
MAX_TIME_US = 1 << 61


def simulate(
    policy: Policy,
    trace: Trace,
    table: Table,
    platform: Platform,
    work: FloatArray | None = None,
    window: tuple[int, int] | None = None,
) -> Outcome:
    """What the policy makes of the trace. `work` (n,): by how much longer than the table's time
    each request takes, which no policy knows beforehand. `window`: from when to when segments are
    kept, in us.

    Raises:
        UsageError: a table of other models; a floor of accuracy that no variant meets; a policy
            whose cluster cannot run what is asked; work that is not above 0.
    """
    from flow.schedule import kernels

    check(trace, table)
    factor = checked_work(trace, table, work)
    arrival, deadline = trace.arrival_us, trace.deadline_us
    if trace.closed:  # written by the loop
        arrival, deadline = arrival.copy(), deadline.copy()
    floor = trace.min_accuracy
    requests = kernels.Requests(arrival, deadline, trace.model, floor, factor, trace.closed)
    machine = _machine(platform)
    count = len(trace)
    counts = np.zeros(7, np.int64)
    counts[[kernels.BEGIN, kernels.END]] = window or (0, 0)
    tally = kernels.Tally(
        np.zeros(len(Part), kernels.PART),
        np.zeros(machine.points.shape, np.int64),
        counts,
        np.zeros(MAX_SEGMENTS if window else 0, kernels.SEGMENT),
    )
    finish, action = np.empty(count, np.int64), np.empty(count, np.int32)
    if isinstance(policy, Governor):
        if table.batches:
            raise UsageError(
                f"policy {policy.name}: what takes less behind its like cannot be governed; choose "
                f"a policy that keeps an action for a request"
            )
        believed = table.predicted_us
        kernels.govern(
            requests, _costs(table, believed), machine, _governor(policy, table, platform), tally,
            bases(policy, trace, table, platform), finish, action,
        )  # fmt: skip
    else:
        given, choice, believed = _choice(policy, trace, table, platform)
        costs = _costs(table, believed)
        kernels.choose(requests, costs, machine, choice, tally, given, finish, action)
    return Outcome(
        policy.name,
        arrival,
        deadline,
        finish,
        action,
        tally.parts["us"].copy(),
        tally.parts["mj"].copy(),
        tally.busy,
        int(tally.counts[kernels.SWITCHES]),
        int(tally.counts[kernels.MIGRATIONS]),
        int(tally.counts[kernels.WAKES]),
        int(finish[-1]),
        platform.p_deep_mw,
        _segments(tally),
        bool(tally.counts[kernels.CUT]),
    )


def check(trace: Trace, table: Table) -> None:
    """Raises UsageError where the table is of other models, or a floor of accuracy is not met."""
    if trace.models != table.models:
        raise UsageError(
            f"{trace.generator}: the table must be of models {', '.join(trace.models)}, "
            f"not {', '.join(table.models)}"
        )
    table.check_floor(trace.generator, trace.model, trace.min_accuracy)


def checked_work(trace: Trace, table: Table, work: FloatArray | None) -> FloatArray:
    """One number for each request, or one for all. Raises UsageError."""
    factor = np.ones(1) if work is None else np.asarray(work, np.float64)
    if work is not None and factor.shape != (len(trace),):
        raise UsageError(f"work must be {len(trace):,} numbers, not {factor.shape}")
    if not (np.isfinite(factor).all() and factor.min() > 0):
        raise UsageError("work must be above 0")
    last = max(int(trace.arrival_us[-1]), int(trace.deadline_us.max()))
    # stalls and wakes are of seconds at the most
    longest = float(table.time_us.max()) * float(factor.max()) + 1e10
    if last + len(trace) * longest > MAX_TIME_US:
        raise UsageError(f"{trace.generator}: must be over within {MAX_TIME_US:,} us at any speed")
    return factor


def bases(policy: Governor, trace: Trace, table: Table, platform: Platform) -> NDArray[np.int32]:
    """(clusters, n): the action of a request's variant at each cluster's first point, -1 where the
    governor does not go. The variant is the quickest that is right enough, at the highest frequency
    of the largest cluster that the governor uses. Raises UsageError."""
    everywhere = policy.settings().mode is Governing.ENERGY_AWARE
    main = home(platform, policy.cluster)
    top = fixed_actions(
        policy, trace, table, platform, main, len(platform.clusters[main].points) - 1
    )
    found = np.full((len(platform.clusters), len(trace)), -1, np.int32)
    found[main] = top - (len(platform.clusters[main].points) - 1)
    if everywhere:
        first = {(a.variant, a.cluster): k for k, a in enumerate(table.actions) if a.point == 0}
        variant = np.array([action.variant for action in table.actions])
        for cluster in range(len(platform.clusters)):
            by_variant = np.array([first.get((v, cluster), -1) for v in range(len(table.variants))])
            found[cluster] = by_variant[variant[top]]
        if (found < 0).any():
            raise UsageError(f"policy {policy.name}: every variant must run on every cluster")
    return found


def fixed_actions(
    policy: Policy, trace: Trace, table: Table, platform: Platform, cluster: int, point: int
) -> NDArray[np.int32]:
    """(n,): of each request the action there whose variant is the quickest that is right enough.
    Raises UsageError where there is none."""
    found = np.empty(len(trace), np.int32)
    name = platform.clusters[cluster].name
    for model, title in enumerate(table.models):
        span = range(int(table.start[model]), int(table.start[model + 1]))
        own = [k for k in span if table.actions[k][1:] == (cluster, point)]
        asks = trace.model == model
        if not asks.any():
            continue
        own.sort(key=lambda k: (table.accuracy[k], -table.time_us[k]))
        # of those at least as right, the quickest
        best = list(own)
        for place in range(len(own) - 2, -1, -1):
            if table.time_us[best[place + 1]] <= table.time_us[best[place]]:
                best[place] = best[place + 1]
        right = np.searchsorted(table.accuracy[own], trace.min_accuracy[asks], "left")
        if len(own) == 0 or right.max() >= len(own):
            raise UsageError(
                f"policy {policy.name}: no variant of {title} that is right enough runs on {name}"
            )
        found[asks] = np.array(best, np.int32)[right]
    return found


def _choice(
    policy: Policy, trace: Trace, table: Table, platform: Platform
) -> tuple[NDArray[np.int32], Any, IntArray]:
    """(actions that are given, what the loop is told, beliefs)."""
    from flow.schedule.kernels import Choice

    if isinstance(policy, Pinned):
        given = fixed_actions(policy, trace, table, platform, *policy.place(platform))
        choice = Choice(Mode.GIVEN.value, False, False, False, 0.0, 0.0, 0.0, 0.0)
        return given, choice, table.predicted_us
    if not isinstance(policy, Chooser):
        raise UsageError(f"policy {policy.name} cannot be simulated")
    given = np.zeros(0, np.int32)
    if isinstance(policy, Replay):
        given = np.ascontiguousarray(policy.actions, np.int32)
        check_actions(given, trace, table)
    rule = policy.rule()
    choice = Choice(
        rule.mode.value, rule.looks, rule.waits, True,
        float(rule.margin), float(rule.price), float(rule.miss), float(rule.follow),
    )  # fmt: skip
    return given, choice, policy.beliefs(table, platform)


def check_actions(given: NDArray[np.int32], trace: Trace, table: Table) -> None:
    """Raises UsageError where an action is not of its request's model, or not right enough."""
    if given.shape != (len(trace),):
        raise UsageError(f"replayed actions must be {len(trace):,}, not {given.shape}")
    start, stop = table.start[trace.model], table.start[trace.model + 1]
    wrong = (given < start) | (given >= stop)
    wrong |= table.accuracy[np.where(wrong, start, given)] < trace.min_accuracy
    if wrong.any():
        row = int(np.argmax(wrong)) + 1
        raise UsageError(f"replayed actions: row {row}: {given[row - 1]} is none of its request's")


def worth_choosing(table: Table, believed: IntArray) -> tuple[IntArray, IntArray]:
    """(first, order): by model the actions that no other is as quick, as right and as cheap as, the
    quickest first, as they are believed to be. Actions of several clusters all stay, because what
    moving there costs depends on where one is."""
    first, order = [0], []
    after = following(table, believed)
    energy = believed * table.power_mw
    more = after * table.power_mw
    several = len({action.cluster for action in table.actions}) > 1
    for model in range(len(table.models)):
        span = range(int(table.start[model]), int(table.start[model + 1]))
        ordered = sorted(span, key=lambda k: (believed[k], energy[k], -table.accuracy[k], k))
        kept: list[int] = []
        for k in ordered:
            same = [
                j for j in kept
                if not several or table.actions[j].cluster == table.actions[k].cluster
            ]  # fmt: skip
            if not any(
                energy[j] <= energy[k]
                and table.accuracy[j] >= table.accuracy[k]
                and after[j] <= after[k]
                and more[j] <= more[k]
                for j in same
            ):
                kept.append(k)
        order += kept
        first.append(len(order))
    return np.array(first, np.int64), np.array(order, np.int64)


def following(table: Table, believed: IntArray) -> IntArray:
    """By action what it is believed to take behind itself, in us."""
    return np.maximum(1, believed * table.predicted_next_us // table.predicted_us)


def _costs(table: Table, believed: IntArray) -> Any:
    from flow.schedule.kernels import ACTION, Costs

    first, order = worth_choosing(table, believed)
    actions = np.zeros(len(table.actions), ACTION)
    actions["time"], actions["believed"] = table.time_us, believed
    actions["next"], actions["believed_next"] = table.next_us, following(table, believed)
    actions["power"], actions["accuracy"] = table.power_mw, table.accuracy
    actions["cluster"] = [action.cluster for action in table.actions]
    actions["point"] = [action.point for action in table.actions]
    return Costs(actions, first, order)


def _machine(platform: Platform) -> Any:
    from flow.schedule.kernels import CLUSTER, POINT, STATE, Machine

    held = platform.clusters
    clusters = np.zeros(len(held), CLUSTER)
    points = np.zeros((len(held), max(len(cluster.points) for cluster in held)), POINT)
    ladder = np.zeros((len(held), max(len(cluster.idle_states) for cluster in held)), STATE)
    for c, cluster in enumerate(held):
        listed, states = cluster.points, cluster.idle_states
        clusters[c] = (len(listed), cluster.parked, cluster.transition_us, len(states))
        for p, point in enumerate(listed):
            points[c, p] = platform.awake_mw(c, p), point.idle_mw - cluster.floor_mw
        for s, state in enumerate(states):
            mw = -1.0 if state.power_mw is None else state.power_mw - cluster.floor_mw
            ladder[c, s] = mw, state.entry_us, state.exit_us, state.residency_us
    return Machine(clusters, points, ladder, platform.migration_us)


def shares(platform: Platform) -> tuple[FloatArray, FloatArray]:
    """(by cluster and point the frequency as a share of the cluster's highest, by cluster the top
    speed as a share of the platform's). Raises UsageError where a cluster has neither."""
    clusters = platform.clusters
    share = np.zeros((len(clusters), max(len(cluster.points) for cluster in clusters)))
    top = np.zeros(len(clusters))
    for c, cluster in enumerate(clusters):
        for p, point in enumerate(cluster.points):
            last = cluster.points[-1].mhz
            if point.mhz is None or last is None or not point.speed:
                raise UsageError(
                    f"platform {platform.name}: {cluster.name} has no frequencies to govern; "
                    "choose another policy"
                )
            share[c, p] = point.mhz / last
            top[c] = max(top[c], next(iter(point.speed.values())))
    return share, top / top.max()


def _governor(policy: Governor, table: Table, platform: Platform) -> Any:
    from flow.schedule.kernels import Governor as Told

    share, capacity = shares(platform)
    told = policy.settings()
    return Told(
        told.mode.value, home(platform, policy.cluster), share, capacity, told.period_us,
        float(told.up), float(told.down), float(told.step), told.least_us, told.slack_us,
    )  # fmt: skip


def _segments(tally: Any) -> tuple[Segment, ...]:
    parts, rows = list(Part), tally.log[: int(tally.counts[0])].tolist()
    return tuple(Segment(parts[part], *rest) for part, *rest in rows)
