"""The pictures of a run as Vega-Lite specifications: plain data, drawn in the reader's browser.

Colours are those of Okabe and Ito, which colour-blind readers tell apart; the page gives the
library its own text and line colours, light or dark. Every picture has a description for readers
who do not see it, and its numbers stand in a table of the page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flow.metric import Metric
from flow.report import numbers
from flow.report.layers import Layer

BLUE, SKY, ORANGE, RED = "#0072B2", "#56B4E9", "#E69F00", "#D55E00"
MANY = 30  # layers, from which on their rows are drawn closer
Spec = dict[str, Any]


def _spec(description: str, rows: Sequence[Mapping[str, Any]], **more: Any) -> Spec:
    return {
        "description": description,
        "width": "container",
        "autosize": {"type": "fit-x", "contains": "padding"},
        "data": {"values": rows},
        **more,
    }


def _layer_axis(count: int) -> Spec:
    return {"field": "layer", "type": "nominal", "sort": None, "title": None} | (
        {"axis": {"labelFontSize": 9}} if count > MANY else {}
    )


def _height(count: int) -> int:
    return count * (13 if count > MANY else 22)


def scores(stages: Mapping[str, Metric], name: str) -> Spec | None:
    """Every stage's accuracy, in percent, or other score `name`, with its interval."""
    times, title = _score_axis(name)
    rows = [
        {
            "stage": stage,
            name: times * metric.value,
            "low": times * (metric.interval.low if metric.interval else metric.value),
            "high": times * (metric.interval.high if metric.interval else metric.value),
        }
        for stage, metric in stages.items()
    ]
    if not rows:
        return None
    place = {"field": "stage", "type": "nominal", "sort": None, "title": None}
    scale = {"type": "quantitative", "title": title, "scale": {"zero": False}}
    shown = "; ".join(f"{stage} {numbers.score_parts(m)[0]}" for stage, m in stages.items())
    return _spec(
        f"{numbers.heading(name)} at each stage: {shown}",
        rows,
        height=24 * len(rows),
        encoding={"y": place},
        layer=[
            {
                "mark": {"type": "rule", "color": BLUE, "strokeWidth": 2},
                "encoding": {"x": {**scale, "field": "low"}, "x2": {"field": "high"}},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 70, "color": BLUE, "opacity": 1},
                "encoding": {
                    "x": {**scale, "field": name},
                    "tooltip": _tips("stage", name, "low", "high"),
                },
            },
        ],
    )


def accumulators(layers: Sequence[Layer]) -> Spec | None:
    """Bits that sums need, occurred with, and have."""
    rows = [
        {
            "layer": layer.name,
            "needed": layer.accumulator.bits,
            "width": layer.accumulator.width or layer.accumulator.bits,
            "seen": _bits(layer.accumulator.seen_low, layer.accumulator.seen_high),
            "range": f"{layer.accumulator.low} to {layer.accumulator.high}",
        }
        for layer in layers
        if layer.accumulator is not None
    ]
    if not rows:
        return None
    tips = _tips("layer", "width", "needed", "seen", "range")
    names = ["width on the target", "needed for every input", "occurred"]
    marks: tuple[tuple[str, str, Spec], ...] = (
        ("width", names[0], {"type": "bar", "opacity": 0.25}),
        ("needed", names[1], {"type": "bar", "height": {"band": 0.5}}),
        ("seen", names[2], {"type": "tick", "thickness": 3}),
    )
    return _spec(
        "Accumulators: bits needed for every input against the bits that the target has. "
        + "; ".join(f"{row['layer']} {row['needed']} of {row['width']}" for row in rows),
        rows,
        height=_height(len(rows)),
        encoding={"y": _layer_axis(len(rows))},
        layer=[
            {
                "mark": mark,
                "encoding": {
                    "x": {"field": field, "type": "quantitative", "title": "bits"},
                    "color": {
                        "datum": name,
                        "scale": {"domain": names, "range": [SKY, BLUE, ORANGE]},
                        "legend": {"orient": "top", "title": None, "symbolOpacity": 1},
                    },
                    "tooltip": tips,
                },
            }
            for field, name, mark in marks
        ],
    )


def _bits(low: int, high: int) -> int:
    signed = max((-low - 1).bit_length(), max(high, 0).bit_length()) + 1
    return signed if low < 0 else max(high.bit_length(), 1)


def shares(
    layers: Sequence[Layer], name: str, values: Mapping[str, float], others: Mapping[str, float]
) -> Spec | None:
    """Each layer's part of a cost; `values` by layer, `others` what is of none, by what it is."""
    of_layers = {layer.name: values[layer.name] for layer in layers if values.get(layer.name)}
    total = sum((*of_layers.values(), *others.values()))
    if total <= 0:
        return None
    rows = [
        {"layer": what, "value": value, "of": of, "share": value / total}
        for of, costs in ((_LAYER, of_layers), (_NO_LAYER, others))
        for what, value in costs.items()
    ]
    return _spec(
        f"{name} of each layer: "
        + "; ".join(f"{row['layer']} {row['value']:g} ({row['share']:.0%})" for row in rows),
        rows,
        height=_height(len(rows)),
        mark={"type": "bar", "color": BLUE},
        encoding={
            "y": _layer_axis(len(rows)),
            "x": {
                "field": "share",
                "type": "quantitative",
                "title": f"share of {name}",
                "axis": {"format": "%"},
            },
            **(
                {
                    "color": {
                        "field": "of",
                        "scale": {"domain": [_LAYER, _NO_LAYER], "range": [BLUE, ORANGE]},
                        "legend": {"orient": "top", "title": None, "symbolOpacity": 1},
                    }
                }
                if others
                else {}
            ),
            "tooltip": [
                *_tips("layer", "value"),
                {"field": "share", "type": "quantitative", "format": ".1%"},
            ],
        },
    )


