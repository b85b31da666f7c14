"""Platforms as TOML files: read strictly, every number with its source.

A number that nobody knows stands there as `{ must_be_set = "why" }`: whoever loads the platform
gives it, by its path, and the platform says so (`Platform.assumed`). There are no defaults.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any

from flow.errors import UsageError
from flow.options import unknown_name
from flow.schedule.platform import (
    USER,
    Cluster,
    Design,
    IdleState,
    Kind,
    Load,
    Method,
    OperatingPoint,
    Platform,
    Provenance,
    hull,
    ways,
)

MAX_BYTES = 1 << 20
MAX_CLUSTERS, MAX_POINTS, MAX_STATES, MAX_DESIGNS = 16, 256, 8, 256
MAX_MW, MAX_US, MAX_MHZ, MAX_MV = 1e9, 1e9, 1e6, 1e5
_OWN = (Method.MODEL, Method.ASSUMED)  # what may have no commit


def platform_names() -> tuple[str, ...]:
    """The platforms that ship."""
    folder = resources.files("flow.schedule") / "platforms"
    return tuple(sorted(f.name.removesuffix(".toml") for f in folder.iterdir()))


def load_platform(name: str, values: Mapping[str, float] | None = None) -> Platform:
    """The platform of that name, or in the file at that path (ending in .toml); `values` by path
    take the place of the file's.

    Raises:
        UsageError: no such platform; a file that is damaged, each error with file and field; a
            number that must be set and is not; a value that is of no number.
    """
    where, text = _text(name)
    return read_platform(where, text, values or {})


def unset_fields(name: str) -> dict[str, str]:
    """The paths of the numbers that must be set, with the reasons. Raises UsageError."""
    where, text = _text(name)
    reader = _Reader(where, {}, lenient=True)
    reader.platform(_parsed(where, text))
    return reader.unset


def read_platform(where: str, text: str, values: Mapping[str, float]) -> Platform:
    """The platform that a TOML text describes; `where` names it in errors."""
    reader = _Reader(where, values)
    platform = reader.platform(_parsed(where, text))
    if reader.unset:
        lines = "\n".join(f"  {path} must be set: {why}" for path, why in reader.unset.items())
        raise UsageError(f"{where}: {len(reader.unset)} numbers are not known\n{lines}")
    if unused := [path for path in values if path not in platform.provenance]:
        raise unknown_name(f"field of {where}", unused[0], platform.provenance)
    return platform


def _text(name: str) -> tuple[str, str]:
    if name.endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise UsageError(f"no platform file {path}")
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(f"{path} must be at most {MAX_BYTES:,} bytes")
        try:
            return name, path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"cannot read {path}: {error}") from None
    if name not in platform_names():
        raise unknown_name("platform", name, platform_names())
    file = resources.files("flow.schedule") / "platforms" / f"{name}.toml"
    return f"{name}.toml", file.read_text(encoding="utf-8")


def _parsed(where: str, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{where}: {error}") from None


class _Reader:
    """Reads one file; `unset` gathers what must be set, by path. `lenient` takes 1 for those."""

    def __init__(self, where: str, values: Mapping[str, float], lenient: bool = False):
        self.where, self.values, self.lenient = where, values, lenient
        self.unset: dict[str, str] = {}
        self.sources: dict[str, Provenance] = {}
        self.told: dict[str, Provenance] = {}
        self.warnings: list[str] = []

    def fail(self, path: str, what: str) -> UsageError:
        return UsageError(f"{self.where}: {path}{': ' if path else ''}{what}")

    def platform(self, body: dict[str, Any]) -> Platform:
        needed = ("name", "title", "rail", "p_awake_mw", "p_deep_mw", "sources", "clusters")
        self.keys("", body, needed, ("migration_us", "designs"))
        for key in ("name", "title", "rail"):
            self.text(key, body[key])
        sources = self.table("sources", body["sources"])
        self.sources = {key: self.source(f"sources.{key}", row) for key, row in sources.items()}
        clusters = tuple(
            self.cluster(row) for row in self.rows("clusters", body["clusters"], MAX_CLUSTERS)
        )
        names = [cluster.name for cluster in clusters]
        if not names or len(set(names)) < len(names):
            raise self.fail("clusters", "there must be some, each of a name of its own")
        if ("migration_us" in body) != (len(clusters) > 1):
            raise self.fail("migration_us", "must be given for several clusters, not for one")
        designs = self.rows("designs", body.get("designs", []), MAX_DESIGNS)
        platform = Platform(
            body["name"],
            body["title"],
            body["rail"],
            self.figure("p_awake_mw", body["p_awake_mw"], MAX_MW),
            self.figure("p_deep_mw", body["p_deep_mw"], MAX_MW),
            round(self.figure("migration_us", body["migration_us"], MAX_US))
            if len(clusters) > 1
            else 0,
            clusters,
            tuple(self.design(place, row, names) for place, row in enumerate(designs)),
            self.told,
            tuple(self.warnings),
        )
        self.check_hull(platform)
        return platform

    def check_hull(self, platform: Platform) -> None:
        loads = {load for c in platform.clusters for point in c.points for load in point.speed}
        for load in sorted(loads, key=lambda load: load.value):
            if not hull(ways(platform, load)):
                raise self.fail(f"load {load.value}", "the hull of speeds and powers is empty")
        for cluster in platform.clusters:
            if not loads and cluster.kind is Kind.DVFS_CPU:
                raise self.fail(cluster.name, "the hull is empty: no point has a speed")

    def source(self, path: str, row: Any) -> Provenance:
        row = self.table(path, row)
        fields = ("repository", "commit", "path", "method", "licence", "quantity")
        self.keys(path, row, fields, ())
        try:
            method = Method(row["method"])
        except ValueError:
            valid = ", ".join(method.value for method in Method)
            raise self.fail(f"{path}.method", f"must be one of {valid}") from None
        for key in fields:
            if not isinstance(row[key], str):
                raise self.fail(f"{path}.{key}", f"must be a text, not {row[key]!r}")
            if not row[key] and (key not in ("commit", "path") or method not in _OWN):
                raise self.fail(f"{path}.{key}", "must say where the numbers are from")
        return Provenance(**{**row, "method": method})

    def cluster(self, row: dict[str, Any]) -> Cluster:
        name = self.text("clusters.name", row.get("name"))
        needed = ("name", "kind", "cores", "points", "idle_states")
        self.keys(name, row, needed, ("transition_us", "source", "coefficient", "device"))
        try:
            kind = Kind(row["kind"])
        except ValueError:
            valid = ", ".join(kind.value for kind in Kind)
            raise self.fail(f"{name}.kind", f"must be one of {valid}") from None
        if type(row["cores"]) is not int or not 1 <= row["cores"] <= 1024:
            raise self.fail(f"{name}.cores", f"must be from 1 to 1024, not {row['cores']!r}")
        listed = self.rows(f"{name}.points", row["points"], MAX_POINTS)
        if not listed:
            raise self.fail(f"{name}.points", "there must be one at the least")
        points = tuple(
            self.point(f"{name}.points[{place}]", each, kind, row.get("source"), len(listed) == 1)
            for place, each in enumerate(listed)
        )
        self.check_order(name, points)
        if ("transition_us" in row) != (len(points) > 1):
            path = f"{name}.transition_us"
            raise self.fail(path, "must be given for several points, not for one")
        transition = 0.0
        if len(points) > 1:
            transition = self.figure(f"{name}.transition_us", row["transition_us"], MAX_US)
        states = self.rows(f"{name}.idle_states", row["idle_states"], MAX_STATES)
        ladder = tuple(self.state(name, state) for state in states)
        self.check_ladder(name, ladder)
        told, origin = row.get("coefficient"), None
        if told is not None:
            told = self.figure(f"{name}.coefficient", told, MAX_MW)
            origin = self.told[f"{name}.coefficient"]
        count = row["cores"]
        device = self.text(f"{name}.device", row["device"]) if "device" in row else ""
        return Cluster(name, kind, count, round(transition), points, ladder, told, origin, device)

    def point(
        self, path: str, row: dict[str, Any], kind: Kind, source: Any, alone: bool
    ) -> OperatingPoint:
        dvfs = kind is Kind.DVFS_CPU
        known = ("idle_mw", "busy_mw", "speed")
        more = ("mv", "source") if dvfs else ("mhz", "mv", "source")
        self.keys(path, row, (*known, "mhz") if dvfs else known, more)
        origin = self.named(path, row.get("source", source))
        loads = {key: self.loads(f"{path}.{key}", row[key]) for key in ("busy_mw", "speed")}
        if set(loads["busy_mw"]) != set(loads["speed"]):
            raise self.fail(path, "busy_mw and speed must be of the same loads")
        if any(speed == 0 for speed in loads["speed"].values()):
            raise self.fail(f"{path}.speed", "must be above 0")
        idle = row["idle_mw"]
        if isinstance(idle, dict):  # one that stands alone may be told, or set, as a figure
            if not alone:
                raise self.fail(f"{path}.idle_mw", "must be a number")
            milliwatts = self.figure(f"{path.split('.')[0]}.idle_mw", idle, MAX_MW)
        else:
            milliwatts = self.number(f"{path}.idle_mw", idle, MAX_MW)
        return OperatingPoint(
            self.number(f"{path}.mhz", row["mhz"], MAX_MHZ) if "mhz" in row else None,
            self.number(f"{path}.mv", row["mv"], MAX_MV) if "mv" in row else None,
            milliwatts,
            loads["busy_mw"],
            loads["speed"],
            origin,
        )

    def loads(self, path: str, row: Any) -> dict[Load, float]:
        row = self.table(path, row)
        valid = {load.value: load for load in Load}
        for key in row:
            if key not in valid:
                raise self.fail(path, f"unknown load {key!r}; valid: {', '.join(valid)}")
        return {valid[key]: self.number(f"{path}.{key}", row[key], MAX_MW) for key in row}

    def check_order(self, name: str, points: tuple[OperatingPoint, ...]) -> None:
        """Frequencies must rise and loads be the same; what else does not rise is only odd."""
        for low, high in pairwise(points):
            if low.mhz is not None and high.mhz is not None and low.mhz >= high.mhz:
                raise self.fail(f"{name}.points", f"MHz must rise, not {low.mhz:g}, {high.mhz:g}")
            if set(low.speed) != set(high.speed):
                raise self.fail(f"{name}.points", "all points must have the same loads")
            for load in low.speed:
                pairs = (("busy_mw", low.busy_mw, high.busy_mw), ("speed", low.speed, high.speed))
                for key, before, after in pairs:
                    if after[load] < before[load]:
                        self.warnings.append(
                            f"{name}: {key} of load {load.value} falls from {before[load]:g} at "
                            f"{low.mhz:g} MHz to {after[load]:g} at {high.mhz:g} MHz"
                        )

    def state(self, name: str, row: dict[str, Any]) -> IdleState:
        path = f"{name}.{self.text(f'{name}.idle_states.name', row.get('name'))}"
        times = ("entry_us", "exit_us", "residency_us")
        self.keys(path, row, ("name", "power_mw", *times, "source"), ())
        power = row["power_mw"]
        if power == "held":
            milliwatts = None
        else:
            milliwatts = self.figure(f"{path}.power_mw", power, MAX_MW, row["source"])
        entry, leave, residency = (
            round(self.figure(f"{path}.{key}", row[key], MAX_US, row["source"])) for key in times
        )
        source = self.named(path, row["source"])
        return IdleState(row["name"], milliwatts, entry, leave, residency, source)

    def check_ladder(self, name: str, ladder: tuple[IdleState, ...]) -> None:
        if not ladder or ladder[0].residency_us != 0:
            if not self.unset:
                raise self.fail(f"{name}.idle_states", "the first must have residency_us = 0")
            return
        for before, after in pairwise(ladder):
            if after.residency_us < before.residency_us + before.entry_us and not self.unset:
                raise self.fail(
                    f"{name}.{after.name}.residency_us",
                    f"must not be before {before.name} is entered, "
                    f"{before.residency_us + before.entry_us} us",
                )

    def design(self, place: int, row: dict[str, Any], names: list[str]) -> Design:
        path = f"designs[{place}]"
        needed = ("name", "task", "cluster", "energy_mj", "per_second", "source")
        self.keys(path, row, needed, ("accuracy", "metric"))
        for key in ("name", "task", "cluster"):
            self.text(f"{path}.{key}", row[key])
        if row["cluster"] not in names:
            raise self.fail(f"{path}.cluster", f"must be one of {', '.join(names)}")
        if ("accuracy" in row) != ("metric" in row):
            raise self.fail(path, "accuracy and metric must be given together")
        rate = self.number(f"{path}.per_second", row["per_second"], MAX_MW)
        if rate == 0:
            raise self.fail(f"{path}.per_second", "must be above 0")
        return Design(
            row["name"],
            row["task"],
            row["cluster"],
            self.number(f"{path}.energy_mj", row["energy_mj"], MAX_MW),
            rate,
            self.number(f"{path}.accuracy", row["accuracy"], 100) if "accuracy" in row else None,
            self.text(f"{path}.metric", row.get("metric", "none")),
            self.named(path, row["source"]),
        )

    def figure(self, path: str, row: Any, most: float, source: Any = None) -> float:
        """A single number: `{ value, source }`, `{ must_be_set }`, or a plain one of `source`."""
        if path in self.values:
            self.told[path] = USER
            return self.number(path, self.values[path], most)
        if isinstance(row, dict) and set(row) == {"must_be_set"}:
            self.unset[path] = self.text(f"{path}.must_be_set", row["must_be_set"])
            self.told[path] = USER
            return 0.0
        if isinstance(row, dict):
            self.keys(path, row, ("value", "source"), ())
            row, source = row["value"], row["source"]
        self.told[path] = self.named(path, source)
        return self.number(path, row, most)

    def number(self, path: str, value: Any, most: float) -> float:
        """From 0 to `most`."""
        if type(value) not in (int, float) or not (math.isfinite(value) and 0 <= value <= most):
            raise self.fail(path, f"must be a number from 0 to {most:g}, not {value!r}")
        return float(value)

    def named(self, path: str, source: Any) -> Provenance:
        if source is None:
            raise self.fail(path, "must have a source")
        if not isinstance(source, str) or source not in self.sources:
            valid = ", ".join(self.sources)
            raise self.fail(f"{path}.source", f"must be one of {valid}, not {source!r}")
        return self.sources[source]

    def text(self, path: str, value: Any) -> str:
        if not isinstance(value, str) or not 0 < len(value) <= 1000:
            raise self.fail(path, f"must be a text, not {value!r}")
        return value

    def table(self, path: str, row: Any) -> dict[str, Any]:
        if not isinstance(row, dict):
            raise self.fail(path, f"must be a table, not {row!r}")
        return row

    def rows(self, path: str, rows: Any, most: int) -> list[dict[str, Any]]:
        if not isinstance(rows, list) or len(rows) > most:
            raise self.fail(path, f"must be at most {most} tables")
        return [self.table(f"{path}[{place}]", row) for place, row in enumerate(rows)]

    def keys(
        self, path: str, row: Mapping[str, Any], needed: tuple[str, ...], more: tuple[str, ...]
    ) -> None:
        if missing := [key for key in needed if key not in row]:
            raise self.fail(path, f"{', '.join(missing)} must be given")
        if unknown := [key for key in row if key not in (*needed, *more)]:
            raise self.fail(path, f"unknown {', '.join(unknown)}")
