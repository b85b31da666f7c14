"""All that the command schedule found out, as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flow.metric import Kind, Metric
from flow.schedule.platform import Method, Platform
from flow.schedule.summary import UNITS, Row
from flow.schedule.variants import Known

SCHEMA = 1
VARIED = 0.3  # by what share the powers of a table are varied


@dataclass(frozen=True)
class Bound:
    """Of J for one request, in mJ: no schedule costs less than `lower_mj`, and one that costs
    `upper_mj` is known. `exact` is False where the lower one leaves out what `why` tells: then it
    is a relaxed bound, and the optimum may be far above."""

    lower_mj: float
    upper_mj: float
    exact: bool
    why: str
    grid_us: int

    @property
    def gap(self) -> float:
        """The upper bound over the lower one, less 1."""
        return self.upper_mj / self.lower_mj - 1 if self.lower_mj > 0 else float("inf")


@dataclass(frozen=True)
class Front:
    """A schedule that is near the best for some price of a miss: energy in mJ for a request above
    the floor, and percent missed."""

    miss_mj: float
    energy_mj: float
    miss_percent: float


@dataclass(frozen=True)
class Swept:
    """J of every policy, in mJ for a request, and percent missed, at one value of what is varied:
    of the load the arrivals for one of the trace, of a table what is told of it."""

    value: float
    label: str
    cost_mj: Mapping[str, float]
    miss_percent: Mapping[str, float]

    @property
    def best(self) -> str:
        return min(self.cost_mj, key=lambda name: self.cost_mj[name])

    def to_json(self) -> dict[str, Any]:
        return {
            "value": self.value,
            "label": self.label,
            "cost": dict(self.cost_mj),
            "miss_percent": dict(self.miss_percent),
            "best": self.best,
        }


@dataclass(frozen=True)
class Driven:
    """The exported policy with real interpreters on this host, beside what the engine foretold."""

    metrics: tuple[Metric, ...]
    variants: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Result:
    """`command` are make's variables that make it again, `trace` what is told of it, `miss_mj` the
    price of a miss; `exported` names the policy whose table lies in the folder."""

    command: Mapping[str, str]
    platform: Platform
    trace: Mapping[str, Any]
    known: Sequence[Known]
    miss_mj: float
    rows: Sequence[Row]
    bound: Bound | None
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    exported: str
    warnings: Sequence[str]
    front: Sequence[Front] = ()
    loads: Sequence[Swept] = ()
    awake: Sequence[Swept] = ()
    tables: Sequence[Swept] = ()
    driven: Driven | None = None
    folder: Path | None = None

    @property
    def kind(self) -> Kind:
        """What energies are: assumed where the platform's numbers, or what an inference takes, are;
        else estimated. They are simulated, never measured."""
        assumed = bool(self.platform.assumed) or any(
            point.source.method is Method.ASSUMED
            for cluster in self.platform.clusters
            for point in cluster.points
        )
        told = (m for each in self.known for m in (each.latency, each.energy) if m is not None)
        return (
            Kind.ASSUMED
            if assumed or any(metric.kind is Kind.ASSUMED for metric in told)
            else Kind.ESTIMATED
        )

    @property
    def sources(self) -> dict[str, str]:
        """What each number of the platform stands on, by its path."""
        found = {path: str(source) for path, source in self.platform.provenance.items()}
        for cluster in self.platform.clusters:
            told = dict.fromkeys(str(point.source) for point in cluster.points)
            found[f"{cluster.name}.points"] = "; ".join(told)
        return found

    def row(self, policy: str) -> Row:
        return next(row for row in self.rows if row.policy == policy)

    def gap(self, row: Row) -> tuple[float, float] | None:
        """By what share J is above the upper and above the lower bound."""
        if self.bound is None or self.bound.lower_mj <= 0:
            return None
        return row.cost_mj / self.bound.upper_mj - 1, row.cost_mj / self.bound.lower_mj - 1

    def to_json(self) -> dict[str, Any]:
        bound = self.bound
        return {
            "schema": SCHEMA,
            "command": "schedule",
            "artifact": None if self.folder is None else str(self.folder),
            "make": dict(self.command),
            "platform": {
                "name": self.platform.name,
                "title": self.platform.title,
                "rail": self.platform.rail,
                "assumed": list(self.platform.assumed),
                "sources": self.sources,
            },
            "trace": dict(self.trace),
            "models": [each.to_json() for each in self.known],
            "miss_mj": self.miss_mj,
            "kind": self.kind.value,
            "units": UNITS,
            "policies": [self._policy(row) for row in self.rows],
            "lower_bound": bound and bound.lower_mj,
            "upper_bound": bound and bound.upper_mj,
            "bound_exact": bound and bound.exact,
            "bound_relaxed_by": bound and bound.why,
            "bound_grid_us": bound and bound.grid_us,
            "front": [
                {"miss_mj": f.miss_mj, "energy": f.energy_mj, "miss_percent": f.miss_percent}
                for f in self.front
            ],
            "load_sweep": [each.to_json() for each in self.loads],
            "awake_sweep": [each.to_json() for each in self.awake],
            "table_sweep": [each.to_json() for each in self.tables],
            "settings": dict(self.settings),
            "versions": dict(self.versions),
            "exported": self.exported,
            "driven": self.driven
            and {
                "metrics": [metric.to_json() for metric in self.driven.metrics],
                "variants": dict(self.driven.variants),
            },
            "warnings": list(self.warnings),
        }

    def _policy(self, row: Row) -> dict[str, Any]:
        gap = self.gap(row)
        told = None if gap is None else {"above_upper": gap[0], "above_lower": gap[1]}
        return {**row.to_json(), "gap": told}
