"""`make estimate … SWEEP=…`: many options of a model and a target at once, and the best of them.

Every value of one option is combined with every value of the others. What is chosen by is each
design's upper end. Accuracy is not told by any estimate, and so every network, as the model's own
options make it, has a front of its own; so has every part.
"""

from __future__ import annotations

import csv
import io
import math
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow import packages
from flow.artifact import replace_bytes, writing_to
from flow.errors import UsageError
from flow.metric import Fit
from flow.options import split_assignments, unknown_name
from flow.outline import Outline, outline
from flow.plan import Events, Plan, Request
from flow.qat.recipe import is_recipe_option
from flow.report.numbers import figure
from flow.report.plot import Dot, cloud
from flow.spans import Spans, Swept
from flow.surrogate.front import front
from flow.surrogate.recipes import recipe_outline
from flow.target import Target

MAX_POINTS = 200_000
CHOSEN = "lut dsp latency"
_RANGE = re.compile(r"(\d{1,9})\.\.(\d{1,9})(?:([+*])(\d{1,9}))?")
_SHOWN = 8  # of a front, when printed


@dataclass(frozen=True, eq=False)
class Points:
    """All points of a sweep: their options by name, what is told of them, which network and part
    each is of, and who is on a front; `refused` are combinations that the target does not take, by
    the reason."""

    model: str
    target: str
    chosen: tuple[str, ...]
    options: tuple[Mapping[str, str], ...]
    told: Swept
    group: tuple[str, ...]
    best: NDArray[np.bool_]
    refused: Mapping[str, int]
    seconds: float
    table: Path
    plot: Path

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        counts = Counter(self.told.fits)
        yield (
            f"{self.model} on {self.target}: {len(self.options):,} points estimated in "
            f"{self.seconds:.1f} s"
        )
        yield "  " + ", ".join(f"{fit.value}: {counts[fit]:,}" for fit in Fit)
        for why, count in Counter(text for text in self.told.why if text).most_common():
            yield f"  {count:,} not known whole: {why}"
        for why, count in self.refused.items():
            yield f"  {count:,} more are refused: {why}"
        yield f"fronts by the upper ends of {', '.join(self.chosen)}, of what fits"
        fronts: dict[tuple[str, ...], list[str]] = {}
        for name in dict.fromkeys(self.group):
            fronts.setdefault(tuple(self._front(name)), []).append(name or "all")
        for lines, groups in fronts.items():
            yield "  " + ", and\n  ".join(groups)
            yield from lines
        yield f"table: {self.table}"
        yield f"plot: {self.plot}"

    def _front(self, group: str) -> Iterator[str]:
        rows = [at for at in np.flatnonzero(self.best).tolist() if self.group[at] == group]
        if not rows:
            yield "    no point fits for certain"
            return
        rows.sort(key=lambda at: tuple(self.told.costs[name][at] for name in self.chosen))
        seen: dict[str, list[int]] = {}
        for at in rows:
            costs = (self._cost(name, at) for name in self.chosen)
            seen.setdefault(", ".join(costs), []).append(at)
        for told, same in list(seen.items())[:_SHOWN]:
            own = " ".join(f"{k}={v}" for k, v in self._own(same[0]).items())
            more = f", and {len(same) - 1} more" if len(same) > 1 else ""
            yield f"    at most {told}: {own}{more}"
        if len(seen) > _SHOWN:
            yield f"    and {len(seen) - _SHOWN} more in the table"

    def _cost(self, name: str, at: int) -> str:
        unit = _unit(name, self.told)
        return f"{name} {figure(float(self.told.costs[name][at]))}{f' {unit}' if unit else ''}"

    def _own(self, at: int) -> dict[str, str]:
        """A point's options without those that its whole group has."""
        shared = set(self.group[at].split())
        return {k: v for k, v in self.options[at].items() if f"{k}={v}" not in shared}

    def to_json(self) -> dict[str, Any]:
        counts = Counter(self.told.fits)
        return {
            "schema": 1,
            "command": "estimate",
            "model": self.model,
            "target": self.target,
            "points": len(self.options),
            "fits": {fit.value: counts[fit] for fit in Fit},
            "refused": dict(self.refused),
            "chosen_by": list(self.chosen),
            "front": [
                {
                    "options": dict(self.options[at]),
                    "group": self.group[at],
                    "at_most": {name: float(self.told.costs[name][at]) for name in self.chosen},
                }
                for at in np.flatnonzero(self.best).tolist()
            ],
            "table": str(self.table),
            "plot": str(self.plot),
        }


