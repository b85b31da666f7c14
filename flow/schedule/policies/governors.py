"""Linux's governors of frequency, as their documentation and source define them, for one task.

Sources: Linux, Documentation/admin-guide/pm/cpufreq.rst and kernel/sched/cpufreq_schedutil.c; for
`interactive`, the driver of Android's kernels. What they have no say in here: I/O-wait boosts,
several tasks at a time, and limits of rates below the period.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from flow.schedule.policies.base import Governing, Governor, Settings


@dataclass(frozen=True)
class Ondemand(Governor):
    """Above `up` of load to the highest frequency, else in proportion to the load."""

    name: ClassVar = "ondemand"
    about: ClassVar = "the highest frequency above 80 % load, else in proportion"
    period_us: int = 10_000
    up: float = 0.8

    def settings(self) -> Settings:
        return Settings(Governing.ONDEMAND, self.period_us, self.up)


@dataclass(frozen=True)
class Conservative(Governor):
    """Steps of 5 % of the highest frequency."""

    name: ClassVar = "conservative"
    about: ClassVar = "a step up above 80 % load, a step down below 20 %"
    period_us: int = 10_000
    up: float = 0.8
    down: float = 0.2
    step: float = 0.05

    def settings(self) -> Settings:
        return Settings(Governing.CONSERVATIVE, self.period_us, self.up, self.down, self.step)


@dataclass(frozen=True)
class Interactive(Governor):
    """To the highest frequency from a load of `down` (go_hispeed_load), else to what makes the load
    `up` (target_load); lower only after `least_us` (min_sample_time); after `slack_us` more than a
    period of idling to the lowest."""

    name: ClassVar = "interactive"
    about: ClassVar = "Android's: to the highest frequency at 99 % load, back after 80 ms"
    period_us: int = 20_000
    up: float = 0.9
    down: float = 0.99
    least_us: int = 80_000
    slack_us: int = 80_000

    def settings(self) -> Settings:
        return Settings(
            Governing.INTERACTIVE,
            self.period_us,
            self.up,
            self.down,
            least_us=self.least_us,
            slack_us=self.slack_us,
        )


@dataclass(frozen=True)
class Schedutil(Governor):
    """1.25 times what the tracked utilisation needs, looked at every tick and at every wake-up."""

    name: ClassVar = "schedutil"
    about: ClassVar = "a quarter more than tracked utilisation needs, on one cluster"
    period_us: int = 4_000

    def settings(self) -> Settings:
        return Settings(Governing.SCHEDUTIL, self.period_us)


@dataclass(frozen=True)
class EnergyAware(Governor):
    """Schedutil, and at each wake-up the cluster that serves the task at the least energy; a task
    that outgrows its cluster moves to the largest."""

    name: ClassVar = "eas"
    about: ClassVar = "energy-aware placement on wake-up, with schedutil"
    period_us: int = 4_000

    def settings(self) -> Settings:
        return Settings(Governing.ENERGY_AWARE, self.period_us)
