"""What each part of a design takes of the device, and how long the critical paths spend in it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flow.report.vendor.reading import json_number, read_json, read_text
from flow.report.vendor.synthesis import Resource
from targets.rtl.implement.origins import Parts
from targets.rtl.implement.paths import CriticalPath

ACCOUNTS = "parts.json"


@dataclass(frozen=True)
class Used:
    """Cells of one part, or, with several or none, of what cannot be told apart."""

    parts: tuple[str, ...]
    resources: Mapping[Resource, int]


@dataclass(frozen=True)
class Spent:
    """Delay of a path (ns) in the cells of one part, and in the nets that leave them; with several
    parts or none, in what cannot be told apart."""

    parts: tuple[str, ...]
    logic_ns: float
    routing_ns: float

    @property
    def delay_ns(self) -> float:
        return self.logic_ns + self.routing_ns

    def __str__(self) -> str:
        return (
            f"{self.delay_ns:.1f} in {named(self.parts)} "
            f"({self.logic_ns:.1f} logic, {self.routing_ns:.1f} routing)"
        )


@dataclass(frozen=True)
class Account:
    """The critical path of one clock."""

    clock: str
    spent: tuple[Spent, ...]

    @property
    def delay_ns(self) -> float:
        return sum(each.delay_ns for each in self.spent)


@dataclass(frozen=True)
class Accounts:
    """`paths` has the critical path of every clock, by the seed of the routing."""

    used: tuple[Used, ...]
    paths: Mapping[int, tuple[Account, ...]]

    def of_part(self, part: str) -> Mapping[Resource, int]:
        return next((each.resources for each in self.used if each.parts == (part,)), {})

    @property
    def shared(self) -> dict[Resource, int]:
        """Of no one part."""
        found: dict[Resource, int] = {}
        for each in self.used:
            if len(each.parts) != 1:
                for kind, count in each.resources.items():
                    found[kind] = found.get(kind, 0) + count
        return found


def named(parts: Sequence[str]) -> str:
    """`fc1`, `fc1 or fc2`."""
    return " or ".join(parts) or "no known part"


def account(path: CriticalPath, parts: Parts) -> Account:
    """A path's delay by parts: a net's with the cell that drives it. A cell of nextpnr's own, which
    leads a carry out of its chain, is with the carry."""
    found: dict[tuple[str, ...], list[float]] = {}
    driven: list[tuple[str, ...] | None] = []
    before: tuple[str, ...] = ()
    for step in path.steps:
        if step.net is not None and not step.net.startswith("$nextpnr_"):
            before = parts.of_net(step.net)
        driven.append(None if step.net is None else before)
    for number, step in enumerate(path.steps):
        # A cell is that which drives the next net; the register at the end drives none.
        after = next((of for of in driven[number:] if of is not None), None)
        of = parts.of_cell(step.cell) if after is None else after
        spent = found.setdefault(of, [0.0, 0.0])
        spent[step.net is not None] += step.delay_ns
    rows = [Spent(of, logic, routing) for of, (logic, routing) in found.items()]
    rows.sort(key=lambda each: -each.delay_ns)
    return Account(path.end.removeprefix("posedge ").removeprefix("negedge "), tuple(rows))


def slowest(paths: Iterable[CriticalPath]) -> list[CriticalPath]:
    """Of each clock the slowest path from register to register."""
    found: dict[str, CriticalPath] = {}
    for path in paths:
        if path.registered and (path.end not in found or path.delay_ns > found[path.end].delay_ns):
            found[path.end] = path
    return list(found.values())


def write_accounts(folder: Path, parts: Parts, paths: Mapping[int, Sequence[CriticalPath]]) -> None:
    """Into the folder of an implementation; `paths` by seed."""
    used = [((part,), counts) for part, counts in parts.resources.items()]
    body = {
        "resources": [
            {"parts": of, "used": {kind.value: count for kind, count in counts.items()}}
            for of, counts in [*used, *parts.shared.items()]
        ],
        "paths": {
            str(seed): [
                {"clock": made.clock, "spent": [vars(spent) for spent in made.spent]}
                for made in (account(path, parts) for path in slowest(of_seed))
            ]
            for seed, of_seed in paths.items()
        },
    }
    (folder / ACCOUNTS).write_text(json.dumps(body, indent=1) + "\n")


def read_accounts(folder: Path) -> Accounts | None:
    """What `write_accounts` left, None where there is none.

    Raises:
        Damaged, KeyError, TypeError, ValueError: it is damaged.
    """
    if not (folder / ACCOUNTS).is_file():
        return None
    body = read_json(read_text(folder / ACCOUNTS), ACCOUNTS)
    used = (
        Used(
            _texts(row["parts"]),
            {Resource(kind): int(_number(count)) for kind, count in row["used"].items()},
        )
        for row in body["resources"]
    )
    paths = {
        int(seed): tuple(
            Account(str(row["clock"]), tuple(_spent(each) for each in row["spent"])) for row in rows
        )
        for seed, rows in body["paths"].items()
    }
    return Accounts(tuple(used), paths)


def _spent(row: Mapping[str, Any]) -> Spent:
    logic, routing = row["logic_ns"], row["routing_ns"]
    if not all(type(ns) in (int, float) for ns in (logic, routing)):
        raise ValueError(f"{ACCOUNTS}: a delay must be a number of ns")
    return Spent(_texts(row["parts"]), logic, routing)


def _texts(row: Any) -> tuple[str, ...]:
    if not isinstance(row, list) or not all(isinstance(text, str) for text in row):
        raise ValueError(f"{ACCOUNTS}: parts must be names")
    return tuple(row)


def _number(value: Any) -> float:
    return json_number(value, f"{ACCOUNTS}: a count")
