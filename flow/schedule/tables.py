"""The numbers of a schedule as tables of text: for terminals, Markdown and pages alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from flow.report import numbers
from flow.schedule.result import Result, Swept
from flow.schedule.summary import Residency


@dataclass(frozen=True)
class Grid:
    """A table: its title, what its numbers are, its columns and rows; the first `left` columns are
    text."""

    title: str
    note: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int = 1

    def lines(self) -> Iterator[str]:
        """As plain text, in columns."""
        cells = [self.head, *self.rows]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        for row in cells:
            words = (
                cell.ljust(width) if place < self.left else cell.rjust(width)
                for place, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            yield "  ".join(words).rstrip()

    def markdown(self) -> Iterator[str]:
        """As a table of Markdown."""
        yield _row(self.head)
        yield _row("---" if place < self.left else "---:" for place in range(len(self.head)))
        yield from map(_row, self.rows)


def _row(cells: Sequence[str] | Iterator[str]) -> str:
    escaped = (cell.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ") for cell in cells)
    return f"| {' | '.join(escaped)} |"


def policies(result: Result) -> Grid:
    """Every policy: energy, and misses beside it."""
    head = (
        *("policy", "mJ/request", "with floor", "missed %", "accuracy %"),
        *("p50 ms", "p95 ms", "p99 ms", "max ms", "J mJ/request", "J over [UB, LB]"),
    )
    rows = []
    for row in sorted(result.rows, key=lambda row: row.cost_mj):
        gap = result.gap(row)
        rows.append(
            (
                row.policy,
                _figure(row.energy_mj),
                _figure(row.with_floor_mj),
                _figure(row.miss_percent),
                f"{row.accuracy:.2f}",
                *(_figure(value) for value in row.latency_ms.values()),
                _figure(row.cost_mj),
                "" if gap is None else f"[{100 * gap[0]:+.1f} %, {100 * gap[1]:+.1f} %]",
            )
        )
    note = (
        f"Energies are {result.kind.value}: simulated with the platform's table, above its floor "
        f"of {_figure(result.platform.p_deep_mw)} mW. J is energy above the floor and "
        f"{_figure(result.miss_mj)} mJ for a miss."
    )
    return Grid("Policies", note, head, tuple(rows))


def parts(result: Result) -> Grid:
    """Where energy and time went."""
    head = (
        *("policy", "busy mJ", "idle mJ", "switch mJ", "wake mJ", "mean W", "mJ*ms"),
        *("late p99 ms", "switches/s", "migrations", "wakes"),
    )
    rows = tuple(
        (
            row.policy,
            *(_figure(row.parts_mj[part]) for part in ("busy", "idle", "switch", "wake")),
            _figure(row.mean_w),
            _figure(row.delay_product),
            _figure(row.tardiness_p99_ms),
            _figure(row.switches_per_s),
            f"{row.migrations:,}",
            f"{row.wakes:,}",
        )
        for row in result.rows
    )
    note = "For a request, above the floor; mean power is with it; mJ*ms is energy times latency."
    return Grid("Where energy and time go", note, head, rows)


def residency(result: Result) -> Grid:
    """Where each policy ran, and which variants requests got."""
    rows = tuple(
        (
            row.policy,
            ", ".join(
                f"{_point(each)}: {each.percent:.1f} %"
                for each in sorted(row.residency, key=lambda each: -each.percent)[:6]
            ),
            ", ".join(f"{name}: {percent:.1f} %" for name, percent in row.variants.items()),
        )
        for row in result.rows
    )
    note = "Of the time that something ran, the six most used points (MHz); of all requests."
    return Grid("Points and variants", note, ("policy", "points", "variants"), rows, 3)


def _point(held: Residency) -> str:
    return held.cluster if held.mhz is None else f"{held.cluster} {held.mhz:g}"


def variants(result: Result) -> Grid:
    """What could be chosen from, and what its numbers are."""
    rows = tuple(
        (
            each.variant.model,
            each.variant.name,
            each.variant.target,
            numbers.value_text(each.accuracy),
            f"{each.accuracy.kind.value}, {each.accuracy.source}",
            numbers.value_text(each.latency),
            f"{each.latency.kind.value}, {each.latency.source}",
        )
        for each in result.known
    )
    head = ("model", "variant", "target", "accuracy", "", "latency", "")
    note = "Latency at the platform's fastest point, or at the first point of its cluster."
    return Grid("Variants", note, head, rows, len(head))


def sources(result: Result) -> Grid:
    """What the platform's numbers stand on."""
    rows = tuple(result.sources.items())
    rail = f"Powers are measured at: {result.platform.rail}."
    return Grid("What the platform's numbers are", rail, ("number", "source"), rows, 2)


