"""The files of a schedule for readers: Markdown, a page, and its plots."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from flow.report import html, numbers, plot_lines
from flow.report.plot_lines import Line, Named, Span
from flow.schedule import tables
from flow.schedule.outcome import Outcome, Part
from flow.schedule.platform import Platform
from flow.schedule.result import Result, Swept
from flow.schedule.work import Table

CDF_POINTS = 200
SPANS = 4000  # of a timeline, at most
MARKDOWN, PAGE = "report.md", "report.html"


@dataclass(frozen=True)
class Picture:
    """A plot as SVG, its file's name, title, and what it shows in words."""

    name: str
    title: str
    about: str
    svg: str

    @property
    def address(self) -> str:
        """The plot inside a page."""
        coded = base64.b64encode(self.svg.encode()).decode()
        return f"data:image/svg+xml;base64,{coded}"


def pictures(
    result: Result,
    outcomes: Mapping[str, Outcome],
    main: Outcome,
    table: Table,
    window_us: tuple[int, int],
) -> list[Picture]:
    """Every plot; of `outcomes` the latencies are drawn, of `main` the window."""
    found = [_pareto(result), _parts(result), _latencies(result, outcomes)]
    if result.loads:
        found.append(_loads(result))
    if result.awake or result.tables:
        found.append(_sensitivity(result))
    if main.segments:
        found.append(_timeline(result, main, table, window_us))
    return found


def _pareto(result: Result) -> Picture:
    marks = [Named(row.policy, row.energy_mj, row.miss_percent) for row in result.rows]
    front = sorted((f.energy_mj, f.miss_percent) for f in result.front)
    name = "the oracle's schedules, at other prices of a miss"
    line = Line(name, [x for x, _ in front], [y for _, y in front])
    title = "Energy and misses"
    drawn = plot_lines.named_points(
        marks,
        [line] if front else [],
        title,
        f"mJ for a request above the floor ({result.kind.value})",
        "requests missed, %",
    )
    told = "; ".join(f"{m.name} {m.x:.4g} mJ and {m.y:.3g} % missed" for m in marks)
    return Picture("pareto", title, told, drawn)


def _parts(result: Result) -> Picture:
    rows = {
        f"{row.policy} ({row.miss_percent:.2g} % missed)": row.parts_mj
        for row in sorted(result.rows, key=lambda row: row.energy_mj)
    }
    title = "Where energy goes"
    told = "; ".join(
        f"{name}: " + ", ".join(f"{part} {mj:.4g}" for part, mj in parts.items())
        for name, parts in rows.items()
    )
    axis = f"mJ for a request above the floor ({result.kind.value})"
    return Picture("energy", title, told, plot_lines.stacked(rows, title, axis))


def _latencies(result: Result, outcomes: Mapping[str, Outcome]) -> Picture:
    shares = np.linspace(0, 100, CDF_POINTS)
    drawn, allowed = [], 0.0
    for name, outcome in outcomes.items():
        ms = np.maximum(np.percentile(outcome.latency_us * 1e-3, shares), 1e-3)
        drawn.append(Line(name, ms.tolist(), shares.tolist(), points=False))
        allowed = float(np.median(outcome.deadline_us - outcome.arrival_us)) * 1e-3
    title = "Latency"
    limit = (max(allowed, 1e-3), "median deadline")
    plotted = plot_lines.lines(
        drawn, title, "ms from arrival", "percent of requests", "x", limit=limit
    )
    told = "; ".join(
        f"{row.policy}: half within {row.latency_ms['p50']:.4g} ms, 99 % within "
        f"{row.latency_ms['p99']:.4g} ms"
        for row in result.rows
    )
    return Picture("latency", title, told, plotted)


def _loads(result: Result) -> Picture:
    names = list(result.loads[0].cost_mj)
    x = [each.value for each in result.loads]
    drawn = [Line(name, x, [each.cost_mj[name] for each in result.loads]) for name in names]
    title = "Load"
    plotted = plot_lines.lines(
        drawn, title, "arrivals for one of the trace", "J, mJ for a request", "xy"
    )
    return Picture("load", title, _told(result.loads), plotted)


