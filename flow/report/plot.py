"""Plots as SVG text; the same points give the same bytes."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

# Text stays text, ids come from a fixed salt, no date: a plot can be compared and committed.
_SETTINGS: Any = {"svg.fonttype": "none", "svg.hashsalt": "bitwright", "font.family": "DejaVu Sans"}
_LINES = (("o-", "black"), ("s--", "tab:blue"), ("^:", "tab:red"))  # as many as are told apart
_METADATA = {"Date": None, "Creator": None}


@dataclass(frozen=True)
class Mark:
    """One point: where, with the lowest and highest y of its seeds, its label, if it stands out."""

    x: float
    y: float
    low: float
    high: float
    label: str
    best: bool


@contextmanager
def drawing(rows: int = 1, height: float = 5.0, **more: Any) -> Iterator[tuple[Any, Any]]:
    """A figure of `height` inches, and its axes: so many below one another, with `more` for
    matplotlib's `subplots`."""
    import matplotlib  # takes half a second, and only plots need it
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=(8, height), layout="constrained")
        FigureCanvasSVG(figure)
        yield figure, figure.subplots(rows, **more)


def scatter(marks: Sequence[Mark], title: str, x: str, y: str) -> str:
    """The marks over a logarithmic x axis; the best ones are black and joined by a line."""
    with drawing() as (figure, axes):
        axes.set(xscale="log", title=title, xlabel=x, ylabel=y)
        axes.grid(visible=True, which="both", alpha=0.2)
        best = sorted((mark for mark in marks if mark.best), key=lambda mark: mark.x)
        axes.plot([m.x for m in best], [m.y for m in best], color="black", linewidth=0.8)
        middle = sorted(mark.x for mark in marks)[len(marks) // 2]
        for mark in marks:
            colour = "black" if mark.best else "grey"
            spread = [[mark.y - mark.low], [mark.high - mark.y]]
            axes.errorbar(mark.x, mark.y, spread, fmt="o", color=colour, capsize=3, linewidth=0.8)
            right = mark.x > middle  # its label goes to the left, so that it stays inside
            axes.annotate(
                mark.label,
                (mark.x, mark.y),
                xytext=(-6 if right else 6, -10),
                textcoords="offset points",
                horizontalalignment="right" if right else "left",
                color=colour,
                fontsize=8,
            )
        return svg(figure)


@dataclass(frozen=True)
class Dot:
    """One point of many: where, of which group, and whether it stands out there."""

    x: float
    y: float
    group: str
    best: bool


def cloud(dots: Sequence[Dot], title: str, x: str, y: str) -> str:
    """Many points over logarithmic axes, grey; those that stand out are black, and joined by a line
    in each group. Where a coordinate is not above 0 it is drawn at the axis."""
    with drawing() as (figure, axes):
        axes.set(title=title, xlabel=x, ylabel=y)
        axes.set_xscale("symlog", linthresh=1)
        axes.set_yscale("symlog", linthresh=1)
        axes.grid(visible=True, which="both", alpha=0.2)
        places = sorted({(dot.x, dot.y) for dot in dots})
        axes.plot([a for a, _ in places], [b for _, b in places], ".", color="lightgrey")
        for group in dict.fromkeys(dot.group for dot in dots):
            best = sorted((dot.x, dot.y) for dot in dots if dot.best and dot.group == group)
            axes.plot(
                [a for a, _ in best], [b for _, b in best], "o-", color="black", linewidth=0.8
            )
        return svg(figure)


def curve(marks: Sequence[Mark], title: str, x: str, y: str) -> str:
    """`curves` of one line without a name."""
    return curves({"": marks}, title, x, y)


def curves(lines: Mapping[str, Sequence[Mark]], title: str, x: str, y: str) -> str:
    """The marks with their intervals, those of each line joined in their order; marks with labels
    have no place but their order, and are labelled at the axis. Where the largest x is far from the
    next to smallest, the axis is logarithmic but around 0. Several lines are told apart in a
    legend."""
    with drawing() as (figure, axes):
        axes.set(title=title, xlabel=x, ylabel=y)
        axes.grid(visible=True, which="both", alpha=0.2)
        every = [mark for marks in lines.values() for mark in marks]
        places = sorted({mark.x for mark in every})
        named = {mark.x: mark.label for mark in every if mark.label}
        if named:
            labels = list(named.values())
            axes.set_xticks(
                list(named), labels, rotation=30, horizontalalignment="right", fontsize=8
            )
        elif max(places) > 1000 * places[min(1, len(places) - 1)]:
            axes.set_xscale("symlog", linthresh=places[1])
        for (name, marks), (style, colour) in zip(lines.items(), _LINES, strict=False):
            spread = [[m.y - m.low for m in marks], [m.high - m.y for m in marks]]
            axes.errorbar(
                [m.x for m in marks],
                [m.y for m in marks],
                spread,
                fmt=style[0] if named else style,
                color=colour,
                label=name or None,
                capsize=3,
                linewidth=0.8,
            )
        if len(lines) > 1:
            axes.legend()
        return svg(figure)


def svg(figure: Any) -> str:
    """The figure as text."""
    content = io.BytesIO()
    figure.savefig(content, format="svg", metadata=_METADATA)
    return content.getvalue().decode()
