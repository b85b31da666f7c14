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
    """Actions by model: those of model m are `first[m]` up to `first[m + 1]`."""

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


@compiled
def cheapest(
    asked: Asked, offered: Offered, miss: float, grid: int, up: bool, half: float,
    room: int, path: Path,
) -> tuple[float, bool, int]:  # fmt: skip
    """(millijoules of the cheapest label, whether `room` was too small, most labels at a time).

    `up`: lateness is rounded up. `half` is added before times with work become whole. Labels that
    are later than `room` steps of the grid are dropped, which spoils a lower bound.
    """
    late, cost = np.zeros(1024, np.int64), np.zeros(1024)
    best = np.full(min(room, 4096), np.inf)
    source, how = np.zeros(len(best), np.int32), np.zeros(len(best), np.int32)
    count, most, spoiled = 1, 1, False
    begun, free = 0, 0
    for i in range(len(asked.gap)):
        model, floor, gap = asked.model[i], asked.floor[i], asked.gap[i]
        work = asked.work[i if len(asked.work) > 1 else 0]
        last, dropped = 0, np.inf
        for k in range(offered.first[model], offered.first[model + 1]):
            if offered.accuracy[k] < floor:
                continue
            us = max(1, int(offered.time[k] * work + half))
            mj = us * offered.power[k] * 1e-6
            for label in range(count):
                spent = cost[label] + mj
                if late[label] + us > asked.allowed[i]:
                    spent += miss
                if spent >= best[0]:
                    continue
                behind = late[label] + us - gap
                step = 0
                if behind > 0:
                    step = (behind + grid - 1) // grid if up else behind // grid
                if step >= room:
                    dropped = min(dropped, spent)
                    continue
                while step >= len(best):
                    best = np.concatenate((best, np.full(len(best), np.inf)))
                    source = np.concatenate((source, np.zeros_like(source)))
                    how = np.concatenate((how, np.zeros_like(how)))
                if spent < best[step]:
                    best[step], source[step], how[step] = spent, label, k
                    last = max(last, step)
        count, lowest = 0, np.inf
        for step in range(last + 1):
            if best[step] < lowest:
                lowest = best[step]
                if count == len(cost):
                    late = np.concatenate((late, np.zeros_like(late)))
                    cost = np.concatenate((cost, np.zeros_like(cost)))
                late[count], cost[count] = step * grid, lowest
                if len(path.chosen) > 0:
                    if count == 0:
                        path.at[i] = free
                    path.label[free + count] = source[step]
                    path.action[free + count] = how[step]
                count += 1
            best[step] = np.inf
        spoiled |= dropped < lowest
        most = max(most, count)
        if len(path.chosen) > 0:
            free += count
            full = free + room > len(path.label)
            if count == 1 or full:  # where room runs out, the earliest label is the schedule's
                decide(path, begun, i, 0)
                begun, free, count = i + 1, 0, 1
    if len(path.chosen) > 0 and begun < len(asked.gap):
        decide(path, begun, len(asked.gap) - 1, count - 1)
    return cost[count - 1], spoiled, most
