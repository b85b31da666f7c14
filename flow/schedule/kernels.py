"""The loops of the engine over all requests; `engine` packs their arguments, and `reference` says
the same in plain Python. Times are whole microseconds, powers milliwatts above the floor."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from flow.schedule.jit import compiled
from flow.schedule.policies.base import Governing, Mode

BUSY, IDLE, SWITCH, WAKE = 0, 1, 2, 3
COUNT, CUT, SWITCHES, MIGRATIONS, WAKES, BEGIN, END = range(7)  # of `Tally.counts`
GIVEN, TIGHT, PRICE, AVAILABLE = (mode.value for mode in Mode)
ONDEMAND, CONSERVATIVE, INTERACTIVE, SCHEDUTIL, ENERGY_AWARE = (mode.value for mode in Governing)
LOOK_AHEAD = 32  # queued requests that a decision looks at
FADES = math.log(2) / 32_000  # a us, of the utilisation that Linux tracks: half in 32 ms
MJ = 1e-6  # of a milliwatt for a microsecond
PER_WATT = 1e-3  # millijoules of a watt for a microsecond


class Requests(NamedTuple):
    """By request; `work` is by how much more than the table's time each takes, or one for all. In a
    closed trace `arrival` and `deadline` are overwritten with what they come to be."""

    arrival: Any
    deadline: Any
    model: Any
    floor: Any
    work: Any
    closed: bool


ACTION = np.dtype(
    {
        "names": [
            *("time", "believed", "next", "believed_next"),
            *("power", "accuracy", "cluster", "point"),
        ],
        "formats": ["i8", "i8", "i8", "i8", "f8", "f8", "i8", "i8"],
    }
)
CLUSTER = np.dtype([(name, "i8") for name in ("points", "parked", "transition", "states")])
POINT = np.dtype([("awake", "f8"), ("held", "f8")])
STATE = np.dtype([("mw", "f8"), ("entry", "i8"), ("exit", "i8"), ("residency", "i8")])
PART = np.dtype([("us", "i8"), ("mj", "f8")])
SEGMENT = np.dtype(
    {
        "names": ["part", "start", "stop", "mw", "cluster", "point", "request"],
        "formats": ["i8", "i8", "i8", "f8", "i8", "i8", "i8"],
    }
)


class Costs(NamedTuple):
    """`actions` are ACTIONs, whose `next` is what they take behind themselves;
    `order[first[m] : first[m + 1]]` those of model m that are worth choosing from, the quickest
    first."""

    actions: Any
    first: Any
    order: Any


class Machine(NamedTuple):
    """`clusters` are CLUSTERs; `points` POINTs by cluster and point, powers awake and idle at a
    point that is held; `ladder` STATEs by cluster and state, of a power below 0 where the point's
    is held."""

    clusters: Any
    points: Any
    ladder: Any
    migration: int


class Choice(NamedTuple):
    """How `choose` decides: a policy's `Rule` in numbers; `parks`: to the point that idles best."""

    mode: int
    looks: bool
    waits: bool
    parks: bool
    margin: float
    price: float
    miss: float
    follow: float


class Tally(NamedTuple):
    """What is added up: PARTs, the time of each point, and counts; `log` are the SEGMENTs that
    begin in a window."""

    parts: Any
    busy: Any
    counts: Any
    log: Any


@compiled
def spend(
    tally: Tally,
    part: int,
    start: int,
    stop: int,
    mw: float,
    cluster: int,
    point: int,
    request: int,
) -> None:
    """Draw `mw` from `start` to `stop`."""
    if stop <= start:
        return
    tally.parts[part].us += stop - start
    tally.parts[part].mj += mw * (stop - start) * MJ
    if part == BUSY:
        tally.busy[cluster, point] += stop - start
    if tally.counts[BEGIN] <= start < tally.counts[END]:
        at = tally.counts[COUNT]
        if at >= len(tally.log):
            tally.counts[CUT] = 1
            return
        row = tally.log[at]
        row.part, row.start, row.stop, row.mw = part, start, stop, mw
        row.cluster, row.point, row.request = cluster, point, request
        tally.counts[COUNT] = at + 1


