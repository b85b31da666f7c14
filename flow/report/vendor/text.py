"""The stages of a synthesis side by side, as a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from flow.report.vendor.folder import Found
from flow.report.vendor.synthesis import Count, Module, Resource, Synthesis

_MODULES = 12  # shown of one stage; JSON has all
_NONE = "-"


def render(found: Found) -> Iterator[str]:
    """Line by line, a column per stage."""
    yield from _aligned(table(found))
    for stage in found.stages:
        yield from _modules(stage)
    for stage in found.stages:
        yield from (f"note: {stage.by}: {note}" for note in stage.notes)
    yield from (f"note: {note}" for note in found.notes)


def table(found: Found) -> list[list[str]]:
    """The stages' names, then a row a field, its name first."""
    stages = found.stages
    rows: list[tuple[str, Callable[[Synthesis], str]]] = [
        ("tool", lambda s: f"{s.tool} {s.version or ''}".strip()),
        ("design", lambda s: s.design or _NONE),
        ("part", lambda s: s.part or _NONE),
        ("date", lambda s: s.date.isoformat(" ") if s.date else _NONE),
        ("clock asked", lambda s: _ns(s.clock.target_ns if s.clock else None)),
        ("clock reached", lambda s: _ns(s.clock.achieved_ns if s.clock else None)),
        ("Fmax", lambda s: _mhz(s.clock.fmax_mhz if s.clock else None)),
        ("latency", lambda s: f"{s.latency} cycles" if s.latency else _NONE),
        ("interval", lambda s: f"{s.interval} cycles" if s.interval else _NONE),
    ]
    used = [kind for kind in Resource if any(kind in stage.resources for stage in stages)]
    rows += [(kind.value, _counter(kind)) for kind in used]
    if any(stage.power for stage in stages):
        rows += [
            ("power", lambda s: f"{s.power.total_w:g} W" if s.power else _NONE),
            ("static", lambda s: f"{s.power.static_w:g} W" if s.power else _NONE),
            ("dynamic", lambda s: f"{s.power.dynamic_w:g} W" if s.power else _NONE),
            ("confidence", lambda s: s.power.confidence if s.power else _NONE),
        ]
    heads = ["", *(stage.stage.value for stage in stages)]
    return [heads, *([name, *(cell(stage) for stage in stages)] for name, cell in rows)]


def _aligned(cells: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[at]) for row in cells) for at in range(len(cells[0]))]
    for row in cells:
        yield "  ".join(f"{text:{width}}" for text, width in zip(row, widths, strict=True)).rstrip()


def _counter(kind: Resource) -> Callable[[Synthesis], str]:
    return lambda stage: _count(stage.resources.get(kind))


def _count(count: Count | None) -> str:
    if count is None:
        return _NONE
    if count.available is None or count.share is None:
        return f"{count.used:.10g}"
    return f"{count.used:.10g} of {count.available:.10g} ({100 * count.share:.1f} %)"


def _ns(value: float | None) -> str:
    return _NONE if value is None else f"{value:.3f} ns"


def _mhz(value: float | None) -> str:
    return _NONE if value is None else f"{value:.1f} MHz"


def _modules(stage: Synthesis) -> Iterator[str]:
    if not stage.modules:
        return
    yield f"modules after {stage.stage.value}"
    largest = largest_modules(stage)
    for name, used in largest[:_MODULES]:
        yield f"  {name}: {used}"
    if len(largest) > _MODULES:
        yield f"  ... {len(largest) - _MODULES} more, see JSON=1"


def largest_modules(stage: Synthesis) -> list[tuple[str, str]]:
    """The stage's modules and what they use, the largest first."""
    ordered = sorted(stage.modules, key=lambda module: -sum(module.resources.values()))
    return [(module.name, _used(module)) for module in ordered]


def _used(module: Module) -> str:
    used = [f"{kind.value} {count:.10g}" for kind, count in module.resources.items() if count]
    cycles = [
        f"{name} {value} cycles"
        for name, value in (("latency", module.latency), ("interval", module.interval))
        if value
    ]
    return ", ".join([*used, *cycles]) or "nothing"