def sweep(title: str, note: str, swept: Sequence[Swept]) -> Grid:
    """J and misses of every policy, one row for each value."""
    names = list(swept[0].cost_mj) if swept else []
    rows = tuple(
        (
            each.label,
            each.best,
            *(f"{_figure(each.cost_mj[name])} ({each.miss_percent[name]:.2g} %)" for name in names),
        )
        for each in swept
    )
    return Grid(title, note, ("", "least J", *names), rows, 2)


def grids(result: Result) -> list[Grid]:
    """All tables, in order."""
    found = [policies(result), parts(result), residency(result), variants(result)]
    many = (
        (
            "Load",
            "J in mJ for a request, and percent missed, with so many arrivals for one of the trace",
            result.loads,
        ),
        (
            "p_awake_mw",
            "The same with other powers of what stays on while anything runs",
            result.awake,
        ),
        (
            "Power tables",
            "The same with other tables: each cluster's powers varied, and the device tree's "
            "formula C * V^2 * f in their place where its coefficient is known",
            result.tables,
        ),
    )
    found += [sweep(*each) for each in many if each[2]]
    if result.driven is not None:
        found.append(driven(result))
    return [*found, sources(result)]


def driven(result: Result) -> Grid:
    """The exported policy on this host."""
    assert result.driven is not None
    rows = tuple(
        (metric.name, numbers.value_text(metric), f"{metric.kind.value}, {metric.source}")
        for metric in result.driven.metrics
    )
    shares = ", ".join(f"{name}: {share:.1f} %" for name, share in result.driven.variants.items())
    note = f"{result.exported}, driving LiteRT's interpreter; variants: {shares}"
    return Grid("On this host", note, ("figure", "value", "source"), rows, 3)


def bound_text(result: Result) -> str:
    """What is known of the least J."""
    bound = result.bound
    if bound is None:
        return "no bounds were computed"
    if bound.exact:
        return (
            f"the least J is between {_figure(bound.lower_mj)} and {_figure(bound.upper_mj)} mJ "
            f"for a request (certified, gap {100 * bound.gap:.2f} %, grid {bound.grid_us} us)"
        )
    return (
        f"no schedule has less J than {_figure(bound.lower_mj)} mJ for a request, one has "
        f"{_figure(bound.upper_mj)} (a relaxed bound, in which {bound.why}; "
        f"grid {bound.grid_us} us)"
    )


def text(result: Result) -> str:
    """What the command prints."""
    grid = policies(result)
    lines = [
        f"{result.platform.name}: {result.trace['requests']:,} requests of {result.trace['trace']}",
        *(f"note: {warning}" for warning in result.warnings),
        *grid.lines(),
        grid.note,
        bound_text(result),
        f"exported: {result.exported}",
    ]
    if result.driven is not None:
        lines += ["on this host", *(f"  {line}" for line in driven(result).lines())]
    if result.folder is not None:
        lines += [f"folder: {result.folder}", f"page: {result.folder / 'report.html'}"]
    return "\n".join(lines)


def _figure(value: float) -> str:
    return numbers.figure(float(f"{value:.4g}"))
