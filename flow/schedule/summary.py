"""What a policy made of a trace, as the row of a table: energy never without misses beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from flow.schedule.outcome import Outcome, Part
from flow.schedule.platform import Platform
from flow.schedule.work import Table

QUANTILES = (50, 95, 99, 100)


@dataclass(frozen=True)
class Residency:
    """How long one operating point ran something, in percent of all running."""

    cluster: str
    mhz: float | None
    percent: float


@dataclass(frozen=True)
class Row:
    """One policy. Energies are in mJ for one request: above the floor (`energy_mj`), with it, and
    by part; `cost_mj` is J for one request, energy above the floor and `miss_mj` for a miss. Misses
    are in percent of requests, latencies in ms, powers in W, accuracy in percent."""

    policy: str
    requests: int
    energy_mj: float
    with_floor_mj: float
    parts_mj: dict[str, float]
    mean_w: float
    misses: int
    miss_percent: float
    tardiness_p99_ms: float
    latency_ms: dict[str, float]
    accuracy: float
    switches_per_s: float
    migrations: int
    wakes: int
    residency: tuple[Residency, ...]
    variants: dict[str, float]
    cost_mj: float
    delay_product: float

    def to_json(self) -> dict[str, Any]:
        """Numbers in the units of `UNITS`."""
        return {
            "policy": self.policy,
            "requests": self.requests,
            "energy": self.energy_mj,
            "misses": self.misses,
            "cost": self.cost_mj,
            "energy_with_floor": self.with_floor_mj,
            "parts": self.parts_mj,
            "mean_power": self.mean_w,
            "miss_percent": self.miss_percent,
            "tardiness_p99": self.tardiness_p99_ms,
            "latency": self.latency_ms,
            "accuracy": self.accuracy,
            "switches_per_s": self.switches_per_s,
            "migrations": self.migrations,
            "wakes": self.wakes,
            "residency": [
                {"cluster": each.cluster, "mhz": each.mhz, "percent": each.percent}
                for each in self.residency
            ],
            "variants": self.variants,
            "energy_delay": self.delay_product,
        }


UNITS = {
    "energy": "mJ for a request, above the floor",
    "energy_with_floor": "mJ for a request",
    "parts": "mJ for a request, above the floor",
    "cost": "mJ for a request: energy above the floor and the price of a miss",
    "misses": "requests",
    "mean_power": "W, with the floor",
    "latency": "ms",
    "tardiness_p99": "ms",
    "accuracy": "percent",
    "variants": "percent of requests",
    "residency": "percent of the time that something ran",
    "energy_delay": "mJ * ms",
    "lower_bound": "as cost",
    "upper_bound": "as cost",
}


def summarise(outcome: Outcome, table: Table, platform: Platform, miss_mj: float) -> Row:
    """The row of one outcome; `miss_mj` is the price of a miss."""
    count = len(outcome.finish_us)
    seconds = max(outcome.horizon_us * 1e-6, 1e-12)
    latency = outcome.latency_us * 1e-3
    late = np.maximum(outcome.finish_us - outcome.deadline_us, 0) * 1e-3
    told = np.percentile(latency, QUANTILES).tolist()
    energy, whole = outcome.energy_mj / count, outcome.energy_mj + outcome.floor_mj
    return Row(
        outcome.policy,
        count,
        energy,
        whole / count,
        {part.name.lower(): float(outcome.part_mj[part.value]) / count for part in Part},
        whole / seconds * 1e-3,
        outcome.misses,
        100 * outcome.misses / count,
        float(np.percentile(late, 99)),
        dict(zip(("p50", "p95", "p99", "max"), told, strict=True)),
        float(outcome.accuracy(table).mean()),
        outcome.switches / seconds,
        outcome.migrations,
        outcome.wakes,
        _residency(outcome, platform),
        _variants(outcome, table),
        outcome.cost_mj(miss_mj) / count,
        energy * float(latency.mean()),
    )


def _residency(outcome: Outcome, platform: Platform) -> tuple[Residency, ...]:
    total = max(int(outcome.busy_us.sum()), 1)
    return tuple(
        Residency(cluster.name, point.mhz, 100 * int(outcome.busy_us[c, p]) / total)
        for c, cluster in enumerate(platform.clusters)
        for p, point in enumerate(cluster.points)
        if outcome.busy_us[c, p]
    )


def _variants(outcome: Outcome, table: Table) -> dict[str, float]:
    """Percent of requests that each variant got, by model and name."""
    of_action = np.array([action.variant for action in table.actions])
    counts = np.bincount(of_action[outcome.action], minlength=len(table.variants))
    return {
        f"{variant.model}: {variant.name}": 100 * int(n) / len(outcome.action)
        for variant, n in zip(table.variants, counts, strict=True)
        if n
    }