def _sensitivity(result: Result) -> Picture:
    name = result.exported
    base = result.row(name).cost_mj
    rows: dict[str, tuple[float, float]] = {}
    for each in result.tables:
        what = each.label.rpartition(" times ")[0] or each.label
        value = each.cost_mj[name]
        low, high = rows.get(what, (base, base))
        rows[what] = (min(low, value), max(high, value))
    if result.awake:
        values = [each.cost_mj[name] for each in result.awake]
        told = f"p_awake {result.awake[0].value:g} to {result.awake[-1].value:g} mW"
        rows[told] = (min(values), max(values))
    title = f"What J of {name} turns on"
    plotted = plot_lines.ranges(rows, base, title, "J, mJ for a request")
    return Picture("sensitivity", title, _told([*result.awake, *result.tables]), plotted)


def _told(swept: list[Swept] | tuple[Swept, ...] | Any) -> str:
    return "; ".join(f"{each.label}: the least J has {each.best}" for each in swept)


def _timeline(
    result: Result, outcome: Outcome, table: Table, window_us: tuple[int, int]
) -> Picture:
    """What ran when, the clock that ran, and the power above the floor."""
    start, stop = window_us
    spans = []
    clock: tuple[list[float], list[float]] = ([], [])
    power: tuple[list[float], list[float]] = ([], [])
    names = {Part.IDLE: "idle", Part.SWITCH: "switch", Part.WAKE: "wake"}
    shown = outcome.segments[:SPANS]
    for segment in shown:
        cluster = result.platform.clusters[segment.cluster]
        if segment.part is Part.BUSY:
            action = table.actions[outcome.action[segment.request]]
            kind = table.variants[action.variant].name
        else:
            kind = names[segment.part]
        at, until = segment.start_us * 1e-3, segment.stop_us * 1e-3
        spans.append(Span(cluster.name, at, until, kind))
        mhz = cluster.points[segment.point].mhz or 0.0
        clock[0].append(at)
        clock[1].append(mhz if segment.part is Part.BUSY else 0.0)
        power[0].append(at)
        power[1].append(segment.mw)
    inside = (outcome.arrival_us >= start) & (outcome.arrival_us < stop)
    marks = [(float(us) * 1e-3, "arrival") for us in outcome.arrival_us[inside][:SPANS]]
    late = inside & outcome.missed
    marks += [(float(us) * 1e-3, "missed deadline") for us in outcome.deadline_us[late][:SPANS]]
    below = {
        "MHz": Line("clock", *clock, steps=True),
        "mW above floor": Line("power", *power, steps=True),
    }
    title = f"{outcome.policy}: the first {(stop - start) * 1e-3:g} ms"
    told = f"{len(shown)} stretches of {outcome.policy}; timeline.json holds them for Perfetto"
    drawn = plot_lines.timeline(spans, marks, below, title, "ms")
    return Picture("timeline", title, told, drawn)


def markdown(result: Result, drawn: list[Picture]) -> str:
    """The report as Markdown; plots lie beside it."""
    lines = [
        f"# Schedule on {result.platform.title}",
        "",
        "```",
        numbers.command(result.command, "schedule").replace("`", "'"),
        "```",
        "",
        f"{result.trace['requests']:,} requests, trace sha256 {result.trace['sha256']}, seed "
        f"{result.trace['seed']}; {tables.bound_text(result)}.",
        "",
        *(f"* note: {warning}" for warning in result.warnings),
    ]
    for grid in tables.grids(result):
        lines += ["", f"## {grid.title}", "", grid.note, "", *grid.markdown()]
    for picture in drawn:
        lines += ["", f"## {picture.title}", "", f"![{picture.title}]({picture.name}.svg)"]
    return "\n".join(lines) + "\n"


def page(result: Result, drawn: list[Picture]) -> str:
    """The report as a page."""
    best = min(result.rows, key=lambda row: row.cost_mj)
    return html.render(
        "schedule.html",
        pictures=False,
        result=result,
        best=best,
        command=numbers.command(result.command, "schedule"),
        bound=tables.bound_text(result),
        grids=tables.grids(result),
        drawn=drawn,
    )


def summary(result: Result, platform: Platform) -> str:
    """One line for the index of all runs."""
    row = result.row(result.exported)
    return (
        f"{platform.name}  {result.trace['trace']}  {row.policy}: {row.energy_mj:.4g} mJ/request, "
        f"{row.miss_percent:.3g} % missed"
    )
