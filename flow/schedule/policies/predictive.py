"""Policies that know, or predict, how long each action takes, and choose one for each request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from flow.schedule.platform import Platform
from flow.schedule.policies.base import Chooser, Mode, Rule
from flow.schedule.work import IntArray, Table


@dataclass(frozen=True)
class Tight(Chooser):
    """The least energy that meets the deadline, and leaves what is queued enough to be served as
    quickly as can be; where nothing does, the quickest. `margin` is added to predictions, `follow`
    is the weight of the newest measurement in the slow-down by which they are corrected.

    It spends slack that later requests will need.
    """

    name: ClassVar = "predictive"
    about: ClassVar = "the least energy that is predicted to meet the deadlines of what has arrived"
    margin: float = 0.1
    follow: float = 0.1

    def rule(self) -> Rule:
        return Rule(Mode.TIGHT, margin=self.margin, follow=self.follow)


@dataclass(frozen=True)
class Price(Chooser):
    """The least of energy, of the time that each waiting request loses at `price_w` watts, and of
    `miss_mj` for each predicted miss. The price is to be tuned on another trace (`tune_price`)."""

    name: ClassVar = "price"
    about: ClassVar = "the least energy with a price on time, for all that is queued"
    price_w: float = 2.0
    miss_mj: float = 1000.0
    margin: float = 0.1
    follow: float = 0.1

    def rule(self) -> Rule:
        return Rule(
            Mode.PRICE,
            margin=self.margin,
            price=self.price_w,
            miss=self.miss_mj,
            follow=self.follow,
        )


@dataclass(frozen=True)
class EventBased(Chooser):
    """As event-based scheduling: T = T_mem + N/f, solved on each cluster from its lowest and its
    highest frequency, and the least energy that meets the request's own deadline.

    Source: Y. Zhu, M. Halpern, V. J. Reddi, "Event-based scheduling for energy-efficient QoS in
    mobile web applications", HPCA 2015; after its abstract and slides.
    """

    name: ClassVar = "event_based"
    about: ClassVar = "the least energy for the request's own deadline, by a fit of two frequencies"

    def beliefs(self, table: Table, platform: Platform) -> IntArray:
        found = table.predicted_us.copy()
        for place, action in enumerate(table.actions):
            points = platform.clusters[action.cluster].points
            low, high, own = points[0].mhz, points[-1].mhz, points[action.point].mhz
            if low is None or high is None or own is None or low == high:
                continue
            first = place - action.point
            slow, quick = (int(table.predicted_us[first + k]) for k in (0, len(points) - 1))
            cycles = (slow - quick) / (1 / low - 1 / high)
            found[place] = max(1, round(quick + cycles * (1 / own - 1 / high)))
        return found

    def rule(self) -> Rule:
        return Rule(Mode.TIGHT, looks=False)


@dataclass(frozen=True)
class OptimalAvailable(Chooser):
    """The speed that the optimum for what has arrived would begin with, if nothing more came: the
    largest work over time of any of its prefixes. Of the actions that are as quick, the cheapest.

    Source: F. Yao, A. Demers, S. Shenker, "A scheduling model for reduced CPU energy", FOCS 1995.
    """

    name: ClassVar = "optimal_available"
    about: ClassVar = "the speed of the optimum for what has arrived"

    def rule(self) -> Rule:
        return Rule(Mode.AVAILABLE)


@dataclass(frozen=True)
class Gated(Chooser):
    """Sleeps until what has arrived can wait no longer, then serves it: for hardware whose idling
    costs what its working costs, and which can be switched off."""

    name: ClassVar = "gated"
    about: ClassVar = "sleep while anything can wait, then the least energy that meets deadlines"
    margin: float = 0.1

    def rule(self) -> Rule:
        return Rule(Mode.TIGHT, waits=True, margin=self.margin)


@dataclass(frozen=True, eq=False)
class Replay(Chooser):
    """Actions that are given, one for each request: of the oracle, or of a log."""

    actions: NDArray[np.int32]
    name: ClassVar = "replay"
    about: ClassVar = "actions that are given"

    def rule(self) -> Rule:
        return Rule(Mode.GIVEN)
