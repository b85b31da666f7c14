"""Accuracy against bit operations: learned bit widths beside uniform ones.

Run with `make pareto MODEL=digits_cnn [ACCURACY=97]`; writes reports/baseline/pareto_<model>.csv
and .svg, and names the cheapest point that reaches ACCURACY (percent). Every point is a
model for `make compile`, such as digits_cnn@0.5 (`bops_weight=0.5`). Trainings that are done are
not repeated; a run that is stopped goes on where it was.
"""

from __future__ import annotations

import csv
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from flow.errors import FlowError, UsageError
from flow.options import unknown_name
from flow.plan import Events, Plan, Request
from flow.qat.result import LayerCost
from models import MODELS

SEEDS = (0, 1, 2)
WEIGHTS = ("0.5",)
UNIFORM = ("4",)
TABLES = Path("reports/baseline")


@dataclass(frozen=True)
class Point:
    """Means over the seeds; `accuracy` in percent. `bits` are the first seed's, a layer each, as
    weights x input."""

    name: str
    options: str
    accuracy: float
    bops: float
    bits: str
    each: str


def front(points: list[Point]) -> list[Point]:
    """Those that no other one beats in both accuracy and cost."""
    return [
        p
        for p in points
        if not any(
            (o.accuracy, -o.bops) != (p.accuracy, -p.bops)
            and o.accuracy >= p.accuracy
            and o.bops <= p.bops
            for o in points
        )
    ]


def cheapest(points: list[Point], accuracy: float) -> Point | None:
    """The point with the fewest bit operations that reaches `accuracy` (percent), if one does."""
    return min((p for p in points if p.accuracy >= accuracy), key=lambda p: p.bops, default=None)


def svg(points: list[Point]) -> str:
    """Accuracy (percent) over bit operations, the front in black, as an image of text."""
    width, height, margin = 640, 400, 70
    costs, scores = [p.bops for p in points], [p.accuracy for p in points]
    spans = (max(costs) - min(costs) or 1, max(scores) - min(scores) or 1)
    best = front(points)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'font-family="sans-serif" font-size="12">',
        f'<text x="{width / 2}" y="{height - 15}" text-anchor="middle">bit operations, '
        f"{min(costs):.3g} to {max(costs):.3g}</text>",
        f'<text x="15" y="20">accuracy, {min(scores):.2f} to {max(scores):.2f} %</text>',
    ]
    for point in points:
        x = margin + (width - 3 * margin) * (point.bops - min(costs)) / spans[0]
        y = height - margin - (height - 2 * margin) * (point.accuracy - min(scores)) / spans[1]
        colour = "black" if point in best else "grey"
        lines.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>')
        lines.append(f'<text x="{x + 7:.1f}" y="{y + 4:.1f}" fill="{colour}">{point.name}</text>')
    return "\n".join([*lines, "</svg>", ""])


def main(model: str, wanted: float | None) -> int:
    """Train what is missing, write table and plot."""
    if model not in MODELS:
        raise unknown_name("model", model, MODELS)
    points = [_point(f"{model}@{weight}", {}) for weight in WEIGHTS]
    points += [_point(model, {"weight_bits": bits, "act_bits": bits}) for bits in UNIFORM]
    points.sort(key=lambda point: point.bops)
    best = front(points)
    TABLES.mkdir(parents=True, exist_ok=True)
    path = TABLES / f"pareto_{model}.csv"
    with path.open("w", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow("point options accuracy bops front bits each".split())
        for p in points:
            mark = "yes" if p in best else ""
            bops = f"{p.bops:.0f}"
            writer.writerow([p.name, p.options, f"{p.accuracy:.2f}", bops, mark, p.bits, p.each])
    path.with_suffix(".svg").write_text(svg(points))
    print(path.read_text())
    if wanted is not None:
        found = cheapest(points, wanted)
        if found is None:
            raise UsageError(f"no point reaches {wanted} %; the best has {points[-1].accuracy:.2f}")
        command = f'make compile MODEL={found.name} TARGET=hls4ml OPTS="{found.options}"'
        print(f"cheapest at {wanted} %: {found.bops:.0f} bit operations\n  {command}")
    return 0


def _point(name: str, options: dict[str, str]) -> Point:
    trained = []
    for seed in SEEDS:
        plan = Plan(Request(name, "hls4ml", {**options, "seed": str(seed)}), Events())
        assert plan.trained is not None and plan.trained.accuracy is not None
        trained.append(plan.trained)
        print(f"{name} {options} seed {seed}: {100 * plan.trained.accuracy:.2f} %", flush=True)
    accuracies = [100 * (t.accuracy or 0) for t in trained]
    return Point(
        name=name,
        options=" ".join(f"{key}={value}" for key, value in options.items()),
        accuracy=mean(accuracies),
        bops=mean(t.bops for t in trained),
        bits=" ".join(_bits(cost) for cost in trained[0].costs),
        each=" ".join(f"{a:.2f}/{t.bops}" for a, t in zip(accuracies, trained, strict=True)),
    )


def _bits(cost: LayerCost) -> str:
    return f"{cost.layer}:{cost.weight_bits}x{cost.input_bits}"


if __name__ == "__main__":
    try:
        given = os.environ.get("ACCURACY", "")
        sys.exit(main(os.environ.get("MODEL", ""), float(given) if given else None))
    except FlowError as error:
        print(f"pareto: {error}", file=sys.stderr)
        sys.exit(2)
