"""The oracle against brute force and HiGHS, and the theorems that hold of it."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds as Range
from scipy.optimize import LinearConstraint, milp
from scipy.sparse import lil_matrix

from flow.errors import UsageError
from flow.schedule.engine import simulate
from flow.schedule.generators import Demand, Interactive, generate
from flow.schedule.oracle import Capped, bounds
from flow.schedule.platform import Platform
from flow.schedule.policies import POLICIES, find_policy
from flow.schedule.policies.base import Governor
from flow.schedule.policies.predictive import Replay, Tight
from flow.schedule.trace import Trace
from flow.schedule.work import FloatArray, Table, make_table
from tests.schedule.support import (
    DEMANDS,
    GENERATORS,
    MISS_MJ,
    platforms,
    tables,
    traces,
    works,
    xu3,
    xu3_table,
)

LAST_DIGITS = 1 + 1e-8


@pytest.mark.parametrize("generator", GENERATORS)
def test_bounds_enclose_the_optimum_and_no_policy_is_below(generator: str) -> None:
    """On a platform where nothing but running costs anything, and on the platform as it is."""
    trace = generate(GENERATORS[generator], DEMANDS, 300, 11)
    ideal, real = xu3(extras=False), xu3()
    table, work = xu3_table(ideal), works(trace, 2)
    coarse = bounds(trace, table, ideal, MISS_MJ, 500, work)
    fine = bounds(trace, table, ideal, MISS_MJ, 20, work)
    mixed = bounds(trace, table, ideal, MISS_MJ, 500, work, mixing=True)
    assert coarse.exact and not mixed.exact and mixed.name == "relaxed bound"
    assert mixed.lower_mj <= coarse.lower_mj <= fine.lower_mj * LAST_DIGITS
    assert fine.lower_mj <= fine.upper_mj <= coarse.upper_mj * LAST_DIGITS
    assert alone(trace, table, work) <= coarse.lower_mj * LAST_DIGITS
    assert replayed(coarse.actions, trace, table, ideal, work) <= coarse.upper_mj
    relaxed = bounds(trace, table, real, MISS_MJ, 500, work)
    assert not relaxed.exact and relaxed.lower_mj == coarse.lower_mj
    again = replayed(relaxed.actions, trace, table, real, work)
    assert coarse.lower_mj <= again <= relaxed.upper_mj == pytest.approx(again, rel=1e-8)
    assert relaxed.gap < 0.3  # leaving no time for stalls, it would be above 0.6 on most traces
    for name in POLICIES:
        policy = find_policy(name)
        lower = mixed.lower_mj if isinstance(policy, Governor) else coarse.lower_mj
        for platform in (ideal, real):
            cost = simulate(policy, trace, table, platform, work).cost_mj(MISS_MJ)
            assert lower <= cost, (name, platform.has_extras)


def replayed(
    actions: np.ndarray[tuple[int], np.dtype[np.int32]],
    trace: Trace, table: Table, platform: Platform, work: FloatArray | None = None,
    penalty: float = MISS_MJ,
) -> float:  # fmt: skip
    return simulate(Replay(actions), trace, table, platform, work).cost_mj(penalty)


def alone(trace: Trace, table: Table, work: FloatArray) -> float:
    """What every request would cost if it were the only one."""
    total = 0.0
    for i in range(len(trace)):
        own = table.allowed(int(trace.model[i]), float(trace.min_accuracy[i]))
        us = np.maximum(1, (table.time_us[own] * work[i] + 0.5).astype(np.int64))
        late = us > trace.deadline_us[i] - trace.arrival_us[i]
        total += float((us * table.power_mw[own] * 1e-6 + MISS_MJ * late).min())
    return total


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_a_grid_of_a_microsecond_is_brute_force(data: st.DataObject) -> None:
    platform = data.draw(platforms()).without_extras()
    table, trace = data.draw(tables(platform)), data.draw(traces(4))
    penalty = data.draw(st.sampled_from([0.0, 1.0, 30.0]))
    found = bounds(trace, table, platform, penalty, 1)
    options = [
        table.allowed(int(m), float(f)).tolist()
        for m, f in zip(trace.model, trace.min_accuracy, strict=True)
    ]
    best = min(by_hand(choice, trace, table, penalty) for choice in itertools.product(*options))
    assert found.lower_mj == pytest.approx(best, rel=1e-8)
    assert found.upper_mj == pytest.approx(best, rel=1e-8)
    names = [name for name in POLICIES if not isinstance(find_policy(name), Governor)]
    policy = find_policy(data.draw(st.sampled_from(names)))
    assert best <= simulate(policy, trace, table, platform).cost_mj(penalty) * LAST_DIGITS


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_batches_leave_a_relaxed_bound(data: st.DataObject) -> None:
    """The best of all sequences of actions lies between the two, and no policy is below."""
    platform = data.draw(platforms()).without_extras()
    table, trace = data.draw(tables(platform, batches=True)), data.draw(traces(3))
    found = bounds(trace, table, platform, 30.0, 1)
    if table.batches:
        assert not found.exact and "every request follows on its like" in found.why
    options = [
        table.allowed(int(m), float(f)).tolist()
        for m, f in zip(trace.model, trace.min_accuracy, strict=True)
    ]
    best = min(
        replayed(np.array(choice, np.int32), trace, table, platform, penalty=30.0)
        for choice in itertools.islice(itertools.product(*options), 2000)
    )
    assert found.lower_mj <= best * LAST_DIGITS
    if np.prod([len(own) for own in options]) <= 2000:
        assert best <= found.upper_mj * LAST_DIGITS
    policy = find_policy(data.draw(st.sampled_from(["price", "predictive", "gated"])))
    assert found.lower_mj <= simulate(policy, trace, table, platform).cost_mj(30.0)


def by_hand(choice: tuple[int, ...], trace: Trace, table: Table, penalty: float) -> float:
    now, cost, before = 0, 0.0, 0
    for i, action in enumerate(choice):
        arrival, deadline = int(trace.arrival_us[i]), int(trace.deadline_us[i])
        if trace.closed:
            begin = now + arrival - before
            before, deadline = arrival, begin + deadline - arrival
        else:
            begin = max(now, arrival)
        now = begin + int(table.time_us[action])
        cost += float(table.energy_mj[action]) + penalty * (now > deadline)
    return cost


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_coarse_grids_enclose_the_optimum(data: st.DataObject) -> None:
    platform = data.draw(platforms()).without_extras()
    table, trace = data.draw(tables(platform)), data.draw(traces(12))
    grid = data.draw(st.sampled_from([100, 1_000, 30_000]))
    exact, coarse = (bounds(trace, table, platform, 30.0, g) for g in (1, grid))
    assert coarse.lower_mj <= exact.upper_mj * LAST_DIGITS
    assert exact.lower_mj <= coarse.upper_mj * LAST_DIGITS


@pytest.mark.parametrize(("count", "seed"), [(12, 0), (25, 1), (50, 2)])
def test_the_optimum_is_what_highs_finds(count: int, seed: int) -> None:
    platform = xu3(extras=False)
    table = xu3_table(platform)
    trace = generate(GENERATORS["poisson"], DEMANDS, count, seed)
    found = bounds(trace, table, platform, MISS_MJ, 1)
    # HiGHS stops where its bounds are 1e-4 apart
    assert found.upper_mj == pytest.approx(by_highs(trace, table), rel=1.1e-4)


def by_highs(trace: Trace, table: Table) -> float:
    """x_ik: request i takes action k; m_i: it is late; s_i: when it begins, in ms, after its
    arrival and after what its predecessor takes."""
    count = len(trace)
    options = [table.allowed(int(m), 0.0) for m in trace.model]
    # of equals in time only the cheaper ones; this is HiGHS' own work otherwise
    options = [own[front(table, own)] for own in options]
    first = np.cumsum([0, *(len(own) for own in options)])
    total = int(first[-1])
    late, begin = total, total + count
    cost = np.zeros(total + 2 * count)
    cost[late:begin] = MISS_MJ
    rows, low = lil_matrix((3 * count, len(cost))), np.full(3 * count, -np.inf)
    high = np.full(3 * count, np.inf)
    ms = table.time_us / 1000
    worst = sum(float(ms[own].max()) for own in options)
    for i, own in enumerate(options):
        span = range(first[i], first[i + 1])
        cost[span] = table.energy_mj[own]
        rows[i, span], low[i], high[i] = 1, 1, 1
        rows[count + i, begin + i] = 1  # begin + time - worst * late <= deadline
        rows[count + i, span] = ms[own]
        rows[count + i, late + i] = -worst
        high[count + i] = trace.deadline_us[i] / 1000
        if i:
            rows[2 * count + i, begin + i], rows[2 * count + i, begin + i - 1] = 1, -1
            rows[2 * count + i, range(first[i - 1], first[i])] = -ms[options[i - 1]]
            low[2 * count + i] = 0
    least = np.zeros(len(cost))
    least[begin:] = trace.arrival_us / 1000
    most = np.ones(len(cost))
    most[begin:] = np.inf
    whole = np.ones(len(cost))
    whole[begin:] = 0
    found = milp(
        cost, constraints=LinearConstraint(rows.tocsr(), low, high),
        bounds=Range(least, most), integrality=whole, options={"mip_rel_gap": 1e-4},
    )  # fmt: skip
    assert found.success, found.message
    return float(found.fun)


def front(table: Table, own: np.ndarray[tuple[int], np.dtype[np.int64]]) -> list[int]:
    """Places of the actions that no other is as quick and as cheap as."""
    kept: list[int] = []
    for place in sorted(
        range(len(own)), key=lambda p: (table.time_us[own[p]], table.energy_mj[own[p]])
    ):
        if not kept or table.energy_mj[own[place]] < table.energy_mj[own[kept[-1]]]:
            kept.append(place)
    return kept


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_more_choice_and_later_deadlines_never_cost_more(data: st.DataObject) -> None:
    platform = data.draw(platforms()).without_extras()
    table, trace = data.draw(tables(platform)), data.draw(traces(10))
    best = bounds(trace, table, platform, 30.0, 1).upper_mj * LAST_DIGITS
    fewer = replace(
        platform,
        clusters=tuple(replace(c, points=c.points[:1]) for c in platform.clusters),
    )
    ref = [v for v in table.variants]
    c, p = platform.reference(ref[0].load)
    full = platform.clusters[c].points[p].speed[ref[0].load]
    c, p = fewer.reference(ref[0].load)
    share = full / fewer.clusters[c].points[p].speed[ref[0].load]
    slower = [replace(v, reference_us=(v.reference_us or 0) * share) for v in ref]
    small = make_table(fewer, slower, table.models)
    # the same times at the points that are left, to the last digit
    kept = [k for k, a in enumerate(table.actions) if a.point == 0]
    np.testing.assert_allclose(small.time_us, table.time_us[kept], atol=1)
    small = replace(small, time_us=table.time_us[kept], power_mw=table.power_mw[kept])
    assert bounds(trace, small, fewer, 30.0, 1).upper_mj * LAST_DIGITS >= best / LAST_DIGITS
    later = replace(trace, deadline_us=trace.deadline_us + data.draw(st.integers(0, 10**5)))
    assert bounds(later, table, platform, 30.0, 1).lower_mj <= best


def test_all_powers_scale_and_what_is_awake_costs() -> None:
    ideal = xu3(extras=False)
    trace = generate(GENERATORS["poisson"], DEMANDS, 300, 5)
    plain = bounds(trace, xu3_table(ideal), ideal, MISS_MJ)
    doubled = ideal.scaled(2.0)
    twice = bounds(trace, xu3_table(doubled), doubled, 2 * MISS_MJ)
    assert twice.lower_mj == pytest.approx(2 * plain.lower_mj, rel=1e-12)
    awake = replace(ideal, p_awake_mw=500.0)
    more = bounds(trace, xu3_table(awake), awake, MISS_MJ)
    assert more.lower_mj > plain.upper_mj


def test_knowing_all_times_is_enough_where_one_client_waits() -> None:
    """Closed-loop frames: nothing is ever queued, so that no decision costs a later one."""
    ideal = xu3(extras=False)
    trace = generate(GENERATORS["closed"], [Demand(d.model, 10**6) for d in DEMANDS], 500, 6)
    table = xu3_table(ideal)
    exact = bounds(trace, table, ideal, MISS_MJ)
    cost = simulate(Tight(margin=0.0, follow=0.0), trace, table, ideal).cost_mj(MISS_MJ)
    assert cost == pytest.approx(exact.lower_mj, rel=1e-8)
    assert exact.upper_mj == pytest.approx(exact.lower_mj, rel=1e-8)


def test_a_predictor_that_spends_all_slack_loses_where_requests_queue() -> None:
    """What the oracle is for: perfect predictions are not enough. The same predictor is within 1 %
    of the optimum on frames of which one at a time is under way."""
    ideal = xu3(extras=False)
    table, tight = xu3_table(ideal), Tight(margin=0.0, follow=0.0)
    queued = generate(GENERATORS["poisson"], DEMANDS, 3000, 1)
    frames = generate(Interactive(), [Demand("small", 33_300), *DEMANDS[1:]], 3000, 1)
    frames = replace(frames, model=np.zeros(3000, np.int32), deadline_us=frames.arrival_us + 33_300)
    for trace, low, high in ((queued, 3.0, 30.0), (frames, 1.0, 1.01)):
        best = bounds(trace, table, ideal, MISS_MJ)
        cost = simulate(tight, trace, table, ideal).cost_mj(MISS_MJ)
        assert low <= cost / best.lower_mj <= high


def test_a_capped_run_is_no_bound() -> None:
    ideal = xu3(extras=False)
    trace = generate(GENERATORS["bursty"], DEMANDS, 500, 1)
    with pytest.raises(Capped, match="this run is no bound; take a coarser grid"):
        bounds(trace, xu3_table(ideal), ideal, MISS_MJ, 500, room=100)


@pytest.mark.parametrize(("grid", "miss"), [(0, 1.0), (10**7, 1.0), (1, -1.0), (1, float("nan"))])
def test_odd_questions_are_refused(grid: int, miss: float) -> None:
    ideal = xu3(extras=False)
    trace = generate(GENERATORS["poisson"], DEMANDS, 5, 1)
    with pytest.raises(UsageError, match="must be"):
        bounds(trace, xu3_table(ideal), ideal, miss, grid)
