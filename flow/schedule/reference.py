"""The engine in plain Python: what `kernels` must give, request by request, on small traces."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from flow.schedule.engine import (
    bases,
    check,
    checked_work,
    fixed_actions,
    following,
    shares,
    worth_choosing,
)
from flow.schedule.outcome import Outcome, Part, Segment
from flow.schedule.platform import Platform
from flow.schedule.policies.base import (
    Chooser,
    Governing,
    Governor,
    Mode,
    Pinned,
    Policy,
    Rule,
    home,
)
from flow.schedule.policies.predictive import Replay
from flow.schedule.trace import Trace
from flow.schedule.work import FloatArray, Table

LOOK_AHEAD = 32
FADES = math.log(2) / 32_000


def simulate(
    policy: Policy,
    trace: Trace,
    table: Table,
    platform: Platform,
    work: FloatArray | None = None,
    window: tuple[int, int] | None = None,
) -> Outcome:
    """As `engine.simulate`, with every segment kept that begins in the window."""
    check(trace, table)
    factor = np.broadcast_to(checked_work(trace, table, work), len(trace))
    run = _Run(trace, table, platform, [float(value) for value in factor])
    if isinstance(policy, Governor):
        _govern(run, policy)
    elif isinstance(policy, Pinned):
        cluster, point = policy.place(platform)
        given = fixed_actions(policy, trace, table, platform, cluster, point)
        run.cluster, run.hold[cluster] = cluster, point
        _choose(run, Rule(Mode.GIVEN), given.tolist(), table.predicted_us.tolist(), parks=False)
    else:
        assert isinstance(policy, Chooser)
        fixed = policy.actions.tolist() if isinstance(policy, Replay) else []
        _choose(run, policy.rule(), fixed, policy.beliefs(table, platform).tolist(), parks=True)
    return run.outcome(policy.name, window)


class _Run:
    """A run so far: the time, where the platform stands, and all segments."""

    def __init__(self, trace: Trace, table: Table, platform: Platform, work: Sequence[float]):
        self.trace, self.table, self.platform, self.work = trace, table, platform, work
        self.arrival: list[int] = trace.arrival_us.tolist()
        self.deadline: list[int] = trace.deadline_us.tolist()
        self.now, self.cluster = 0, 0
        self.hold = [cluster.parked for cluster in platform.clusters]
        self.segments: list[Segment] = []
        self.finish: list[int] = []
        self.actions: list[int] = []
        self.switches = self.migrations = self.wakes = 0

    def release(self, request: int) -> None:
        """In a closed trace, set when the request arrives."""
        if self.trace.closed:
            times = self.trace.arrival_us
            think = int(times[request]) - (int(times[request - 1]) if request else 0)
            allowed = self.deadline[request] - self.arrival[request]
            self.arrival[request] = self.now + think
            self.deadline[request] = self.arrival[request] + allowed

    def spend(self, part: Part, until: int, mw: float, request: int) -> None:
        if until > self.now:
            point = self.hold[self.cluster]
            place = (self.cluster, point, request)
            self.segments.append(Segment(part, self.now, until, mw, *place))
            self.now = until

    def awake_mw(self, point: int) -> float:
        return self.platform.awake_mw(self.cluster, point)

    def rest(self, ready: int, request: int) -> None:
        """Idle until `ready`, down the ladder of idle states, and wake."""
        cluster, start = self.platform.clusters[self.cluster], self.now
        point = self.hold[self.cluster]
        mw, reached = self.awake_mw(point), None
        for state in cluster.idle_states:
            if start + state.residency_us >= ready:
                break
            self.spend(
                Part.IDLE, max(start + state.residency_us, self.now) + state.entry_us, mw, request
            )
            idle = cluster.points[point].idle_mw if state.power_mw is None else state.power_mw
            mw, reached = idle - cluster.floor_mw, state
        self.spend(Part.IDLE, ready, mw, request)
        if reached is not None and reached.exit_us:
            self.spend(Part.WAKE, self.now + reached.exit_us, self.awake_mw(point), request)
            self.wakes += 1

    def park(self, request: int) -> None:
        """Go to the point that idles best."""
        cluster, point = self.platform.clusters[self.cluster], self.hold[self.cluster]
        if point != cluster.parked:
            self.hold[self.cluster] = cluster.parked
            mw = self.awake_mw(max(point, cluster.parked))
            self.spend(Part.SWITCH, self.now + cluster.transition_us, mw, request)
            self.switches += 1

    def move(self, number: int, request: int) -> None:
        """Go where an action wants to be."""
        action = self.table.actions[number]
        if action.cluster != self.cluster:
            self.hold[self.cluster] = self.platform.clusters[self.cluster].parked
            self.cluster = action.cluster
            old, self.hold[self.cluster] = self.hold[self.cluster], action.point
            until = self.now + self.platform.migration_us
            self.spend(Part.SWITCH, until, self.table.power_mw[number], request)
            self.hold[self.cluster] = old
            self.migrations += 1
        old = self.hold[self.cluster]
        if old != action.point:
            self.hold[self.cluster] = action.point
            mw = self.table.power_mw[number - action.point + max(old, action.point)]
            until = self.now + self.platform.clusters[self.cluster].transition_us
            self.spend(Part.SWITCH, until, mw, request)
            self.switches += 1

    def queue(self, request: int) -> list[int]:
        """The request, and what else has arrived, as far as a decision looks."""
        last = min(request + LOOK_AHEAD, len(self.arrival))
        more = range(request + 1, request + 1 if self.trace.closed else last)
        return [request, *(j for j in more if self.arrival[j] <= self.now)]

    def outcome(self, policy: str, window: tuple[int, int] | None) -> Outcome:
        clusters = self.platform.clusters
        part_us, part_mj = np.zeros(len(Part), np.int64), np.zeros(len(Part))
        busy = np.zeros((len(clusters), max(len(c.points) for c in clusters)), np.int64)
        for segment in self.segments:
            length = segment.stop_us - segment.start_us
            part_us[segment.part.value] += length
            part_mj[segment.part.value] += segment.mw * length * 1e-6
            if segment.part is Part.BUSY:
                busy[segment.cluster, segment.point] += length
        begin, end = window or (0, 0)
        return Outcome(
            policy,
            np.array(self.arrival, np.int64),
            np.array(self.deadline, np.int64),
            np.array(self.finish, np.int64),
            np.array(self.actions, np.int32),
            part_us,
            part_mj,
            busy,
            self.switches,
            self.migrations,
            self.wakes,
            self.now,
            self.platform.p_deep_mw,
            tuple(segment for segment in self.segments if begin <= segment.start_us < end),
        )


class _Seen:
    """What a chooser knows of actions: their times as it believes them, and the slow-down that it
    has measured on each cluster."""

    def __init__(self, run: _Run, believed: list[int]):
        self.run, self.believed = run, believed
        self.behind = -1  # the action that has just ended, without a pause since
        self.after = following(run.table, np.array(believed, np.int64)).tolist()
        self.slow = [1.0] * len(run.platform.clusters)
        self.first, self.order = worth_choosing(run.table, np.array(believed, np.int64))

    def options(self, request: int) -> list[int]:
        """The actions that the request may choose, the quickest first."""
        model = self.run.trace.model[request]
        floor = self.run.trace.min_accuracy[request]
        span = self.order[self.first[model] : self.first[model + 1]].tolist()
        return [number for number in span if self.run.table.accuracy[number] >= floor]

    def quickest(self, request: int) -> int:
        return self.believed[self.options(request)[0]]

    def takes(self, number: int) -> tuple[float, float]:
        """(us that it takes from now without any margin, of which so much is stalled)."""
        run, action = self.run, self.run.table.actions[number]
        stall = 0
        if action.cluster != run.cluster:
            stall += run.platform.migration_us
        if action.point != run.hold[action.cluster]:
            stall += run.platform.clusters[action.cluster].transition_us
        return self.expected(number) * self.slow[action.cluster], stall

    def expected(self, number: int) -> int:
        """us of an action, before any slow-down."""
        return int((self.after if number == self.behind else self.believed)[number])


def _choose(run: _Run, rule: Rule, given: list[int], believed: list[int], parks: bool) -> None:
    seen = _Seen(run, believed)
    for request in range(len(run.arrival)):
        run.release(request)
        ready = run.arrival[request]
        if rule.waits and ready >= run.now:
            ready = _latest(run, seen, request)
        if ready > run.now:
            seen.behind = -1
            if parks:
                run.park(request)
            if ready > run.now:
                run.rest(ready, request)
        number = given[request] if rule.mode is Mode.GIVEN else _pick(run, seen, rule, request)
        run.move(number, request)
        times = run.table.next_us if number == seen.behind else run.table.time_us
        length = max(1, int(times[number] * run.work[request] + 0.5))
        run.spend(Part.BUSY, run.now + length, run.table.power_mw[number], request)
        cluster = run.table.actions[number].cluster
        seen.slow[cluster] += rule.follow * (length / seen.expected(number) - seen.slow[cluster])
        seen.behind = number
        run.finish.append(run.now)
        run.actions.append(number)


def _latest(run: _Run, seen: _Seen, request: int) -> int:
    """Until when all can wait that has arrived by then."""
    spare = max(
        c.idle_states[-1].exit_us + c.transition_us + run.platform.migration_us
        for c in run.platform.clusters
    )
    need, at = seen.quickest(request), run.arrival[request]
    latest = run.deadline[request] - need - spare
    more = [] if run.trace.closed else range(request + 1, request + LOOK_AHEAD)
    for other in more:
        if other >= len(run.arrival) or run.arrival[other] > max(latest, at):
            break
        at = max(at, run.arrival[other])
        need += seen.quickest(other)
        latest = min(latest, run.deadline[other] - need - spare)
    return max(at, latest)


def _pick(run: _Run, seen: _Seen, rule: Rule, request: int) -> int:
    queue = run.queue(request) if rule.looks else [request]
    # how long this request may take for each of the queue to be in time
    after, slack, rates = 0, [], []
    for other in queue:
        quick = seen.quickest(other)
        after += quick if other != request else 0
        left = run.deadline[other] - run.now
        slack.append(left - after)
        rates.append((seen.quickest(request) + after) / left if left > 0 else math.inf)
    least: float = min(slack)
    if rule.mode is Mode.AVAILABLE:
        least = seen.quickest(request) / max(rates)
    best, swift = (math.inf, -1), (math.inf, -1)
    for number in seen.options(request):
        us, stall = seen.takes(number)
        cost = us * run.table.power_mw[number] * 1e-6
        us = us * (1 + rule.margin) + stall
        if us < swift[0]:
            swift = (us, number)
        if rule.mode is Mode.PRICE:
            cost += rule.price * 1e-3 * len(queue) * us
            cost += rule.miss * sum(us > each for each in slack)
        elif us > least:
            continue
        if cost < best[0]:
            best = (cost, number)
    return best[1] if best[1] >= 0 else swift[1]


class _Load:
    """How much of the running period was busy."""

    def __init__(self, period: int):
        self.period, self.window, self.busy = period, -1, 0

    def look(self, now: int) -> int:
        """Begin another period if it is time; returns when the next one begins."""
        if now // self.period != self.window:
            self.window, self.busy = now // self.period, 0
        return (self.window + 1) * self.period

    def stalled(self, begin: int, now: int) -> None:
        """Busy from `begin`, which was the end of a period."""
        self.window = now // self.period
        self.busy = now - max(begin, self.window * self.period)


class _Use:
    """Utilisation as the kernel tracks it, which halves in 32 ms, and what it was when the task
    last slept."""

    def __init__(self) -> None:
        self.value, self.known, self.at = 0.0, 0.0, 0

    def advance(self, now: int, toward: float) -> None:
        share = math.exp(-FADES * (now - self.at))
        self.value = toward + (self.value - toward) * share if toward else self.value * share
        self.at = now

    def sleep(self) -> None:
        self.known += (self.value - self.known) / 4

    @property
    def wanted(self) -> float:
        return max(self.value, self.known)


class _Frequencies:
    """The points of all clusters as shares of the highest, and what a governor wants of them."""

    def __init__(self, run: _Run, policy: Governor):
        self.run, self.told = run, policy.settings()
        share, capacity = shares(run.platform)
        self.share, self.capacity = share.tolist(), capacity.tolist()
        self.home = home(run.platform, policy.cluster)
        self.wanted = self.share[self.home][run.hold[self.home]]
        self.since = 0

    def at_least(self, cluster: int, share: float) -> int:
        points = range(len(self.run.platform.clusters[cluster].points))
        fit = [point for point in points if self.share[cluster][point] >= share - 1e-12]
        return fit[0] if fit else points[-1]

    def by_load(self, load: float, now: int) -> int:
        """The next point of a governor that looks at nothing but the load."""
        told, cluster = self.told, self.run.cluster
        point, listed = self.run.hold[cluster], self.share[cluster]
        if told.mode is Governing.ONDEMAND:
            wanted = 1.0 if load > told.up else listed[0] + load * (1 - listed[0])
            return self.at_least(cluster, wanted)
        if told.mode is Governing.CONSERVATIVE:
            if load > told.up:
                self.wanted = min(1.0, self.wanted + told.step)
            elif load < told.down:
                self.wanted = max(listed[0], self.wanted - told.step)
            return self.at_least(cluster, self.wanted)
        wanted = 1.0 if load >= told.down else listed[point] * load / told.up
        new = self.at_least(cluster, wanted)
        if new >= point:
            self.since = now
        return point if new < point and now - self.since < told.least_us else new

    def place(self, first: Sequence[int], use: float) -> int:
        """The cluster with a fifth to spare that needs the least energy, else the largest."""
        costs = {}
        for cluster, capacity in enumerate(self.capacity):
            if use <= 0.8 * capacity:
                point = self.at_least(cluster, 1.25 * use / capacity)
                speed = self.share[cluster][point] * capacity
                costs[cluster] = self.run.table.power_mw[first[cluster] + point] / speed
        largest = self.capacity.index(max(self.capacity))
        return min(costs, key=lambda cluster: (costs[cluster], cluster)) if costs else largest


def _govern(run: _Run, policy: Governor) -> None:
    told, base = policy.settings(), bases(policy, run.trace, run.table, run.platform)
    wants, load, use = _Frequencies(run, policy), _Load(told.period_us), _Use()
    tracks = told.mode in (Governing.SCHEDUTIL, Governing.ENERGY_AWARE)
    run.cluster = wants.home
    for request in range(len(run.arrival)):
        first = base[:, request].tolist()
        run.release(request)
        ready = run.arrival[request]
        woke = ready > run.now or request == 0
        if ready > run.now:
            if request:
                use.sleep()
            quiet = told.period_us + told.slack_us
            if told.mode is Governing.INTERACTIVE and ready - run.now > quiet:
                run.rest(run.now + quiet, request)
                run.park(request)
            if ready > run.now:
                run.rest(ready, request)
        use.advance(run.now, 0.0)
        if tracks and woke:
            cluster = wants.home
            if told.mode is Governing.ENERGY_AWARE:
                cluster = wants.place(first, use.wanted)
            point = wants.at_least(cluster, 1.25 * use.wanted / wants.capacity[cluster])
            run.move(first[cluster] + point, request)
        run.actions.append(first[run.cluster] + run.hold[run.cluster])
        left, now = 1.0, run.now
        while True:
            cluster, point = run.cluster, run.hold[run.cluster]
            length = run.table.time_us[first[cluster] + point] * run.work[request]
            mw = run.table.power_mw[first[cluster] + point]
            tick = load.look(now)
            done = now + max(1, math.ceil(left * length - 1e-6))
            begin, now = now, min(done, tick)
            load.busy += now - begin
            left -= (now - begin) / length
            use.advance(now, wants.share[cluster][point] * wants.capacity[cluster])
            if now >= done:
                run.spend(Part.BUSY, now, mw, request)
                break
            if tracks:
                there, new = _paced(wants, use, told.mode, cluster, point)
            else:
                there, new = cluster, wants.by_load(load.busy / told.period_us, now)
            if (there, new) != (cluster, point):
                run.spend(Part.BUSY, now, mw, request)
                run.move(first[there] + new, request)
                load.stalled(now, run.now)
                now = run.now
        run.finish.append(run.now)


def _paced(
    wants: _Frequencies, use: _Use, mode: Governing, cluster: int, point: int
) -> tuple[int, int]:
    """(cluster, point) for a task that goes on: its frequency may only rise, and where it outgrows
    its cluster it moves to the largest."""
    there = cluster
    if mode is Governing.ENERGY_AWARE and use.value > 0.8 * wants.capacity[cluster]:
        there = wants.capacity.index(max(wants.capacity))
    new = wants.at_least(there, 1.25 * use.wanted / wants.capacity[there])
    return there, max(new, point) if there == cluster else new
