"""What can be done for a request: variants of models, and the table of what each action costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from flow.errors import UsageError
from flow.options import unknown_name
from flow.schedule.platform import Load, OperatingPoint, Platform

MAX_ACTIONS = 1 << 16
MAX_US = 1 << 40  # of one inference: twelve days

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Run:
    """What an inference takes on one cluster, by point: microseconds, and millijoules above what
    the cluster draws idle at the point; None where the point's power of the load is what counts.
    `next_us` is what one takes that follows without a pause on another one of the same variant and
    point, at the same power, so that a batch of n takes time_us + (n - 1) * next_us; None where
    that gains nothing."""

    time_us: tuple[float, ...]
    energy_mj: tuple[float, ...] | None = None
    next_us: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Variant:
    """One compiled artifact of a model: `accuracy` as delivered, in percent. What it takes is given
    on each cluster that can run it (`runs`, by name), or once at the platform's fastest point for
    its `load` (`reference_us`): then times follow from speeds, on every cluster that has some."""

    model: str
    target: str
    name: str
    accuracy: float
    load: Load = Load.COMPUTE
    reference_us: float | None = None
    runs: Mapping[str, Run] | None = None

    def __post_init__(self) -> None:
        if (self.reference_us is None) == (self.runs is None):
            raise UsageError(f"variant {self.name}: give either reference_us or runs")
        if not math.isfinite(self.accuracy):
            raise UsageError(f"variant {self.name}: accuracy must be a number, not {self.accuracy}")


class Action(NamedTuple):
    """Indices: the variant in `Table.variants`, the cluster and its point in the platform."""

    variant: int
    cluster: int
    point: int


_Row = tuple[Action, int, int, int, int, float]  # times, predicted, each also next; power


@dataclass(frozen=True, eq=False)
class Table:
    """Every action and what it costs. Actions of one model stand together, in order of `models`;
    those of model m are actions[start[m] : start[m + 1]]. All arrays are by action:

    `time_us` what it takes, `predicted_us` what policies believe that it takes, and `next_us` and
    `predicted_next_us` the same where it follows without a pause on a request of the same action;
    `power_mw` what it draws above the platform's floor while it runs; `accuracy` of its variant.
    """

    models: tuple[str, ...]
    variants: tuple[Variant, ...]
    actions: tuple[Action, ...]
    start: IntArray
    time_us: IntArray
    predicted_us: IntArray
    next_us: IntArray
    predicted_next_us: IntArray
    power_mw: FloatArray
    accuracy: FloatArray

    @property
    def energy_mj(self) -> FloatArray:
        """Above the platform's floor, of one inference."""
        return self.time_us * self.power_mw * 1e-6

    @property
    def batches(self) -> bool:
        """Whether some action takes less where it follows on itself."""
        return bool((self.next_us < self.time_us).any())

    def allowed(self, model: int, min_accuracy: float) -> IntArray:
        """The actions that a request may choose from."""
        span = np.arange(self.start[model], self.start[model + 1])
        return span[self.accuracy[span] >= min_accuracy]

    def check_floor(self, where: str, model: NDArray[np.int32], min_accuracy: FloatArray) -> None:
        """Raises UsageError for the first request whose floor no variant of its model meets."""
        best = np.maximum.reduceat(self.accuracy, self.start[:-1])
        short = min_accuracy > best[model]
        if short.any():
            request = int(np.argmax(short))
            name, floor = self.models[model[request]], min_accuracy[request]
            raise UsageError(
                f"{where}: row {request + 1}: min_accuracy {floor:g} is met by no variant of "
                f"{name}; the best has {best[model[request]]:g}"
            )


def make_table(
    platform: Platform,
    variants: Sequence[Variant],
    models: Sequence[str],
    predicted: Sequence[Variant] | None = None,
) -> Table:
    """The table for a trace of `models`. `predicted` are the same variants with the times that
    policies shall believe; without them they know the true ones.

    Raises:
        UsageError: a model without a variant, a variant that no cluster can run, times that are not
            above 0, or `predicted` that are other variants.
    """
    believed = list(variants if predicted is None else predicted)
    if [(v.model, v.name) for v in believed] != [(v.model, v.name) for v in variants]:
        raise UsageError("predicted variants must be the same as the variants, in their order")
    rows: list[_Row] = []
    start = [0]
    for model in models:
        own = [index for index, variant in enumerate(variants) if variant.model == model]
        if not own:
            raise UsageError(f"model {model!r} of the trace has no variant")
        for index in own:
            rows += _actions(platform, index, variants[index], believed[index])
        start.append(len(rows))
    if len(rows) > MAX_ACTIONS:
        raise UsageError(f"there must be at most {MAX_ACTIONS:,} actions, not {len(rows):,}")
    return Table(
        tuple(models),
        tuple(variants),
        tuple(row[0] for row in rows),
        np.array(start, np.int64),
        np.array([row[1] for row in rows], np.int64),
        np.array([row[2] for row in rows], np.int64),
        np.array([row[3] for row in rows], np.int64),
        np.array([row[4] for row in rows], np.int64),
        np.array([row[5] for row in rows], np.float64),
        np.array([variants[row[0].variant].accuracy for row in rows], np.float64),
    )


