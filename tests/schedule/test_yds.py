"""YDS with the split over the hull against the linear program, which HiGHS solves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from flow.errors import UsageError
from flow.schedule.generators import Demand, Poisson, generate
from flow.schedule.oracle import bounds
from flow.schedule.platform import Load, Way, hull, undominated, ways
from flow.schedule.work import FloatArray, Variant, make_table
from flow.schedule.yds import optimum, speeds
from tests.schedule.support import xu3


def by_linear_program(
    release: FloatArray, deadline: FloatArray, work: FloatArray, found: tuple[Way, ...]
) -> float:
    """y_jk: how long job j runs at point k. What lies inside an interval must fit into it."""
    jobs, points = len(work), len(found)
    speed = np.array([way.speed for way in found])
    cost = np.tile([way.mw * 1e-6 for way in found], jobs)
    all_work = np.zeros((jobs, jobs * points))
    for j in range(jobs):
        all_work[j, j * points : (j + 1) * points] = speed
    rows, room = [], []
    for begin in release:
        for end in deadline:
            inside = (release >= begin) & (deadline <= end)
            if inside.any():
                rows.append(np.repeat(inside, points).astype(float))
                room.append(end - begin)
    done = linprog(cost, np.array(rows), room, all_work, work, method="highs")
    assert done.success, done.message
    return float(done.fun)


@given(st.integers(1, 8), st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_yds_is_the_linear_program(count: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    release = random.uniform(0, 200_000, count)
    deadline = release + random.uniform(30_000, 150_000, count)
    work = random.uniform(500, 3_000, count)
    points = ways(xu3(extras=False), Load.COMPUTE)
    ours = optimum(release, deadline, work, points)
    assert ours.energy_mj == pytest.approx(by_linear_program(release, deadline, work, points))


def test_critical_intervals_by_hand() -> None:
    """The inner job is the densest; the outer one has what is left of its time."""
    found = speeds(np.array([0.0, 4.0]), np.array([10.0, 6.0]), np.array([4.0, 2.0]))
    assert found.tolist() == [0.5, 1.0]


def test_interrupting_and_mixing_never_cost_more() -> None:
    """YDS is below every schedule without a miss of one point a request."""
    platform = xu3(extras=False)
    trace = generate(Poisson(200), [Demand("m", 300_000)], 200, 3)
    table = make_table(platform, [Variant("m", "t", "v", 90.0, Load.COMPUTE, 20_000)], trace.models)
    best = bounds(trace, table, platform, 1e9, 10)
    assert best.upper_mj < 1e9  # without a miss
    least = optimum(
        trace.arrival_us.astype(float), trace.deadline_us.astype(float),
        np.full(200, 20_000.0), ways(platform, Load.COMPUTE),
    )  # fmt: skip
    assert 0.5 * best.lower_mj < least.energy_mj <= best.upper_mj


def test_the_hull_of_the_odroid_is_what_it_was_found_to_be() -> None:
    platform = replace(xu3(extras=False), p_awake_mw=0.0)
    found = [
        (platform.clusters[w.cluster].name, platform.clusters[w.cluster].points[w.point].mhz)
        for w in hull(ways(platform, Load.COMPUTE))
    ]
    little = [("little", float(mhz)) for mhz in (200, *range(500, 1401, 100))]
    big = [("big", float(mhz)) for mhz in (1300, *range(1500, 2001, 100))]
    assert found == little + big
    chosen = undominated(ways(platform, Load.COMPUTE))
    assert {w.point for w in chosen if w.cluster == 0} == set(range(13))
    assert {platform.clusters[1].points[w.point].mhz for w in chosen if w.cluster} == {
        float(mhz) for mhz in range(900, 2001, 100)
    }


@pytest.mark.parametrize(
    ("release", "deadline", "work", "message"),
    [
        ([0.0], [0.0], [1.0], "each deadline must be after its release"),
        ([0.0], [1.0], [0.0], "work above 0"),
        ([0.0, 1.0], [1.0], [1.0], "must be as many"),
        ([0.0], [float("nan")], [1.0], "must be numbers"),
        ([0.0], [10.0], [11.0], "job 1 needs speed 1.1"),
    ],
)
def test_what_cannot_be_scheduled_is_refused(
    release: list[float], deadline: list[float], work: list[float], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        optimum(
            np.array(release), np.array(deadline), np.array(work),
            ways(xu3(extras=False), Load.COMPUTE),
        )  # fmt: skip
