"""Several reports of one stage as one: each number that two of them have must be the same."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TypeVar

from flow.errors import UsageError
from flow.report.vendor.reading import close
from flow.report.vendor.synthesis import Clock, Count, Module, Resource, Synthesis

T = TypeVar("T")


def merge(group: list[Synthesis]) -> Synthesis:
    """One stage's reports as one. Raises UsageError where two disagree."""
    merged = group[0]
    for report in group[1:]:
        merged = _join(merged, report)
    return merged


def _join(a: Synthesis, b: Synthesis) -> Synthesis:
    pair = f"{', '.join(a.files)} and {', '.join(b.files)}"

    def one(what: str, first: T | None, second: T | None) -> T | None:
        if first is not None and second is not None and first != second:
            raise UsageError(
                f"{pair} are both of {a.stage.value} and disagree on {what}: {first} and {second}; "
                f"keep one design in a folder"
            )
        return second if first is None else first

    one("tool", a.tool, b.tool)
    if not same_part(a.part, b.part):
        one("part", a.part, b.part)
    dates = [date for date in (a.date, b.date) if date is not None]
    return Synthesis(
        a.tool,
        one("version", a.version, b.version),
        a.stage,
        (*a.files, *b.files),
        design=one("design", a.design, b.design),
        part=max((a.part, b.part), key=lambda part: len(part or "")),
        date=max(dates, default=None),
        clocks=_join_clocks(a.clocks, b.clocks, one),
        latency=one("latency", a.latency, b.latency),
        interval=one("interval", a.interval, b.interval),
        resources=_join_counts(a.resources, b.resources, one),
        modules=_join_modules(a.modules, b.modules),
        power=one("power", a.power, b.power),
        violations=tuple(dict.fromkeys((*a.violations, *b.violations))),
        notes=tuple(dict.fromkeys((*a.notes, *b.notes))),
    )


def _join_clocks(
    first: tuple[Clock, ...], second: tuple[Clock, ...], one: Callable[..., object]
) -> tuple[Clock, ...]:
    """A log rounds what a JSON file does not."""
    for a, b in zip(first, second, strict=False):
        for x, y in ((a.target_ns, b.target_ns), (a.achieved_ns, b.achieved_ns)):
            if x is not None and y is not None and not close(x, y, 2e-4 * max(x, y)):
                one(f"clock {a.name}", x, y)
    return first or second


def _join_counts(
    first: Mapping[Resource, Count], second: Mapping[Resource, Count], one: Callable[..., object]
) -> dict[Resource, Count]:
    found = {**second, **first}
    for kind in first.keys() & second.keys():
        a, b = first[kind], second[kind]
        one(kind.value, a.used, b.used)
        one(f"how many {kind.value} there are", a.available, b.available)
        found[kind] = a if a.available is not None else b
    return found


def _join_modules(first: tuple[Module, ...], second: tuple[Module, ...]) -> tuple[Module, ...]:
    """By name: one report may have their resources, another their cycles."""
    others = {module.name: module for module in second}
    if not {module.name for module in first} & set(others):
        return (*first, *second)
    joined = []
    for module in first:
        other = others.pop(module.name, module)
        joined.append(
            Module(
                module.name,
                {**other.resources, **module.resources},
                module.latency or other.latency,
                module.interval or other.interval,
            )
        )
    return (*joined, *others.values())


def same_part(a: str | None, b: str | None) -> bool:
    """Whether two names may be of one device: Vivado leaves out `xc`, hyphens, or the end."""
    if a is None or b is None:
        return True
    x, y = (re.sub(r"^xc|-", "", name.lower()) for name in (a, b))
    return x.startswith(y) or y.startswith(x)