def measured_variants(
    platform: Platform, task: str, accuracy: Mapping[str, float] | None = None
) -> tuple[Variant, ...]:
    """Variants of the model `task` from the designs that somebody measured on the platform. Of an
    energy what the cluster draws idle anyway is taken off; `accuracy` by design's name is for those
    of which nobody told it.

    Raises:
        UsageError: no such task, or a design without accuracy.
    """
    tasks = sorted({design.task for design in platform.designs})
    if task not in tasks:
        raise unknown_name(f"task of {platform.name}", task, tasks)
    found = []
    for design in platform.designs:
        if design.task != task:
            continue
        right = (accuracy or {}).get(design.name, design.accuracy)
        if right is None:
            raise UsageError(
                f"platform {platform.name}: design {design.name} has no accuracy; give one"
            )
        (held,) = (c for c in platform.clusters if c.name == design.cluster)
        us = 1e6 / design.per_second
        above = tuple(max(0.0, design.energy_mj - p.idle_mw * us * 1e-6) for p in held.points)
        runs = {design.cluster: Run((us,) * len(above), above)}
        found.append(Variant(task, held.kind.value, design.name, right, runs=runs))
    return tuple(found)


def _actions(platform: Platform, index: int, variant: Variant, believed: Variant) -> list[_Row]:
    """Of every cluster that can run the variant."""
    found: list[_Row] = []
    for c, cluster in enumerate(platform.clusters):
        run, guess = _run(platform, variant, c), _run(platform, believed, c)
        if run is None or guess is None:
            continue
        for p, point in enumerate(cluster.points):
            time = _whole(variant, run.time_us[p])
            if run.energy_mj is None:
                mw = platform.awake_mw(c, p) + _busy(platform, variant, cluster.name, point)
            else:
                mw = platform.awake_mw(c, p) + run.energy_mj[p] * 1e6 / time
            told = time, _whole(believed, guess.time_us[p])
            found.append(
                (Action(index, c, p), *told, _next(run, p, time), _next(guess, p, told[1]), mw)
            )
    if not found:
        raise UsageError(
            f"variant {variant.name} of {variant.model}: no cluster of {platform.name} can run it"
        )
    return found


def _next(run: Run, point: int, time: int) -> int:
    """What an inference takes behind another one, at the most what it takes alone."""
    return time if run.next_us is None else min(time, max(1, round(run.next_us[point])))


def _run(platform: Platform, variant: Variant, cluster: int) -> Run | None:
    held = platform.clusters[cluster]
    if variant.runs is not None:
        run = variant.runs.get(held.name)
        for name in variant.runs:
            platform.cluster(name)  # a name that is unknown is refused
        for values in () if run is None else (run.time_us, run.energy_mj, run.next_us):
            if values is None:
                continue
            if len(values) != len(held.points):
                raise UsageError(
                    f"variant {variant.name}: must have a value for each of {len(held.points)} "
                    f"points of {held.name}, not {len(values)}"
                )
        for mj in (run.energy_mj or ()) if run else ():
            if not (math.isfinite(mj) and mj >= 0):
                raise UsageError(f"variant {variant.name}: energy must not be negative, not {mj}")
        for us in (run.next_us or ()) if run else ():
            if not (math.isfinite(us) and us > 0):
                raise UsageError(f"variant {variant.name}: next_us must be above 0, not {us}")
        return run
    assert variant.reference_us is not None
    if any(variant.load not in point.speed for point in held.points):
        return None
    c, p = platform.reference(variant.load)
    full = platform.clusters[c].points[p].speed[variant.load]
    return Run(tuple(variant.reference_us * full / pt.speed[variant.load] for pt in held.points))


def _whole(variant: Variant, us: float) -> int:
    if not (math.isfinite(us) and 0 < us <= MAX_US):
        raise UsageError(
            f"variant {variant.name}: times must be above 0 and at most {MAX_US:,} us, not {us}"
        )
    return max(1, round(us))


def _busy(platform: Platform, variant: Variant, cluster: str, point: OperatingPoint) -> float:
    if variant.load not in point.busy_mw:
        raise UsageError(
            f"variant {variant.name}: {platform.name} has no busy_mw of {cluster} for load "
            f"{variant.load.value}; give runs with energies"
        )
    return point.busy_mw[variant.load]
