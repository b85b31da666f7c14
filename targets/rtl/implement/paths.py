"""The critical paths of a nextpnr report: from register to register, cell by cell.

Names of cells and nets are nextpnr's, which are Yosys': a net is called after the wire that the
Verilog has there, or after the nearest one with what lies between.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flow.report.vendor.reading import Damaged, read_json


@dataclass(frozen=True)
class Step:
    """A piece of a path: the delay (ns) of a register, of logic or of routing, the cell and port
    where it ends, and for routing the net. `kind` is nextpnr's word."""

    kind: str
    delay_ns: float
    cell: str
    port: str
    net: str | None = None


@dataclass(frozen=True)
class CriticalPath:
    """The slowest path between two clock edges, `<async>` for what comes from or goes to pins."""

    start: str
    end: str
    steps: tuple[Step, ...]

    @property
    def delay_ns(self) -> float:
        return sum(step.delay_ns for step in self.steps)

    @property
    def registered(self) -> bool:
        """Whether it starts and ends at registers; others do not count for the clock."""
        return "<async>" not in (self.start, self.end)

    @property
    def nets(self) -> tuple[str, ...]:
        """The nets along the path, in order."""
        return tuple(step.net for step in self.steps if step.net is not None)

    @property
    def logic_ns(self) -> float:
        """What is not routing."""
        return sum(step.delay_ns for step in self.steps if step.kind != "routing")


_LARGEST_NS = 1e6


def read_paths(text: str, where: str) -> tuple[CriticalPath, ...]:
    """Raises Damaged where the report is not as nextpnr writes it."""
    body = read_json(text, where)
    try:
        return tuple(_path(row, where) for row in body["critical_paths"])
    except (KeyError, TypeError, AttributeError) as error:
        raise Damaged(f"{where}: is not as nextpnr writes it: {error!r}") from error


def _path(row: dict[str, Any], where: str) -> CriticalPath:
    steps = tuple(_step(step, where) for step in row["path"])
    return CriticalPath(_text(row["from"], where), _text(row["to"], where), steps)


def _step(row: dict[str, Any], where: str) -> Step:
    kind, to, delay = _text(row["type"], where), row["to"], row["delay"]
    if isinstance(delay, bool) or not isinstance(delay, int | float) or abs(delay) > _LARGEST_NS:
        raise Damaged(f"{where}: a delay must be a number of ns, not {delay!r}")
    return Step(
        kind,
        float(delay),  # below 0 where a register takes its data after the clock's edge
        _text(to["cell"], where),
        _text(to["port"], where),
        _text(row["net"], where) if kind == "routing" else None,
    )


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise Damaged(f"{where}: must hold a name, not {value!r}")
    return value
