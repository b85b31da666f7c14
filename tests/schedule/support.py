"""Small platforms, tables and traces, drawn or fixed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from flow.schedule.generators import (
    Bursty,
    ClosedLoop,
    Demand,
    Diurnal,
    Generator,
    Interactive,
    Periodic,
    Poisson,
)
from flow.schedule.platform import (
    USER,
    Cluster,
    IdleState,
    Kind,
    Load,
    OperatingPoint,
    Platform,
)
from flow.schedule.platform_file import load_platform
from flow.schedule.trace import Trace
from flow.schedule.work import Run, Table, Variant, make_table

MISS_MJ = 1000.0
MODELS = ("small", "middle", "large")
DEMANDS = (
    Demand("small", 60_000, 0.6),
    Demand("middle", 150_000, 0.3),
    Demand("large", 350_000, 0.1),
)
# of each kind one, busy enough that requests wait for each other
GENERATORS: dict[str, Generator] = {
    "poisson": Poisson(120),
    "bursty": Bursty(120),
    "periodic": Periodic(60, 30),
    "interactive": Interactive(60, 5, 20, 500),
    "diurnal": Diurnal(100, 0.8, 30),
    "closed": ClosedLoop(20),
}


def xu3(extras: bool = True) -> Platform:
    platform = load_platform("odroid-xu3", {"p_awake_mw": 0.0, "migration_us": 50.0})
    return platform if extras else platform.without_extras()


def xu3_table(platform: Platform) -> Table:
    """Three models, of each a right variant, and of the large one a quicker that is less right."""
    variants = [
        Variant("small", "tflite", "small8", 90.0, Load.COMPUTE, 8_000),
        Variant("middle", "tflite", "middle8", 92.0, Load.MIXED, 30_000),
        Variant("large", "tflite", "large8", 95.0, Load.COMPUTE, 70_000),
        Variant("large", "tflite", "large4", 93.0, Load.COMPUTE, 40_000),
    ]
    return make_table(platform, variants, MODELS)


def point(mhz: float, idle: float, busy: float, speed: float) -> OperatingPoint:
    return OperatingPoint(mhz, None, idle, {Load.COMPUTE: busy}, {Load.COMPUTE: speed}, USER)


def idle_state(name: str, mw: float | None, entry: int, leave: int, residency: int) -> IdleState:
    return IdleState(name, mw, entry, leave, residency, USER)


def platform_of(clusters: tuple[Cluster, ...], awake: float, migration: int) -> Platform:
    return Platform("drawn", "drawn", "cpu", awake, 20.0, migration, clusters, (), {})


@st.composite
def platforms(draw: st.DrawFn) -> Platform:
    """One or two clusters with everything that costs something."""
    clusters = []
    for name in ("little", "big")[: draw(st.integers(1, 2))]:
        count = draw(st.integers(1, 3))
        points = tuple(
            point(
                200.0 * (k + 1),
                draw(st.floats(0, 50)),
                draw(st.floats(1, 900)),
                draw(st.floats(0.1, 2.0)),
            )
            for k in range(count)
        )
        states = [
            idle_state("wfi", draw(st.none() | st.floats(0, 60)), 0, draw(st.integers(0, 3)), 0)
        ]
        if draw(st.booleans()):
            entry = draw(st.integers(0, 400))
            leave, residency = draw(st.integers(0, 900)), draw(st.integers(0, 3000))
            states.append(idle_state("off", draw(st.floats(0, 10)), entry, leave, residency))
        transition = draw(st.integers(0, 500)) if count > 1 else 0
        clusters.append(Cluster(name, Kind.DVFS_CPU, 4, transition, points, tuple(states)))
    migration = draw(st.integers(0, 900)) if len(clusters) > 1 else 0
    return platform_of(tuple(clusters), draw(st.floats(0, 200)), migration)


@st.composite
def tables(draw: st.DrawFn, platform: Platform, batches: bool = False) -> Table:
    """Two models; the second has two variants, of which one is less right. With `batches`, actions
    take less behind their like, and are believed to."""
    times = {name: draw(st.integers(200, 20_000)) for name in ("a", "b", "c")}
    rows = (("one", "a", 90.0), ("two", "b", 95.0), ("two", "c", 80.0))
    variants = [Variant(m, "t", n, right, Load.COMPUTE, times[n]) for m, n, right in rows]
    table = make_table(platform, variants, ("one", "two"))
    if not batches:
        return table
    count = len(table.actions)
    real, told = (
        np.maximum(
            1,
            table.time_us
            * draw(st.lists(st.integers(1, 100), min_size=count, max_size=count))
            // 100,
        )
        for _ in range(2)
    )
    return replace(table, next_us=real, predicted_next_us=told)


@st.composite
def traces(draw: st.DrawFn, most: int, closed: bool | None = None) -> Trace:
    count = draw(st.integers(1, most))
    gaps = draw(st.lists(st.integers(0, 60_000), min_size=count, max_size=count))
    allowed = draw(st.lists(st.integers(0, 80_000), min_size=count, max_size=count))
    model = draw(st.lists(st.integers(0, 1), min_size=count, max_size=count))
    floors = draw(st.lists(st.sampled_from([0.0, 85.0]), min_size=count, max_size=count))
    arrival = np.cumsum(gaps).astype(np.int64)
    return Trace(
        arrival,
        arrival + np.array(allowed, np.int64),
        np.array(model, np.int32),
        np.array(floors),
        np.zeros(count, np.int32),
        np.zeros(count, np.int8),
        ("one", "two"),
        "drawn",
        closed=draw(st.booleans()) if closed is None else closed,
    )


def works(trace: Trace, seed: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """How much longer requests take than the table says: 5 %, lognormal."""
    drawn: np.ndarray[tuple[int], np.dtype[np.float64]]
    drawn = np.random.default_rng(seed).lognormal(0, 0.05, len(trace))
    return drawn


def one_model(platform: Platform, runs: dict[str, Run]) -> Table:
    return make_table(platform, [Variant("m", "t", "v", 90.0, runs=runs)], ("m",))
