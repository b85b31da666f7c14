"""More plots as SVG text: many lines, points with names, bars in parts, and stretches of time; the
same numbers give the same bytes. Colours are those of Okabe and Ito, which colour-blind readers
tell apart; where there are more lines than colours, dashes do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flow.report.plot import drawing, svg

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#000000")
_DASHES = ("-", "--", ":", "-.")
_MARKS = ("o", "s", "^", "D", "v", "P", "X")


@dataclass(frozen=True)
class Line:
    """A named line through points (x, y); `steps` holds each y until the next x; `points` are
    drawn, too; `fine` is a bound: a thin line."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    steps: bool = False
    points: bool = True
    fine: bool = False


@dataclass(frozen=True)
class Named:
    """A point with its name beside it."""

    name: str
    x: float
    y: float


@dataclass(frozen=True)
class Span:
    """A stretch of time in a lane: its colour is that of `kind`."""

    lane: str
    start: float
    stop: float
    kind: str


def _style(number: int, fine: bool = False) -> dict[str, Any]:
    return {
        "color": COLOURS[number % len(COLOURS)],
        "linestyle": _DASHES[number // len(COLOURS) % len(_DASHES)],
        "linewidth": 0.8 if fine else 1.3,
    }


def lines(
    drawn: Sequence[Line],
    title: str,
    x: str,
    y: str,
    logarithmic: str = "",
    limit: tuple[float, str] | None = None,
) -> str:
    """The lines with a legend; `logarithmic` names axes (`x`, `y`, `xy`); `limit` is a vertical
    line with its name."""
    with drawing() as (figure, axes):
        axes.set(title=title, xlabel=x, ylabel=y)
        axes.grid(visible=True, which="major", alpha=0.2)
        for number, line in enumerate(drawn):
            marker = _MARKS[number % len(_MARKS)] if line.points else ""
            where = {"drawstyle": "steps-post"} if line.steps else {}
            style = _style(number, line.fine)
            axes.plot(
                line.x, line.y, label=line.name, marker=marker, markersize=4, **style, **where
            )
        if limit is not None:
            axes.axvline(limit[0], color="grey", linewidth=1.0)
            axes.annotate(
                limit[1],
                (limit[0], 0.02),
                xycoords=("data", "axes fraction"),
                xytext=(4, 0),
                textcoords="offset points",
                fontsize=8,
                color="grey",
            )
        for name in logarithmic:
            getattr(axes, f"set_{name}scale")("log")
        axes.legend(fontsize=8, loc="best")
        return svg(figure)


def named_points(marks: Sequence[Named], curves: Sequence[Line], title: str, x: str, y: str) -> str:
    """Points with their names, and lines behind them; both axes begin at 0, and y is linear below 1
    and logarithmic above."""
    with drawing() as (figure, axes):
        axes.set(title=title, xlabel=x, ylabel=y)
        axes.grid(visible=True, alpha=0.2)
        for number, line in enumerate(curves):
            style = _style(number, line.fine)
            axes.plot(line.x, line.y, label=line.name, marker=".", markersize=5, **style)
        right = max((mark.x for mark in marks), default=1.0) * 0.6
        for mark in marks:
            axes.plot([mark.x], [mark.y], "o", color="black", markersize=5)
            axes.annotate(
                mark.name,
                (mark.x, mark.y),
                xytext=(-6 if mark.x > right else 6, 4),
                textcoords="offset points",
                horizontalalignment="right" if mark.x > right else "left",
                fontsize=8,
            )
        axes.set_yscale("symlog", linthresh=1.0)
        axes.set_xlim(left=0.0)
        axes.set_ylim(bottom=-0.05)
        if curves:
            axes.legend(fontsize=8)
        return svg(figure)


def stacked(rows: Mapping[str, Mapping[str, float]], title: str, x: str) -> str:
    """A bar for each row, from its parts, all rows with parts of the same names."""
    with drawing(height=1.6 + 0.32 * len(rows)) as (figure, axes):
        axes.set(title=title, xlabel=x)
        axes.grid(visible=True, axis="x", alpha=0.2)
        names = list(next(iter(rows.values())))
        left = [0.0] * len(rows)
        for number, name in enumerate(names):
            widths = [parts[name] for parts in rows.values()]
            colour = COLOURS[number % len(COLOURS)]
            axes.barh(list(rows), widths, left=left, label=name, color=colour)
            left = [a + b for a, b in zip(left, widths, strict=True)]
        axes.invert_yaxis()
        axes.legend(fontsize=8)
        return svg(figure)


def ranges(rows: Mapping[str, tuple[float, float]], middle: float, title: str, x: str) -> str:
    """A tornado: what a figure becomes at both ends of what each row varies, the widest first."""
    ordered = sorted(rows.items(), key=lambda row: -abs(row[1][1] - row[1][0]))
    with drawing(height=1.6 + 0.32 * len(rows)) as (figure, axes):
        axes.set(title=title, xlabel=x)
        axes.grid(visible=True, axis="x", alpha=0.2)
        for name, (low, high) in ordered:
            axes.barh(name, low - middle, left=middle, color=COLOURS[0])
            axes.barh(name, high - middle, left=middle, color=COLOURS[1])
        axes.axvline(middle, color="black", linewidth=0.8)
        axes.invert_yaxis()
        return svg(figure)


def timeline(
    spans: Sequence[Span],
    marks: Sequence[tuple[float, str]],
    below: Mapping[str, Line],
    title: str,
    x: str,
) -> str:
    """Stretches in their lanes, times that are marked under them by the marks' names, and lines of
    the same time below, by the title of their axis."""
    lanes = list(dict.fromkeys(span.lane for span in spans))
    kinds = list(dict.fromkeys(span.kind for span in spans))
    count = 1 + len(below)
    heights = [max(1.0, 0.6 * len(lanes)), *(1.0 for _ in below)]
    with drawing(count, 2.0 + 1.5 * count, sharex=True, squeeze=False, height_ratios=heights) as (
        figure,
        grid,
    ):
        axes = [row[0] for row in grid]
        axes[0].set(title=title)
        for number, kind in enumerate(kinds):
            for lane_number, lane in enumerate(lanes):
                own = [
                    (span.start, span.stop - span.start)
                    for span in spans
                    if (span.lane, span.kind) == (lane, kind)
                ]
                label = kind if lane_number == 0 else None
                colour = COLOURS[number % len(COLOURS)]
                place = (lane_number - 0.4, 0.8)
                axes[0].broken_barh(own, place, facecolors=colour, label=label)
        axes[0].set_yticks(range(len(lanes)), lanes)
        for number, name in enumerate(dict.fromkeys(name for _, name in marks)):
            times = [time for time, other in marks if other == name]
            marker = "v" if number == 0 else "|"
            heights_of = [len(lanes) - 0.4] * len(times)
            axes[0].plot(times, heights_of, marker, color="black", markersize=5, label=name)
        axes[0].legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        for place_below, (name, line) in zip(axes[1:], below.items(), strict=True):
            place_below.plot(line.x, line.y, drawstyle="steps-post", color="black", linewidth=0.9)
            place_below.set(ylabel=name)
            place_below.set_ylim(bottom=0.0)
            place_below.grid(visible=True, alpha=0.2)
        axes[-1].set(xlabel=x)
        return svg(figure)