@compiled
def rest(
    machine: Machine, tally: Tally, start: int, ready: int, cluster: int, point: int, request: int
) -> int:
    """Idle from `start` until `ready`; returns when the cluster is awake again."""
    now, mw, state = start, machine.points[cluster, point].awake, -1
    for deeper in range(machine.clusters[cluster].states):
        enter = start + machine.ladder[cluster, deeper].residency
        if enter >= ready:
            break
        entered = max(enter, now) + machine.ladder[cluster, deeper].entry
        spend(tally, IDLE, now, entered, mw, cluster, point, request)
        now, state = entered, deeper
        mw = machine.ladder[cluster, deeper].mw
        if mw < 0:
            mw = machine.points[cluster, point].held
    spend(tally, IDLE, now, ready, mw, cluster, point, request)
    now = max(now, ready)
    if state >= 0 and machine.ladder[cluster, state].exit > 0:
        awake = now + machine.ladder[cluster, state].exit
        spend(
            tally, WAKE, now, awake, machine.points[cluster, point].awake, cluster, point, request
        )
        tally.counts[WAKES] += 1
        now = awake
    return now


@compiled
def park(machine: Machine, tally: Tally, now: int, cluster: int, hold: Any, request: int) -> int:
    """Go to the point that idles best; returns when it is reached."""
    best, point = machine.clusters[cluster].parked, hold[cluster]
    if point == best:
        return now
    hold[cluster] = best
    mw = machine.points[cluster, max(point, best)].awake
    done = now + machine.clusters[cluster].transition
    spend(tally, SWITCH, now, done, mw, cluster, best, request)
    tally.counts[SWITCHES] += 1
    return int(done)


@compiled
def move(
    machine: Machine, costs: Costs, tally: Tally,
    now: int, cluster: int, hold: Any, action: int, request: int,
) -> int:  # fmt: skip
    """Go where an action wants to be; returns when it can begin. A cluster that is left is parked
    meanwhile."""
    there, point = costs.actions[action].cluster, costs.actions[action].point
    if there != cluster:
        hold[cluster] = machine.clusters[cluster].parked
        done = now + machine.migration
        spend(tally, SWITCH, now, done, costs.actions[action].power, there, point, request)
        tally.counts[MIGRATIONS] += 1
        now = done
    old = hold[there]
    if old != point:
        hold[there] = point
        mw = costs.actions[action - point + max(old, point)].power
        done = now + machine.clusters[there].transition
        spend(tally, SWITCH, now, done, mw, there, point, request)
        tally.counts[SWITCHES] += 1
        now = done
    return now


@compiled
def lasts(us: int, work: float) -> int:
    """Whole microseconds of an action that takes `us` times `work`."""
    return max(1, int(us * work + 0.5))


@compiled
def quickest(costs: Costs, model: int, floor: float) -> int:
    """The believed time of the quickest action that is right enough."""
    for k in range(costs.first[model], costs.first[model + 1]):
        action = costs.order[k]
        if costs.actions[action].accuracy >= floor:
            return int(costs.actions[action].believed)
    return 0


@compiled
def wait_until(requests: Requests, costs: Costs, machine: Machine, i: int, now: int) -> int:
    """Until when all that has arrived can wait if it is then served as quickly as can be."""
    spare = 0
    for cluster in range(len(machine.clusters)):
        leave = machine.ladder[cluster, machine.clusters[cluster].states - 1].exit
        spare = max(spare, leave + machine.clusters[cluster].transition + machine.migration)
    seen = max(now, requests.arrival[i])
    need = quickest(costs, requests.model[i], requests.floor[i])
    latest = requests.deadline[i] - need - spare
    j = i + 1
    while not requests.closed and j < len(requests.arrival) and j - i < LOOK_AHEAD:
        if requests.arrival[j] > max(latest, seen):
            break
        seen = max(seen, requests.arrival[j])
        need += quickest(costs, requests.model[j], requests.floor[j])
        latest = min(latest, requests.deadline[j] - need - spare)
        j += 1
    return int(max(seen, latest))


@compiled
def pick(
    requests: Requests, costs: Costs, machine: Machine, rule: Choice,
    i: int, now: int, cluster: int, hold: Any, slow: Any, slack: Any, behind: int,
) -> int:  # fmt: skip
    """The action for request i at `now`, behind an action that has just ended, or -1. Fills
    `slack` with how long it may take for it and for what is queued to be done in time, if the queue
    is served as quickly as can be thereafter."""
    slack[0] = requests.deadline[i] - now
    queued, total = 1, 0
    own = quickest(costs, requests.model[i], requests.floor[i])
    need = own / slack[0] if slack[0] > 0 else np.inf
    while rule.looks and not requests.closed and queued < LOOK_AHEAD:
        j = i + queued
        if j >= len(requests.arrival) or requests.arrival[j] > now:
            break
        total += quickest(costs, requests.model[j], requests.floor[j])
        left = requests.deadline[j] - now
        need = max(need, (own + total) / left if left > 0 else np.inf)
        slack[queued] = left - total
        queued += 1
    least = slack[0]
    for j in range(1, queued):
        least = min(least, slack[j])
    if rule.mode == AVAILABLE:
        least = own / need
    best, best_cost, swift, swift_us = -1, np.inf, -1, np.inf
    model = requests.model[i]
    for k in range(costs.first[model], costs.first[model + 1]):
        action = costs.order[k]
        if costs.actions[action].accuracy < requests.floor[i]:
            continue
        there = costs.actions[action].cluster
        us = costs.actions[action].believed
        if action == behind:
            us = costs.actions[action].believed_next
        us *= slow[there]
        mj = us * costs.actions[action].power * MJ
        us *= 1 + rule.margin
        if there != cluster:
            us += machine.migration
        if costs.actions[action].point != hold[there]:
            us += machine.clusters[there].transition
        if us < swift_us:
            swift, swift_us = action, us
        if rule.mode == PRICE:
            mj += rule.price * PER_WATT * queued * us
            for j in range(queued):
                if us > slack[j]:
                    mj += rule.miss
        elif us > least:
            continue
        if mj < best_cost:
            best, best_cost = action, mj
    return best if best >= 0 else swift


