"""The compiled loop of the oracle: labels (when all is done, what it has cost) request by request.

A label that is later and no cheaper than another one is dropped. What is done before the next
request arrives counts as done when it arrives. Lateness lies on a grid: rounded down, no schedule
costs less than the cheapest label; rounded up, a schedule that idles a little costs what it does.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from flow.schedule.jit import compiled

FREE = 1 << 60  # a gap after which nothing waits


class Asked(NamedTuple):
    """By request: us until the next one, us until its deadline, model, floor of accuracy, and work
    (one number where it is the same for all)."""

    gap: Any
    allowed: Any
    model: Any
    floor: Any
    work: Any


class Offered(NamedTuple):
    """Actions by model, the quickest first: those of model m are `first[m]` up to
    `first[m + 1]`."""

    first: Any
    time: Any
    power: Any
    accuracy: Any


class Path(NamedTuple):
    """What the cheapest schedule did. `chosen` is empty where nobody asks; `label` and `action` are
    room for the labels of requests that are not decided, from `at` on."""

    chosen: Any
    at: Any
    label: Any
    action: Any


@compiled
def decide(path: Path, begun: int, last: int, label: int) -> None:
    """Write down the actions that led to a label of request `last`, back to `begun`."""
    for i in range(last, begun - 1, -1):
        place = path.at[i] + label
        path.chosen[i] = path.action[place]
        label = path.label[place]


class Front(NamedTuple):
    """By step of lateness the cheapest that a request leaves behind, of which label, by which
    action; infinite where there is none."""

    cost: Any
    label: Any
    action: Any


@compiled
def spread(
    offered: Offered, front: Front, step: Any, cost: Any, count: int, span: range,
    work: float, half: float, gap: int, allowed: int, floor: float,
    miss: float, grid: int, up: bool, room: int,
) -> tuple[int, float]:  # fmt: skip
    """(the latest step that labels move to, the cheapest of those that are beyond `room`) where
    they take the actions of `span`.

    Later labels are cheaper. So of each action the latest first, those that miss before those that
    do not; what follows one that is no cheaper than the earliest, or becomes it, costs more.
    """
    _, time, power, accuracy = offered
    best, source, how = front
    last, dropped = 0, np.inf
    for k in span:
        if accuracy[k] < floor:
            continue
        us = max(1, int(time[k] * work + half))
        mj = us * power[k] * 1e-6
        # lateness is of whole steps, so that what an action adds is rounded alike for all
        shift = -((gap - us) // grid) if up else (us - gap) // grid
        meets = (allowed - us) // grid
        missing = True
        for label in range(count - 1, -1, -1):
            late = step[label] > meets
            if late and not missing:
                continue
            spent = cost[label] + mj
            if late:
                spent += miss
            if spent >= best[0]:
                if not late:
                    break
                missing = False
                continue
            to = max(0, step[label] + shift)
            if to >= room:
                dropped = min(dropped, spent)
            elif spent < best[to]:
                best[to], source[to], how[to] = spent, label, k
                last = max(last, to)
    return last, dropped


@compiled
def grown(array: Any, size: int, fill: float) -> Any:
    """The array with room for `size` numbers at the least, and twice as many as before."""
    more = np.full(max(size, 2 * len(array)), fill, array.dtype)
    more[: len(array)] = array
    return more


@compiled
def cheapest(
    asked: Asked, offered: Offered, miss: float, grid: int, up: bool, half: float,
    room: int, path: Path,
) -> tuple[float, bool, int]:  # fmt: skip
    """(millijoules of the cheapest label, whether `room` was too small, most labels at a time).

    `up`: lateness is rounded up. `half` is added before times with work become whole. Labels that
    are later than `room` steps of the grid are dropped, which spoils a lower bound.
    """
    # labels: steps of lateness, rising, and costs, falling
    step, cost = np.zeros(1024, np.int64), np.zeros(1024)
    front = Front(np.full(1024, np.inf), np.zeros(1024, np.int64), np.zeros(1024, np.int64))
    count, most, spoiled = 1, 1, False
    begun, free = 0, 0
    for i in range(len(asked.gap)):
        model, gap = asked.model[i], asked.gap[i]
        work = asked.work[i if len(asked.work) > 1 else 0]
        span = range(offered.first[model], offered.first[model + 1])
        longest = int(offered.time[span.stop - 1] * work + half) - gap
        size = min(room, step[count - 1] + max(0, longest) // grid + 2)
        if size > len(front.cost):
            front = Front(
                grown(front.cost, size, np.inf),
                grown(front.label, size, 0),
                grown(front.action, size, 0),
            )
        last, dropped = spread(
            offered, front, step, cost, count, span,
            work, half, gap, asked.allowed[i], asked.floor[i], miss, grid, up, room,
        )  # fmt: skip
        count, lowest = 0, np.inf
        if last >= len(cost):
            step, cost = grown(step, last + 1, 0), grown(cost, last + 1, 0.0)
        for to in range(last + 1):
            if front.cost[to] < lowest:
                lowest = front.cost[to]
                step[count], cost[count] = to, lowest
                if len(path.chosen) > 0:
                    path.label[free + count] = front.label[to]
                    path.action[free + count] = front.action[to]
                count += 1
            front.cost[to] = np.inf
        spoiled |= dropped < lowest
        most = max(most, count)
        if len(path.chosen) > 0:
            path.at[i] = free
            free += count
            ended = i + 1 == len(asked.gap)
            if count == 1 or ended or free + room > len(path.label):
                # where room runs out, the earliest label is the schedule's; at the end the cheapest
                decide(path, begun, i, count - 1 if ended else 0)
                begun, free, count = i + 1, 0, count if ended else 1
    return cost[count - 1], spoiled, most
