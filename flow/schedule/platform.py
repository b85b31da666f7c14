"""What requests can run on: clusters with their operating points, idle states, and what they draw.

Powers are in milliwatts, times in microseconds. A platform that is off except for its floor draws
`p_deep_mw`; everything else is counted above that. While one core runs, the platform draws above it

    p_awake_mw + (idle_mw of the point - floor_mw of the cluster) + busy_mw of the point and load.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from flow.errors import UsageError


class Method(Enum):
    """How a number came to be."""

    MEASURED = "measured"
    DT_CV2F = "dt_cv2f"  # a device tree's coefficient times volts squared times frequency
    NORMALISED = "normalised"  # consistent within its table, of a unit that nobody calibrated
    MODEL = "model"
    ASSUMED = "assumed"


class Load(Enum):
    """What a program is short of; speeds and powers at one frequency depend on it."""

    COMPUTE = "compute"
    COMPRESS = "compress"
    MIXED = "mixed"
    MEMORY = "memory"


class Kind(Enum):
    DVFS_CPU = "dvfs_cpu"
    FPGA = "fpga"
    MCU = "mcu"
    ANALOG_TILE = "analog_tile"


@dataclass(frozen=True)
class Provenance:
    """Where a number is from. `commit` and `path` may be empty only of what is a model of this
    project or assumed; `quantity` says what exactly the number is."""

    repository: str
    commit: str
    path: str
    method: Method
    licence: str
    quantity: str

    def __str__(self) -> str:
        place = f"{self.repository}@{self.commit[:8]}:{self.path}" if self.commit else ""
        return f"{self.method.value}: {self.quantity} ({place or self.repository}, {self.licence})"


USER = Provenance("the user", "", "", Method.ASSUMED, "-", "set by the user")


@dataclass(frozen=True)
class OperatingPoint:
    """A clock that a cluster can run at. `idle_mw` is what the cluster draws at it while nothing
    runs, `busy_mw` what one busy core adds; `speed` is of any unit, the same in all the platform.
    Of clusters whose variants bring their own times and energies, both mappings are empty."""

    mhz: float | None
    mv: float | None
    idle_mw: float
    busy_mw: Mapping[Load, float]
    speed: Mapping[Load, float]
    source: Provenance


@dataclass(frozen=True)
class IdleState:
    """Entered `residency_us` after the cluster fell idle. Entering takes `entry_us`, at the power
    of the state before it (of the first: awake), and is not broken off; leaving takes `exit_us`,
    awake. `power_mw` None: the idle_mw of the point that is held."""

    name: str
    power_mw: float | None
    entry_us: int
    exit_us: int
    residency_us: int
    source: Provenance


@dataclass(frozen=True)
class Cluster:
    """Cores that share a clock. Another point takes `transition_us`, in which nothing is computed.
    `points` are in order of MHz, `idle_states` from the shallowest. `coefficient` is the device
    tree's, in uW/MHz/V^2 for one core. `device` is what an FPGA's maker calls it, "" if unknown."""

    name: str
    kind: Kind
    cores: int
    transition_us: int
    points: tuple[OperatingPoint, ...]
    idle_states: tuple[IdleState, ...]
    coefficient: float | None = None
    coefficient_source: Provenance | None = None
    device: str = ""

    @property
    def floor_mw(self) -> float:
        """What it draws at the least: in the best of its idle states and points."""
        told = [state.power_mw for state in self.idle_states if state.power_mw is not None]
        return min([*told, *(point.idle_mw for point in self.points)])

    @property
    def parked(self) -> int:
        """The point that idles best; the first of equals."""
        idle = [point.idle_mw for point in self.points]
        return idle.index(min(idle))


@dataclass(frozen=True)
class Design:
    """A network that somebody measured on the board: millijoules, and inferences a second, one
    after another; `accuracy` in percent of what `metric` says, None where nobody told it."""

    name: str
    task: str
    cluster: str
    energy_mj: float
    per_second: float
    accuracy: float | None
    metric: str
    source: Provenance


@dataclass(frozen=True)
class Platform:
    """`rail` says what the powers are measured at: numbers of different rails are not compared.
    `migration_us` is what moving to another cluster takes. `provenance` is of the single numbers,
    by path (`p_awake_mw`, `big.transition_us`); `warnings` are what is odd about the tables."""

    name: str
    title: str
    rail: str
    p_awake_mw: float
    p_deep_mw: float
    migration_us: int
    clusters: tuple[Cluster, ...]
    designs: tuple[Design, ...]
    provenance: Mapping[str, Provenance]
    warnings: tuple[str, ...] = ()

    @property
    def assumed(self) -> tuple[str, ...]:
        """Paths of the single numbers that nobody measured; reports show them."""
        told = self.provenance.items()
        return tuple(path for path, source in told if source.method is Method.ASSUMED)

    @property
    def has_extras(self) -> bool:
        """Whether anything costs besides running: switches, wakes, or idling above the floor."""
        return any(
            (cluster.transition_us > 0 and len(cluster.points) > 1)
            or any(_is_extra(cluster, state) for state in cluster.idle_states)
            for cluster in self.clusters
        ) or (self.migration_us > 0 and len(self.clusters) > 1)

    def without_extras(self) -> Platform:
        """The same, but switching and waking cost nothing and idling draws the floor at once. No
        schedule costs more on it."""
        clusters = tuple(
            replace(
                cluster,
                transition_us=0,
                idle_states=(
                    replace(
                        cluster.idle_states[-1],
                        power_mw=cluster.floor_mw,
                        entry_us=0,
                        exit_us=0,
                        residency_us=0,
                    ),
                ),
            )
            for cluster in self.clusters
        )
        return replace(self, clusters=clusters, migration_us=0)

    def scaled(self, factor: float) -> Platform:
        """All powers times `factor`."""
        clusters = tuple(
            replace(
                cluster,
                points=tuple(
                    replace(
                        point,
                        idle_mw=point.idle_mw * factor,
                        busy_mw={load: mw * factor for load, mw in point.busy_mw.items()},
                    )
                    for point in cluster.points
                ),
                idle_states=tuple(
                    replace(
                        state, power_mw=None if state.power_mw is None else state.power_mw * factor
                    )
                    for state in cluster.idle_states
                ),
            )
            for cluster in self.clusters
        )
        return replace(
            self,
            p_awake_mw=self.p_awake_mw * factor,
            p_deep_mw=self.p_deep_mw * factor,
            clusters=clusters,
        )

    def by_formula(self) -> Platform:
        """The same with what a busy core draws from the device tree's formula, C * f * V^2,
        whatever its load: what a report without measurements would stand on.

        Raises:
            UsageError: a cluster without a coefficient, or a point without volts or MHz.
        """
        return replace(self, clusters=tuple(_by_formula(self, held) for held in self.clusters))

    def cluster(self, name: str) -> int:
        """The index of the cluster of that name. Raises UsageError where there is none."""
        names = [cluster.name for cluster in self.clusters]
        if name not in names:
            raise UsageError(
                f"platform {self.name}: cluster must be one of {', '.join(names)}, not {name!r}"
            )
        return names.index(name)

    def active_mw(self, cluster: int, point: int, load: Load) -> float:
        """What a running core makes the platform draw above its floor."""
        held = self.clusters[cluster]
        return self.awake_mw(cluster, point) + held.points[point].busy_mw[load]

    def awake_mw(self, cluster: int, point: int) -> float:
        """What the platform draws above its floor while it is awake and computes nothing."""
        held = self.clusters[cluster]
        return self.p_awake_mw + held.points[point].idle_mw - held.floor_mw

    def reference(self, load: Load) -> tuple[int, int]:
        """(cluster, point) of the highest speed."""
        speeds = {
            (c, p): point.speed[load]
            for c, cluster in enumerate(self.clusters)
            for p, point in enumerate(cluster.points)
            if load in point.speed
        }
        if not speeds:
            raise UsageError(f"platform {self.name}: no point has a speed for load {load.value}")
        return max(speeds, key=lambda place: speeds[place])


def _by_formula(platform: Platform, cluster: Cluster) -> Cluster:
    if cluster.coefficient is None or cluster.coefficient_source is None:
        raise UsageError(
            f"platform {platform.name}: {cluster.name} has no coefficient of a device tree"
        )
    points = []
    for point in cluster.points:
        if point.mhz is None or point.mv is None:
            raise UsageError(f"platform {platform.name}: a point of {cluster.name} has no volts")
        mw = cluster.coefficient * point.mhz * (point.mv / 1000) ** 2 / 1000
        busy = dict.fromkeys(point.busy_mw, mw)
        points.append(replace(point, busy_mw=busy, source=cluster.coefficient_source))
    return replace(cluster, points=tuple(points))


def _is_extra(cluster: Cluster, state: IdleState) -> bool:
    held = max(point.idle_mw for point in cluster.points)
    above = (held if state.power_mw is None else state.power_mw) > cluster.floor_mw
    return above or state.entry_us > 0 or state.exit_us > 0


@dataclass(frozen=True)
class Way:
    """A speed, and what running at it draws above the floor; `cluster` and `point` index."""

    cluster: int
    point: int
    speed: float
    mw: float


def ways(platform: Platform, load: Load) -> tuple[Way, ...]:
    """Every point that has a speed for the load."""
    return tuple(
        Way(c, p, point.speed[load], platform.active_mw(c, p, load))
        for c, cluster in enumerate(platform.clusters)
        for p, point in enumerate(cluster.points)
        if load in point.speed
    )


def undominated(found: Sequence[Way]) -> tuple[Way, ...]:
    """Those than which no other is as fast and draws as little, by speed. They are what is worth
    choosing from where a request runs at one point from its beginning to its end."""
    kept: list[Way] = []
    for way in sorted(found, key=lambda way: (-way.speed, way.mw)):
        if not kept or way.mw < kept[-1].mw:
            kept.append(way)
    return tuple(reversed(kept))


def hull(found: Sequence[Way]) -> tuple[Way, ...]:
    """The lower convex hull of (speed, power) with idling at (0, 0), idling left out: what is worth
    choosing from where time may be shared between points."""
    kept: list[Way] = []
    for way in undominated(found):
        while kept and not _convex(kept, way):
            kept.pop()
        kept.append(way)
    return tuple(kept)


def _convex(kept: Sequence[Way], way: Way) -> bool:
    """Whether the last one kept lies below the line from the one before it to `way`."""
    s, p = (kept[-2].speed, kept[-2].mw) if len(kept) > 1 else (0.0, 0.0)
    last = kept[-1]
    return (last.mw - p) * (way.speed - s) < (way.mw - p) * (last.speed - s)