@compiled
def choose(
    requests: Requests, costs: Costs, machine: Machine, rule: Choice, tally: Tally,
    given: Any, finish: Any, action: Any,
) -> int:  # fmt: skip
    """Serve every request by an action from its beginning to its end."""
    now, cluster, before, behind = 0, 0, 0, -1
    hold, slow = machine.clusters.parked.copy(), np.ones(len(machine.clusters))
    slack = np.empty(LOOK_AHEAD)
    if not rule.parks:
        cluster = costs.actions[given[0]].cluster
        hold[cluster] = costs.actions[given[0]].point
    for i in range(len(requests.arrival)):
        if requests.closed:
            think, before = requests.arrival[i] - before, requests.arrival[i]
            requests.deadline[i] += now + think - requests.arrival[i]
            requests.arrival[i] = now + think
        ready = requests.arrival[i]
        if rule.waits and ready >= now:  # else there was no time to sleep
            ready = wait_until(requests, costs, machine, i, now)
        if ready > now:
            behind = -1
            if rule.parks:
                now = park(machine, tally, now, cluster, hold, i)
            if ready > now:
                now = rest(machine, tally, now, ready, cluster, hold[cluster], i)
        if rule.mode == GIVEN:
            chosen = given[i]
        else:
            chosen = pick(
                requests, costs, machine, rule, i, now, cluster, hold, slow, slack, behind
            )
        now = move(machine, costs, tally, now, cluster, hold, chosen, i)
        cluster, point = costs.actions[chosen].cluster, costs.actions[chosen].point
        time, believed = costs.actions[chosen].time, costs.actions[chosen].believed
        if chosen == behind:
            time, believed = costs.actions[chosen].next, costs.actions[chosen].believed_next
        us = lasts(time, requests.work[i if len(requests.work) > 1 else 0])
        spend(tally, BUSY, now, now + us, costs.actions[chosen].power, cluster, point, i)
        now += us
        slow[cluster] += rule.follow * (us / believed - slow[cluster])
        finish[i], action[i], behind = now, chosen, chosen
    return now


class Governor(NamedTuple):
    """How `govern` decides. Frequencies are shares of the cluster's highest, by (cluster, point);
    `capacity` is that of a cluster at its highest, as a share of the platform's."""

    mode: int
    home: int
    share: Any
    capacity: Any
    period: int
    up: float
    down: float
    step: float
    least_us: int
    slack_us: int


@compiled
def at_least(machine: Machine, governor: Governor, cluster: int, share: float) -> int:
    """The lowest point of at least that frequency, else the highest."""
    for point in range(machine.clusters[cluster].points):
        if governor.share[cluster, point] >= share - 1e-12:
            return point
    return int(machine.clusters[cluster].points - 1)


@compiled
def place(machine: Machine, costs: Costs, governor: Governor, base: Any, i: int, use: float) -> int:
    """The cluster that serves a task of utilisation `use` at the least energy, of those that have
    a fifth to spare; else the largest."""
    best, best_cost, largest = -1, np.inf, 0
    for cluster in range(len(machine.clusters)):
        if governor.capacity[cluster] > governor.capacity[largest]:
            largest = cluster
        if use > 0.8 * governor.capacity[cluster]:
            continue
        point = at_least(machine, governor, cluster, 1.25 * use / governor.capacity[cluster])
        speed = governor.share[cluster, point] * governor.capacity[cluster]
        cost = costs.actions[base[cluster, i] + point].power / speed
        if cost < best_cost:
            best, best_cost = cluster, cost
    return best if best >= 0 else largest