def sweep(request: Request, axes: str, chosen: str) -> Points:
    """Estimate every combination, write table and plot.

    Args:
        axes: `reuse_factor=1..64*2 weight_bits=4,6 …`: values, `first..last`, with `+step` or
            `*factor` behind it where not all are meant.
        chosen: what designs are chosen by, such as `lut latency`.

    Raises:
        UsageError: a name, value or range is wrong, the target has nothing to sweep, or it takes
            none of the combinations.
    """
    begun = time.perf_counter()
    values = read_axes(axes)
    if twice := next((name for name in values if name in request.options), None):
        raise UsageError(f"SWEEP: {twice} is given in OPTS too; leave it out there")
    packages.require("matplotlib")
    first = Plan(request, Events())
    own = [n for n in values if first.recipe is not None and is_recipe_option(first.recipe, n)]
    variants, options, refused = _variants(first.target, values, own)
    found: list[Swept] = []
    named: list[Mapping[str, str]] = []
    groups: list[str] = []
    for combination in product(*(values[name] for name in own)):
        mine = dict(zip(own, combination, strict=True))
        told = first.target.sweep(_network(request, mine, variants[0]), variants)
        if told is None:
            raise UsageError(
                f"SWEEP is of a target whose figures depend on options before a compile, which "
                f"{request.target} is not; use TARGET=hls4ml"
            )
        found.append(told)
        named += [{**mine, **each} for each in options]
        network_name = " ".join(f"{name}={value}" for name, value in mine.items())
        parts = told.parts if "part" in values else [""] * len(variants)
        groups += [f"{network_name} {f'part={part}' if part else ''}".strip() for part in parts]
    told = _joined(found)
    names = _chosen(chosen, told)
    best = fronts(told, names, groups)
    folder = request.out or request.runs / f"sweep-{first.name}-{request.target}"
    table, plot = folder / "points.csv", folder / "front.svg"
    points = Points(
        first.name,
        request.target,
        names,
        tuple(named),
        told,
        tuple(groups),
        best,
        refused,
        time.perf_counter() - begun,
        table,
        plot,
    )
    _write(points)
    return replace(points, seconds=time.perf_counter() - begun)


def read_axes(text: str) -> dict[str, list[str]]:
    """Names of options, and the values that each is to have.

    Raises:
        UsageError: there is none, one is not of the form, or there are too many combinations.
    """
    try:
        given = split_assignments(text)
    except UsageError as error:
        raise UsageError(str(error).replace("OPTS", "SWEEP", 1)) from error
    if not given:
        raise UsageError("SWEEP must name options with values, such as reuse_factor=1..64*2")
    found = {
        name: list(dict.fromkeys(v for part in told.split(",") for v in _values(name, part)))
        for name, told in given.items()
    }
    if (count := int(np.prod([float(len(values)) for values in found.values()]))) > MAX_POINTS:
        raise UsageError(f"SWEEP: {count:,} combinations are too many, at most {MAX_POINTS:,} are")
    return found


def _values(name: str, part: str) -> list[str]:
    if not part:
        raise UsageError(f"SWEEP: {name} has an empty value: values are parted by one comma each")
    if ".." not in part:
        return [part]
    match = _RANGE.fullmatch(part)
    if match is None:
        raise UsageError(
            f"SWEEP: {name} must be values, or like 2..14, 2..14+2 or 1..64*2, not {part!r}"
        )
    low, high, sign, step = int(match[1]), int(match[2]), match[3], int(match[4] or 1)
    if high < low or step < (2 if sign == "*" else 1) or (sign == "*" and not low):
        raise UsageError(f"SWEEP: {name}={part} must ascend")
    if sign != "*":
        if (high - low) // step >= MAX_POINTS:
            raise UsageError(f"SWEEP: {name}={part} has more than {MAX_POINTS:,} values")
        return [str(value) for value in range(low, high + 1, step)]
    found = [low]
    while found[-1] * step <= high:
        found.append(found[-1] * step)
    return [str(value) for value in found]


