"""Which variant, processor and clock to run a request with, now: plain Python, nothing else needed.

    from policy import Policy
    policy = Policy.load("policy.json")
    choice = policy.decide(now_us, [("digits", deadline_us, 97.0), ...])  # all that has arrived
    policy.started(choice)               # set the clock, run choice.variant on choice.cluster
    policy.finished(choice, took_us)     # corrects predictions by how slow the core is now
    policy.rested()                      # when nothing waits: back to the clock that idles best

Times are microseconds of one clock of your own. The table holds what each action is predicted to
take and to draw; this class looks up, for each number of requests that wait, which of the actions
that are quick enough is the cheapest. A copy of this file lies in every folder of a schedule.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

Request = tuple[str, int, float]  # model, deadline in us, least accuracy in percent


class Choice(NamedTuple):
    """An action: the variant's name, the cluster, its clock (None: it has one alone), and what an
    inference is predicted to take if the core is as fast as the table says. `place` is its own."""

    variant: str
    cluster: str
    mhz: float | None
    predicted_us: int
    place: int


class _Action(NamedTuple):
    place: int
    order: int
    cluster: int
    point: int
    us: int
    mw: float
    padded: float  # us with the margin


_NONE: list[_Action] = []


class _Side:
    """The actions of one cluster, the quickest first, and for each number of requests that wait the
    cheapest of the first so many."""

    def __init__(self, actions: Sequence[_Action], weights: Sequence[float]):
        self.actions = sorted(actions, key=lambda action: (action.padded, action.order))
        self.padded = [action.padded for action in self.actions]
        self.best = [self._cheapest(weight) for weight in weights]
        self.at: dict[int, list[_Action]] = {}
        for action in actions:
            self.at.setdefault(action.point, []).append(action)

    def _cheapest(self, weight: float) -> list[_Action]:
        found: list[_Action] = []
        least = (float("inf"), 0)
        for action in self.actions:
            cost = (action.us * action.mw * 1e-6 + weight * action.padded, action.order)
            if cost < least:
                least = cost
                found.append(action)
            else:
                found.append(found[-1])
        return found


class _Plan:
    """What a request of one model and accuracy may be served with."""

    def __init__(self, actions: Sequence[_Action], clusters: int, weights: Sequence[float]):
        self.quickest = min(action.us for action in actions)
        parts = [[a for a in actions if a.cluster == cluster] for cluster in range(clusters)]
        self.sides = [(c, _Side(part, weights)) for c, part in enumerate(parts) if part]


class Policy:
    """Decides by one table; holds where the platform is, and how slow its cores are."""

    def __init__(self, table: dict[str, Any]):
        rule = table["rule"]
        self._priced = rule["mode"] == "price"
        self._looks, self._ahead = bool(rule["looks"]), int(rule["look_ahead"])
        self._margin, self._follow = 1 + rule["margin"], float(rule["follow"])
        self._price, self._miss = rule["price_w"] * 1e-3, float(rule["miss_mj"])
        self._clusters = table["clusters"]
        self._transition = [int(cluster["transition_us"]) for cluster in self._clusters]
        self._parked = [int(cluster["parked"]) for cluster in self._clusters]
        self._migration = int(table["migration_us"])
        self._variants, self._rows = table["variants"], table["actions"]
        waiting = range(1, self._ahead + 1) if self._priced else range(1)
        self._weights = [self._price * count for count in waiting]
        self._plans = {name: self._levels(own) for name, own in table["models"].items()}
        self.cluster, self.points = 0, list(self._parked)
        self.slow = [1.0] * len(self._clusters)

    @classmethod
    def load(cls, path: str | Path) -> Policy:
        """The policy whose table is in that JSON file."""
        return cls(json.loads(Path(path).read_text()))

    def _levels(self, places: Sequence[int]) -> tuple[list[float], list[_Plan]]:
        """Accuracies that variants have, rising, and what may serve who asks for as much."""
        actions, accuracy = [], []
        for order, place in enumerate(places):
            row = self._rows[place]
            us = int(row["predicted_us"])
            where = int(row["cluster"]), int(row["point"])
            actions.append(_Action(place, order, *where, us, row["mw"], us * self._margin))
            accuracy.append(float(row["accuracy"]))
        levels = sorted(set(accuracy))
        plans = [
            _Plan(
                [a for a, rated in zip(actions, accuracy, strict=True) if rated >= level],
                len(self._clusters),
                self._weights,
            )
            for level in levels
        ]
        return levels, plans

    def _plan(self, model: str, floor: float) -> _Plan:
        levels, plans = self._plans[model]
        level = bisect_left(levels, floor)
        if level == len(plans):
            raise ValueError(
                f"no variant of {model} has an accuracy of {floor}; the best {levels[-1]}"
            )
        return plans[level]

    def decide(self, now: int, queue: Sequence[Request]) -> Choice:
        """The action for the first of the requests that have arrived and are not done.

        Raises:
            KeyError, ValueError: a model, or an accuracy, that no variant has.
        """
        model, deadline, floor = queue[0]
        plan = self._plan(model, floor)
        slack = [deadline - now]
        if self._looks and len(queue) > 1:
            total = 0
            for other, until, least in queue[1 : self._ahead]:
                total += self._plan(other, least).quickest
                slack.append(until - now - total)
            slack.sort()
        found = self._cheapest(plan, slack)
        row = self._rows[found.place]
        cluster = self._clusters[found.cluster]
        return Choice(
            self._variants[row["variant"]],
            cluster["name"],
            cluster["mhz"][found.point],
            found.us,
            found.place,
        )

    def _cheapest(self, plan: _Plan, slack: list[int]) -> _Action:
        """The best action; `slack` is by request, the least first. Written for speed: it is asked
        before every inference."""
        count, least = len(slack), slack[0]
        priced, margin, miss = self._priced, self._margin, self._miss
        price = self._price * count
        best, best_cost, best_order = None, float("inf"), 0
        for cluster, side in plan.sides:
            moving = 0 if cluster == self.cluster else self._migration
            slow, held = self.slow[cluster], self.points[cluster]
            switch = moving + self._transition[cluster]
            cheapest = side.best[min(count, len(side.best)) - 1]
            tries = side.at.get(held, _NONE)
            for missed in range(count + 1 if priced else 1):
                if best_cost < missed * miss:
                    break  # nothing that misses as many can be cheaper
                if missed < count:
                    last = bisect_right(side.padded, (slack[missed] - switch) / slow)
                else:
                    last = len(cheapest)
                if last:
                    tries = [*tries, cheapest[last - 1]]
                for action in tries:
                    _, order, _, point, took, mw, _ = action
                    us = took * slow
                    cost = us * mw * 1e-6
                    us = us * margin + (moving if point == held else switch)
                    if priced:
                        cost += price * us
                        if us > least:
                            cost += miss * bisect_left(slack, us)
                    elif us > least:
                        continue
                    if cost < best_cost or (cost == best_cost and order < best_order):
                        best, best_cost, best_order = action, cost, order
                tries = _NONE
        return best or self._quickest(plan)

    def _quickest(self, plan: _Plan) -> _Action:
        """Where nothing is quick enough."""
        found, found_us = None, float("inf")
        for cluster, side in plan.sides:
            moving = 0 if cluster == self.cluster else self._migration
            held = self.points[cluster]
            for action in (*side.at.get(held, _NONE), side.actions[0]):
                us = action.us * self.slow[cluster] * self._margin + moving
                if action.point != held:
                    us += self._transition[cluster]
                if us < found_us or (us == found_us and found and action.order < found.order):
                    found, found_us = action, us
        assert found is not None  # a plan has an action
        return found

    def started(self, choice: Choice) -> None:
        """The platform goes where the choice wants it; a cluster that is left goes to rest."""
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
        self.points[self.cluster] = self._parked[self.cluster]
