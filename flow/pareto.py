"""The command that looks for the cheapest bits: learned bit widths beside uniform ones."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flow import packages
from flow.artifact import replace_bytes, writing_to
from flow.cost import rounding_bits
from flow.errors import UsageError
from flow.importer import import_qonnx
from flow.onnx_file import read
from flow.options import unknown_name
from flow.plan import Events, Request, Source
from flow.qat.formats import ActRounding
from flow.qat.pareto import Point, Trained, cheapest, front, table
from flow.qat.result import LayerCost
from flow.report.plot import Mark, scatter
from models import MODELS

SEEDS = 3
WEIGHTS = ("0.5", "2")  # bops_weight: learned bits
UNIFORM = ("3", "4")  # bits of all weights and activations
_REFERENCE = "4"  # uniform bits that the others are compared with


@dataclass(frozen=True)
class Search:
    """What to train: a model's name, bops weights, uniform bits, how many seeds, from 0 on. Every
    point is trained rounding half to even and, with `floors`, rounding down as well."""

    model: str
    weights: Sequence[str] = WEIGHTS
    uniform: Sequence[str] = UNIFORM
    seeds: int = SEEDS
    floors: bool = True

    def points(self) -> list[tuple[str, dict[str, str]]]:
        """MODEL and OPTS of every point; the one of 4 bits everywhere is always there, first."""
        bits = dict.fromkeys((_REFERENCE, *self.uniform))
        named: list[tuple[str, dict[str, str]]] = [
            (self.model, {"weight_bits": b, "act_bits": b}) for b in bits
        ]
        named += [(f"{self.model}@{weight}", {}) for weight in dict.fromkeys(self.weights)]
        floor = {"rounding": ActRounding.FLOOR.value}
        return [*named, *((name, {**o, **floor}) for name, o in named if self.floors)]


@dataclass(frozen=True)
class Front:
    """The points, cheapest first, where table and plot were written, and the point asked for."""

    points: tuple[Point, ...]
    table: Path
    plot: Path
    wanted: float | None
    found: Point | None

    def __str__(self) -> str:
        text = self.table.read_text(encoding="utf-8") + f"plot: {self.plot}"
        if self.found is None:
            return text
        opts = f' OPTS="{self.found.options}"' if self.found.options else ""
        return (
            f"{text}\ncheapest at {self.wanted:g} %: {self.found.cost:.0f} bit operations, "
            f"{self.found.accuracy:.2f} %\n  make compile MODEL={self.found.name} "
            f"TARGET=hls4ml{opts}"
        )

    def to_json(self) -> dict[str, Any]:
        best = front(self.points)
        rows = [
            {
                "model": p.name,
                "options": p.options,
                "accuracy": p.accuracy / 100,
                "bops": p.bops,
                "cost": p.cost,
                "front": p in best,
            }
            for p in self.points
        ]
        found = self.found and {"model": self.found.name, "options": self.found.options}
        return {"schema": 1, "command": "pareto", "points": rows, "cheapest": found}


def search(
    given: Search, accuracy: float | None, runs: Path, tables: Path, events: Events
) -> Front:
    """Train what is missing, write table and plot into `tables`.

    Raises:
        UsageError: an unknown model, a wrong weight or number of bits, or no point reaches
            `accuracy` (percent); the table is written all the same.
    """
    if given.model not in MODELS:
        raise unknown_name("model", given.model, MODELS)
    if MODELS[given.model]().reconstructs:
        raise UsageError(f"{given.model} has no classes: bits are chosen by accuracy only")
    if not 1 <= given.seeds <= 100:
        raise UsageError(f"--seeds must be from 1 to 100, not {given.seeds}")
    packages.require("matplotlib")
    plans = [
        (name, options, [_source(name, options, seed, runs, events) for seed in range(given.seeds)])
        for name, options in given.points()
    ]  # every option is checked before the first training
    total, done = len(plans) * given.seeds, 0
    points = []
    for name, options, sources in plans:
        text = " ".join(f"{key}={value}" for key, value in options.items())
        seeds = []
        for seed, source in enumerate(sources):
            seeds.append(_measured(source))
            done += 1
            events.note(
                f"{done} of {total}: {f'{name} {text}'.strip()} seed {seed}: "
                f"{seeds[-1].accuracy:.2f} %, {seeds[-1].cost} bit operations"
            )
        points.append(Point(name, text, tuple(seeds)))
    written = _write(points, given.model, tables)
    found = None if accuracy is None else cheapest(points, accuracy)
    if accuracy is not None and found is None:
        best = max(points, key=lambda p: p.accuracy)
        raise UsageError(
            f"no point reaches {accuracy:g} %; the best, {best.name} {best.options}, has "
            f"{best.accuracy:.2f} % (all points: {written[0]})"
        )
    return Front(tuple(sorted(points, key=lambda p: p.cost)), *written, accuracy, found)


def _source(name: str, options: dict[str, str], seed: int, runs: Path, events: Events) -> Source:
    return Source(Request(name, "", {**options, "seed": str(seed)}, runs=runs), events)


def _measured(source: Source) -> Trained:
    trained = source.trained
    assert trained is not None
    if trained.accuracy is None:
        raise UsageError("option untrained: an untrained network has no accuracy; leave it out")
    rounding = rounding_bits(import_qonnx(read(trained.model), source.name).graph)
    return Trained(
        accuracy=100 * trained.accuracy,
        bops=trained.bops,
        rounding=sum(rounding.values()),
        bits=" ".join(_bits(cost) for cost in trained.costs),
    )


def _bits(cost: LayerCost) -> str:
    return f"{cost.layer}:{cost.weight_bits}x{cost.input_bits}"


def _label(point: Point, model: str) -> str:
    """What tells a point from the others of its model: `@0.5`, `4 bits`, with `floor` behind it."""
    options = dict(pair.split("=") for pair in point.options.split())
    bits = f"{options['weight_bits']} bits" if "weight_bits" in options else ""
    return " ".join(filter(None, (point.name.removeprefix(model), bits, options.get("rounding"))))


def _write(points: Sequence[Point], model: str, tables: Path) -> tuple[Path, Path]:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(table(points, points[0]))
    best = front(points)
    marks = [
        Mark(
            x=p.cost,
            y=p.accuracy,
            low=min(seed.accuracy for seed in p.seeds),
            high=max(seed.accuracy for seed in p.seeds),
            label=_label(p, model),
            best=p in best,
        )
        for p in points
    ]
    drawn = scatter(
        marks,
        f"{model}: mean and range of {len(points[0].seeds)} seeds",
        "bit operations of one inference",
        "test accuracy, %",
    )
    paths = tables / f"pareto_{model}.csv", tables / f"pareto_{model}.svg"
    with writing_to(tables):
        tables.mkdir(parents=True, exist_ok=True)
        for path, content in zip(paths, (text.getvalue(), drawn), strict=True):
            replace_bytes(path, content.encode())
    return paths
