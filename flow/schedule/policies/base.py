"""What a policy is: a frozen dataclass whose fields are its options."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from enum import Enum
from typing import ClassVar, NamedTuple

from flow.errors import UsageError
from flow.schedule.platform import Platform
from flow.schedule.work import IntArray, Table


@dataclass(frozen=True)
class Policy:
    """`name` is what users write, `about` one line of what it does."""

    name: ClassVar[str]
    about: ClassVar[str]

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if type(value) in (int, float) and not (math.isfinite(value) and value >= 0):
                raise UsageError(
                    f"policy {self.name}: {field.name} must be a number from 0, not {value}"
                )


class Mode(Enum):
    """How a chooser picks; the values are those of `kernels`."""

    GIVEN = 0
    TIGHT = 1
    PRICE = 2
    AVAILABLE = 3


class Governing(Enum):
    """How a governor sets frequencies; the values are those of `kernels`."""

    ONDEMAND = 0
    CONSERVATIVE = 1
    INTERACTIVE = 2
    SCHEDUTIL = 3
    ENERGY_AWARE = 4


@dataclass(frozen=True)
class Pinned(Policy):
    """Everything runs at one point, which is held while idle too."""

    def place(self, platform: Platform) -> tuple[int, int]:
        """(cluster, point)."""
        raise NotImplementedError


class Settings(NamedTuple):
    """Of a governor: times in us, thresholds shares of the period, `step` a share of the highest
    frequency. What is not of its kind stays 0."""

    mode: Governing
    period_us: int
    up: float = 0.0
    down: float = 0.0
    step: float = 0.0
    least_us: int = 0
    slack_us: int = 0


@dataclass(frozen=True)
class Governor(Policy):
    """Frequencies by load on one cluster, the largest if none is named; held while idle."""

    cluster: str = ""

    def settings(self) -> Settings:
        raise NotImplementedError

    def __post_init__(self) -> None:
        super().__post_init__()
        period = self.settings().period_us
        if not 100 <= period <= 10_000_000:
            raise UsageError(
                f"policy {self.name}: period_us must be from 100 to 10,000,000, not {period}"
            )


class Rule(NamedTuple):
    """How a chooser decides. `looks`: at what is queued; `waits`: sleeps while anything can wait;
    `margin` on predictions; `price` in watts and `miss` in millijoules; `follow`: the weight of the
    newest measurement in the slow-down that corrects predictions."""

    mode: Mode
    looks: bool = True
    waits: bool = False
    margin: float = 0.0
    price: float = 0.0
    miss: float = 0.0
    follow: float = 0.0


@dataclass(frozen=True)
class Chooser(Policy):
    """An action for each request when it begins, kept to its end. While nothing waits, the cluster
    goes to the point that idles best."""

    def rule(self) -> Rule:
        raise NotImplementedError

    def beliefs(self, table: Table, platform: Platform) -> IntArray:
        """By action, how long it takes as this policy sees it, in us."""
        return table.predicted_us


def home(platform: Platform, name: str) -> int:
    """The index of the cluster of that name, of the largest for ""."""
    return platform.cluster(name) if name else by_size(platform)[-1]


def by_size(platform: Platform) -> list[int]:
    """Clusters, those with the lowest top speed first; where none has speeds, as they stand."""

    def top(place: int) -> float:
        cluster = platform.clusters[place]
        return max(max(point.speed.values(), default=0.0) for point in cluster.points)

    return sorted(range(len(platform.clusters)), key=top)
