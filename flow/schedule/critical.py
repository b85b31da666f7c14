"""The compiled loop of `yds`: critical intervals, the densest first."""

from __future__ import annotations

from typing import Any

import numpy as np

from flow.schedule.jit import compiled


@compiled
def critical(release: Any, deadline: Any, work: Any) -> Any:
    """The speed of each job; jobs are in order of deadline. Writes into its arguments: what a
    critical interval takes is cut out of the time of all others."""
    count = len(work)
    speed = np.zeros(count)
    left = count
    while left > 0:
        densest, begin, end = -1.0, 0.0, 0.0
        for first in range(count):
            if speed[first] > 0:
                continue
            total, start = 0.0, release[first]
            for job in range(count):
                if speed[job] > 0 or release[job] < start:
                    continue
                total += work[job]
                if deadline[job] > start and total > densest * (deadline[job] - start):
                    densest, begin, end = total / (deadline[job] - start), start, deadline[job]
        if densest < 0:  # no time is left for what is left
            speed[speed == 0] = np.inf
            break
        for job in range(count):
            if speed[job] > 0:
                continue
            if release[job] >= begin and deadline[job] <= end:
                speed[job] = densest
                left -= 1
                continue
            if release[job] > begin:
                release[job] = max(begin, release[job] - (end - begin))
            if deadline[job] > begin:
                deadline[job] = max(begin, deadline[job] - (end - begin))
    return speed
