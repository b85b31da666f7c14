"""Policies that keep to one point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from flow.schedule.platform import Platform
from flow.schedule.policies.base import Pinned, by_size, home


@dataclass(frozen=True)
class Performance(Pinned):
    name: ClassVar = "performance"
    about: ClassVar = "the highest frequency, on the largest cluster unless one is named"
    cluster: str = ""

    def place(self, platform: Platform) -> tuple[int, int]:
        cluster = home(platform, self.cluster)
        return cluster, len(platform.clusters[cluster].points) - 1


@dataclass(frozen=True)
class Powersave(Pinned):
    name: ClassVar = "powersave"
    about: ClassVar = "the lowest frequency, on the largest cluster unless one is named"
    cluster: str = ""

    def place(self, platform: Platform) -> tuple[int, int]:
        return home(platform, self.cluster), 0


@dataclass(frozen=True)
class LittleMax(Pinned):
    """What a governor has to beat: nothing but the right cluster."""

    name: ClassVar = "little_max"
    about: ClassVar = "the highest frequency of the smallest cluster"

    def place(self, platform: Platform) -> tuple[int, int]:
        cluster = by_size(platform)[0]
        return cluster, len(platform.clusters[cluster].points) - 1