@compiled
def govern(
    requests: Requests, costs: Costs, machine: Machine, governor: Governor, tally: Tally,
    base: Any, finish: Any, action: Any,
) -> int:  # fmt: skip
    """Serve every request at the frequencies of a governor, which looks at the load every period.
    `base` (clusters, n) are the actions of a request's variant at each cluster's first point."""
    now, before, cluster = 0, 0, governor.home
    hold = machine.clusters.parked.copy()
    window, busy_us = -1, 0  # the running period, and how much of it was busy
    wanted = governor.share[cluster, hold[cluster]]  # of the conservative governor
    since = 0  # when the interactive governor last saw its frequency needed
    use, known, seen = 0.0, 0.0, 0  # utilisation, its estimate, when it was last brought up to date
    pace = governor.mode >= SCHEDUTIL
    for i in range(len(requests.arrival)):
        if requests.closed:
            think, before = requests.arrival[i] - before, requests.arrival[i]
            requests.deadline[i] += now + think - requests.arrival[i]
            requests.arrival[i] = now + think
        ready = requests.arrival[i]
        woke = ready > now or i == 0
        if ready > now:
            known += (use - known) / 4 if i > 0 else 0.0
            if governor.mode == INTERACTIVE and ready - now > governor.period + governor.slack_us:
                # its timer fires once in idle, and finds nothing to do
                quiet = now + governor.period + governor.slack_us
                now = rest(machine, tally, now, quiet, cluster, hold[cluster], i)
                now = park(machine, tally, now, cluster, hold, i)
            if ready > now:
                now = rest(machine, tally, now, ready, cluster, hold[cluster], i)
        if pace:
            use *= math.exp(-FADES * (now - seen))
            seen = now
            if woke:
                want = max(use, known)
                if governor.mode == ENERGY_AWARE:
                    chosen = place(machine, costs, governor, base, i, want)
                else:
                    chosen = governor.home
                top = governor.capacity[chosen]
                point = at_least(machine, governor, chosen, 1.25 * want / top)
                now = move(machine, costs, tally, now, cluster, hold, base[chosen, i] + point, i)
                cluster = chosen
        work = requests.work[i if len(requests.work) > 1 else 0]
        left, begun = 1.0, now
        action[i] = base[cluster, i] + hold[cluster]
        if now // governor.period != window:
            window, busy_us = now // governor.period, 0
        while True:  # a period, or what is left of it or of the request
            point = hold[cluster]
            us = costs.actions[base[cluster, i] + point].time * work
            done = now + max(1, math.ceil(left * us - 1e-6))
            stop = min(done, (window + 1) * governor.period)
            busy_us += stop - now
            left -= (stop - now) / us
            if pace:
                rate = governor.share[cluster, point] * governor.capacity[cluster]
                use = rate + (use - rate) * math.exp(-FADES * (stop - seen))
                seen = stop
            now = stop
            if now >= done:
                break
            load = busy_us / governor.period
            new, there = point, cluster
            if governor.mode == ONDEMAND:
                low = governor.share[cluster, 0]
                share = 1.0 if load > governor.up else low + load * (1 - low)
                new = at_least(machine, governor, cluster, share)
            elif governor.mode == CONSERVATIVE:
                if load > governor.up:
                    wanted = min(1.0, wanted + governor.step)
                elif load < governor.down:
                    wanted = max(governor.share[cluster, 0], wanted - governor.step)
                new = at_least(machine, governor, cluster, wanted)
            elif governor.mode == INTERACTIVE:
                share = governor.share[cluster, point] * load / governor.up
                new = at_least(machine, governor, cluster, 1.0 if load >= governor.down else share)
                if new >= point:
                    since = now
                elif now - since < governor.least_us:
                    new = point
            else:
                want = max(use, known)
                if governor.mode == ENERGY_AWARE and use > 0.8 * governor.capacity[cluster]:
                    for other in range(len(machine.clusters)):
                        if governor.capacity[other] > governor.capacity[there]:
                            there = other
                # busy since the last look, so that it may only rise
                share = 1.25 * want / governor.capacity[there]
                if there != cluster or governor.share[cluster, point] < share - 1e-12:
                    new = at_least(machine, governor, there, share)
            window, busy_us = window + 1, 0
            if new != point or there != cluster:
                mw = costs.actions[base[cluster, i] + point].power
                spend(tally, BUSY, begun, now, mw, cluster, point, i)
                begun = now
                now = move(machine, costs, tally, now, cluster, hold, base[there, i] + new, i)
                window = now // governor.period  # a stall counts as busy
                busy_us = now - max(begun, window * governor.period)
                cluster, begun = there, now
        mw = costs.actions[base[cluster, i] + hold[cluster]].power
        spend(tally, BUSY, begun, now, mw, cluster, hold[cluster], i)
        finish[i] = now
    return now
