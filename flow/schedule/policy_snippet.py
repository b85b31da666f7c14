"""Which variant, processor and clock to run a request with, now: plain Python, nothing else needed.

    from policy import Policy
    policy = Policy.load("policy.json")
    policy.arrived("digits", deadline_us, 97.0)  # each request, when it comes
    choice = policy.decide(now_us)       # for the first that waits
    policy.started(choice)               # set the clock, run choice.variant on choice.cluster
    policy.finished(choice, took_us)     # corrects predictions by how slow the core is now
    policy.rested()                      # when nothing waits: back to the clock that idles best

Times are microseconds of one clock of your own. The table holds what each action is predicted to
take and to draw; this class looks up, for each number of requests that wait, which of the actions
that are quick enough is the cheapest. A copy of this file lies in every folder of a schedule.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Sequence
from math import ceil, inf
from pathlib import Path
from typing import Any, NamedTuple


class Choice(NamedTuple):
    """An action: the variant's name, the cluster, its clock (None: it has one alone), and what an
    inference is predicted to take if the core is as fast as the table says. `place` is its own."""

    variant: str
    cluster: str
    mhz: float | None
    predicted_us: int
    place: int


class _Action(NamedTuple):
    """`order` is its place among equals; `us` with the margin, `mj` without."""

    place: int
    order: int
    us: float
    mj: float


_NONE: list[_Action] = []


class _Side:
    """The actions of one cluster, the quickest first (`us`, with the margin), for each number of
    requests that wait the cheapest of the first so many, and what the cheapest of all costs; `at`
    has those of each point."""

    def __init__(self, cluster: int, at: dict[int, list[_Action]], weights: Sequence[float]):
        self.cluster, self.at = cluster, at
        found = sorted(sum(at.values(), _NONE), key=lambda action: (action.us, action.order))
        self.us = [action.us for action in found]
        self.quickest = found[0]
        self.best = [_cheapest(found, weight) for weight in weights]
        self.low = [
            best[-1].mj + weight * best[-1].us
            for best, weight in zip(self.best, weights, strict=True)
        ]


def _cheapest(actions: Sequence[_Action], weight: float) -> list[_Action]:
    """Of the first one, of the first two, and so on, where a us costs so many millijoules."""
    found: list[_Action] = []
    least = (inf, 0)
    for action in actions:
        cost = (action.mj + weight * action.us, action.order)
        found.append(action if cost < least else found[-1])
        least = min(least, cost)
    return found


class _Plan(NamedTuple):
    """What a request of one model and accuracy may be served with; `quickest` without a margin.
    `behind` has, by place, what takes less directly behind its like."""

    quickest: int
    sides: list[_Side]
    behind: dict[int, _Action]


class _Waiting(NamedTuple):
    """A request that has arrived. `done` is what all up to it take if each takes as little as can
    be, and `spare` its deadline less that."""

    spare: int
    done: int
    plan: _Plan


class Policy:
    """Decides by one table; holds what waits, where the platform is, and how slow its cores are."""

    def __init__(self, table: dict[str, Any]):
        rule = table["rule"]
        self._priced = rule["mode"] == "price"
        self._ahead = int(rule["look_ahead"]) if rule["looks"] else 1
        self._margin, self._follow = 1 + rule["margin"], float(rule["follow"])
        self._price, self._miss = rule["price_w"] * 1e-3, float(rule["miss_mj"])
        self._clusters = table["clusters"]
        self._transition = [int(cluster["transition_us"]) for cluster in self._clusters]
        self._parked = [int(cluster["parked"]) for cluster in self._clusters]
        self._migration = int(table["migration_us"])
        self._rows = table["actions"]
        counts = range(1, self._ahead + 1) if self._priced else [0] * self._ahead
        self._weights = [self._price * count for count in counts]
        self._plans = {name: self._levels(own) for name, own in table["models"].items()}
        self._choices, self._next = (
            [self._choice(table["variants"], k, us) for k in range(len(self._rows))]
            for us in ("predicted_us", "next_us")
        )
        self.cluster, self.points = 0, list(self._parked)
        self.slow = [1.0] * len(self._clusters)
        self._waiting: deque[_Waiting] = deque()
        self._spare: list[int] = []  # of the first of them that a decision looks at, rising
        self._done = 0
        self._last = -1  # the place of what ran last, if nothing has rested since

    @classmethod
    def load(cls, path: str | Path) -> Policy:
        """The policy whose table is in that JSON file."""
        return cls(json.loads(Path(path).read_text()))

    def _choice(self, variants: Sequence[str], place: int, us: str) -> Choice:
        row = self._rows[place]
        cluster = self._clusters[row["cluster"]]
        mhz = cluster["mhz"][row["point"]]
        return Choice(variants[row["variant"]], cluster["name"], mhz, int(row[us]), place)

    def _levels(self, places: Sequence[int]) -> tuple[list[float], list[_Plan]]:
        """Accuracies that variants have, rising, and what may serve who asks for as much."""
        levels = sorted({float(self._rows[place]["accuracy"]) for place in places})
        return levels, [self._above(places, level) for level in levels]

    def _above(self, places: Sequence[int], level: float) -> _Plan:
        """What has that accuracy."""
        at: dict[int, dict[int, list[_Action]]] = {}
        quickest, behind = [], {}
        for order, place in enumerate(places):
            row = self._rows[place]
            if row["accuracy"] < level:
                continue
            us = int(row["predicted_us"])
            quickest.append(us)
            action = _Action(place, order, us * self._margin, us * row["mw"] * 1e-6)
            at.setdefault(row["cluster"], {}).setdefault(row["point"], []).append(action)
            if (after := int(row["next_us"])) < us:
                mj = after * row["mw"] * 1e-6
                behind[place] = _Action(place, order, after * self._margin, mj)
        sides = [_Side(cluster, at[cluster], self._weights) for cluster in sorted(at)]
        return _Plan(min(quickest), sides, behind)

    def _plan(self, model: str, floor: float) -> _Plan:
        levels, plans = self._plans[model]
        level = bisect_left(levels, floor)
        if level == len(plans):
            raise ValueError(
                f"no variant of {model} has an accuracy of {floor}; the best {levels[-1]}"
            )
        return plans[level]

    def arrived(self, model: str, deadline: int, floor: float = 0.0) -> None:
        """A request of that model, least accuracy in percent, and deadline in us; they are served
        in order.

        Raises:
            KeyError, ValueError: a model, or an accuracy, that no variant has.
        """
        plan = self._plan(model, floor)
        self._done += plan.quickest
        self._waiting.append(_Waiting(deadline - self._done, self._done, plan))
        if len(self._spare) < self._ahead:
            insort(self._spare, deadline - self._done)

    def decide(self, now: int) -> Choice:
        """The action for the first of the requests that have arrived and were not started. Raises
        IndexError where there is none."""
        _, done, plan = self._waiting[0]
        behind = plan.behind.get(self._last)
        found = self._cheapest(plan.sides, done - now, behind)
        return (self._next if found is behind else self._choices)[found.place]

    def _cheapest(
        self, sides: Sequence[_Side], since: int, behind: _Action | None = None
    ) -> _Action:
        """The best action; `since` is added to the spare time of what waits, `behind` one that may
        follow on its like. Written for speed: it is asked before every inference."""
        priced, miss, spare = self._priced, self._miss, self._spare
        count, least = len(spare), spare[0] + since
        price = self._price * count if priced else 0.0
        best, best_cost, best_order = None, inf, 0
        for side in sides:
            cluster, cheapest, missed = side.cluster, side.best[count - 1], 0
            moving = 0 if cluster == self.cluster else self._migration
            switch, slow = moving + self._transition[cluster], self.slow[cluster]
            low = (side.low[count - 1] * slow + price * switch) * (1 - 1e-9)
            if priced and (us := side.us[0] * slow + switch) > least:
                missed = bisect_left(spare, ceil(us) - since)  # whatever else is done
            last, levels = 0, count + 1 if priced else 1
            tries, stall = side.at.get(self.points[cluster], _NONE), moving
            if behind and cluster == self.cluster:
                tries = [*tries, behind]
            while True:
                for action in tries:
                    _, order, us, mj = action
                    us = us * slow + stall
                    cost = mj * slow + price * us
                    if us > least:
                        cost += miss * bisect_left(spare, ceil(us) - since) if priced else inf
                    if cost < best_cost or (cost == best_cost and order < best_order):
                        best, best_cost, best_order = action, cost, order
                # The cheapest of all was among them, or nothing that misses as many can be cheaper.
                if last == len(cheapest) or missed == levels or best_cost < missed * miss + low:
                    break
                last = len(cheapest)
                if missed < count:
                    last = bisect_right(side.us, (spare[missed] + since - switch) / slow)
                tries, stall, missed = cheapest[last - 1 : last], switch, missed + 1
        return best or self._quickest(sides, behind)

    def _quickest(self, sides: Sequence[_Side], behind: _Action | None) -> _Action:
        """Where nothing is quick enough."""
        found = []
        if behind:
            found.append((behind.us * self.slow[self.cluster], behind.order, behind))
        for side in sides:
            moving = 0 if side.cluster == self.cluster else self._migration
            switch, slow = moving + self._transition[side.cluster], self.slow[side.cluster]
            held = side.at.get(self.points[side.cluster], _NONE)
            found += [(action.us * slow + moving, action.order, action) for action in held]
            found.append((side.quickest.us * slow + switch, side.quickest.order, side.quickest))
        return min(found)[-1]

    def started(self, choice: Choice) -> None:
        """The first of those that wait is served. The platform goes where the choice wants it; a
        cluster that is left goes to rest."""
        spare = self._waiting.popleft().spare
        del self._spare[bisect_left(self._spare, spare)]
        if len(self._waiting) >= self._ahead:
            insort(self._spare, self._waiting[self._ahead - 1].spare)
        self._last = choice.place
        row = self._rows[choice.place]
        there = int(row["cluster"])
        if there != self.cluster:
            self.points[self.cluster] = self._parked[self.cluster]
        self.cluster, self.points[there] = there, int(row["point"])

    def finished(self, choice: Choice, took_us: float) -> None:
        """The inference alone took so long, without setting the clock."""
        there = int(self._rows[choice.place]["cluster"])
        self.slow[there] += self._follow * (took_us / choice.predicted_us - self.slow[there])

    def rested(self) -> None:
        """Nothing waits: the cluster goes to the clock that idles best."""
        self._last = -1
        self.points[self.cluster] = self._parked[self.cluster]