def _variants(
    target: Target, values: Mapping[str, Sequence[str]], own: Sequence[str]
) -> tuple[list[Target], list[Mapping[str, str]], dict[str, int]]:
    """The target with all combinations of its own options, and what it refuses."""
    names = [name for name in values if name not in own]
    known = (*target.option_names(), *target.layer_options)
    for name in names:
        if name.rpartition(".")[2] not in known:
            raise unknown_name("option", name, known)
    variants: list[Target] = []
    options: list[Mapping[str, str]] = []
    refused: Counter[str] = Counter()
    for combination in product(*(values[name] for name in names)):
        told = dict(zip(names, combination, strict=True))
        try:
            variants.append(target.with_options(told))
            options.append(told)
        except UsageError as error:
            refused[re.sub(r"\d+", "N", str(error))] += 1
    if not variants:
        raise UsageError(f"SWEEP: {next(iter(refused))}; of no combination anything can be told")
    return variants, options, dict(refused)


def _network(request: Request, mine: Mapping[str, str], target: Target) -> Outline:
    """The network that the model's own options give."""
    plan = Plan(replace(request, options={**request.options, **mine}), Events())
    if plan.recipe is not None:
        return recipe_outline(plan.recipe)
    graph = plan.imported.graph
    if offences := target.check(graph):
        raise UsageError(f"SWEEP: {plan.name} is not supported: {offences[0].reason}")
    return outline(graph)


def _joined(found: Sequence[Swept]) -> Swept:
    figures = {
        name: Spans(
            *(
                np.concatenate([getattr(each.figures[name], end) for each in found])
                for end in ("low", "likely", "high")
            )
        )
        for name in found[0].figures
    }
    costs = {name: np.concatenate([each.costs[name] for each in found]) for name in found[0].costs}
    return Swept(
        figures,
        found[0].units,
        costs,
        tuple(part for each in found for part in each.parts),
        tuple(fit for each in found for fit in each.fits),
        tuple(why for each in found for why in each.why),
    )


def _chosen(text: str, told: Swept) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(text.replace(",", " ").split()))
    if not names:
        raise UsageError(f"FRONT must name figures, such as {CHOSEN}")
    for name in names:
        if name not in told.costs:
            raise unknown_name("figure of FRONT", name, told.costs)
    return names


def fronts(told: Swept, chosen: Sequence[str], groups: Sequence[str]) -> NDArray[np.bool_]:
    """Of the points that fit, those that no other of their group is better than."""
    costs = np.column_stack([told.costs[name] for name in chosen])
    fits = np.array([fit is Fit.FITS for fit in told.fits])
    rows: dict[str, list[int]] = {}
    for at in np.flatnonzero(fits).tolist():
        rows.setdefault(groups[at], []).append(at)
    best = np.zeros(len(fits), dtype=bool)
    for of in rows.values():
        best[of] = front(costs[of])
    return best


def _write(points: Points) -> None:
    told, names = points.told, tuple(points.options[0])
    x, y = points.chosen[0], points.chosen[-1]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    ends = ("low", "likely", "high")
    heads = [f"{n}, {u}" if (u := told.units[n]) != "1" else n for n in told.figures]
    writer.writerow(
        [*names, "fit", "front", *(f"{name} {end}" for name in heads for end in ends), "unknown"]
    )
    numbers = np.column_stack([getattr(s, end) for s in told.figures.values() for end in ends])
    for at, row in enumerate(numbers.tolist()):
        told_of = ["" if math.isnan(value) else f"{value:.6g}" for value in row]
        given = [points.options[at][name] for name in names]
        mark = "yes" if points.best[at] else ""
        writer.writerow([*given, told.fits[at].value, mark, *told_of, told.why[at]])
    dots = [
        Dot(float(told.costs[x][at]), float(told.costs[y][at]), points.group[at], bool(best))
        for at, best in enumerate(points.best)
        if told.fits[at] is Fit.FITS
    ]
    title = f"{points.model} on {points.target}: what fits, at most"
    drawn = cloud(dots, title, *(", ".join(filter(None, (n, _unit(n, told)))) for n in (x, y)))
    with writing_to(points.table.parent):
        points.table.parent.mkdir(parents=True, exist_ok=True)
        replace_bytes(points.table, text.getvalue().encode())
        replace_bytes(points.plot, drawn.encode())


def _unit(name: str, told: Swept) -> str:
    """Of what designs are chosen by; empty of counts."""
    unit = told.units[name]
    return "" if unit == "1" else unit