_LAYER, _NO_LAYER = "of a layer", "of no one layer"


def errors(layers: Sequence[Layer]) -> Spec | None:
    """Signal to noise of each layer: of its own rounding, and of all that parts it from the float
    twin, where there is one."""
    rows = [
        {
            "layer": layer.name,
            "rounding": layer.error.sqnr if layer.error else None,
            "clipped": layer.error.clipped if layer.error else None,
            "twin": layer.twin_ratio,
        }
        for layer in layers
        if (layer.error is not None and layer.error.sqnr is not None)
        or layer.twin_ratio is not None
    ]
    if not rows:
        return None
    marks: dict[str, tuple[str, Spec]] = {
        "rounding": ("its own rounding", {"type": "bar"}),
        "twin": ("against the float twin", {"type": "point", "shape": "diamond", "size": 70}),
    }
    drawn = [field for field in marks if any(row[field] is not None for row in rows)]
    names = [marks[field][0] for field in drawn]
    return _spec(
        "Signal to noise of each layer in dB, more is better: "
        + "; ".join(_ratios(row, {field: marks[field][0] for field in drawn}) for row in rows),
        rows,
        height=_height(len(rows)),
        encoding={"y": _layer_axis(len(rows))},
        layer=[
            {
                "transform": [{"filter": f"isValid(datum.{field})"}],
                "mark": {**marks[field][1], "filled": True, "opacity": 1},
                "encoding": {
                    "x": {"field": field, "type": "quantitative", "title": "signal to noise in dB"},
                    "color": {
                        "datum": marks[field][0],
                        "scale": {"domain": names, "range": [_ERRORS[name] for name in drawn]},
                        "legend": {"orient": "top", "title": None, "symbolOpacity": 1},
                    },
                    "tooltip": [
                        {"field": "layer"},
                        *(
                            {"field": each, "format": ".1f", "type": "quantitative"}
                            for each in drawn
                        ),
                        {"field": "clipped", "type": "quantitative", "format": ".2%"},
                    ],
                },
            }
            for field in drawn
        ],
    )


_ERRORS = {"rounding": BLUE, "twin": ORANGE}


def _ratios(row: Mapping[str, Any], names: Mapping[str, str]) -> str:
    shown = (f"{row[field]:.1f} {name}" for field, name in names.items() if row[field] is not None)
    return f"{row['layer']} {', '.join(shown)}"


def histogram() -> Spec:
    """Codes on their grid; the page puts in the bins of the layer that is looked at, as rows of
    low, high (the next bin's first code) and count."""
    return {
        "width": "container",
        "autosize": {"type": "fit-x", "contains": "padding"},
        "height": 110,
        "data": {"name": "bins"},
        "mark": {"type": "bar", "color": BLUE, "binSpacing": 1},
        "encoding": {
            "x": {
                "field": "low",
                "bin": {"binned": True},
                "type": "quantitative",
                "title": "code",
                "axis": {"format": "d", "tickMinStep": 1},
            },
            "x2": {"field": "high"},
            "y": {"field": "count", "type": "quantitative", "title": None},
            "tooltip": _tips("low", "count"),
        },
    }


def _score_axis(score: str) -> tuple[int, str]:
    """By how much a score is multiplied to be shown, and its axis' title."""
    return (100, f"{score} in %") if score == "accuracy" else (1, score)


def pareto(name: str, unit: str, points: Sequence[Mapping[str, Any]], score: str) -> Spec:
    """Accuracy in percent, or another score as it is, against a cost: `points` have run, cost, the
    score under its name, low, high (from 0 to 1), best (no other run has less cost and at least its
    score) and label, a few letters or none."""
    times, heading = _score_axis(score)
    rows = [
        {
            **point,
            **{field: times * point[field] for field in (score, "low", "high")},
            "front": "front" if point["best"] else "other",
        }
        for point in points
    ]
    title = name if unit == "1" else f"{name} in {unit}"
    scale = {"zero": False, "padding": 12}
    x = {"field": "cost", "type": "quantitative", "title": title, "scale": scale}
    y = {"type": "quantitative", "title": heading, "scale": {"zero": False}}
    colour = {
        "field": "front",
        "scale": {"domain": ["front", "other"], "range": [BLUE, ORANGE]},
        "legend": None,
    }
    shape = {
        "field": "front",
        "scale": {"domain": ["front", "other"], "range": ["circle", "cross"]},
        "legend": None,
    }
    return _spec(
        f"{numbers.heading(score)} against {name}; on the front: "
        + ", ".join(str(row["run"]) for row in rows if row["best"]),
        rows,
        height=220,
        encoding={"x": x},
        layer=[
            {
                "transform": [{"filter": "datum.best"}],
                "mark": {"type": "line", "color": BLUE, "interpolate": "step-after"},
                "encoding": {"y": {**y, "field": score}},
            },
            {
                "mark": {"type": "rule", "opacity": 0.8},
                "encoding": {
                    "y": {**y, "field": "low"},
                    "y2": {"field": "high"},
                    "color": colour,
                },
            },
            {
                "mark": {"type": "point", "filled": True, "size": 90, "opacity": 1},
                "encoding": {
                    "y": {**y, "field": score},
                    "color": colour,
                    "shape": shape,
                    "tooltip": _tips("run", "cost", score),
                },
            },
            {
                "mark": {"type": "text", "dx": -9, "dy": -9, "fontWeight": "bold"},
                "encoding": {"y": {**y, "field": score}, "text": {"field": "label"}},
            },
        ],
    )


def _tips(*fields: str) -> list[Spec]:
    return [{"field": field} for field in fields]
