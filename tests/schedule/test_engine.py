"""The engine's compiled loops against plain Python, and what must hold of every run."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow.errors import UsageError
from flow.schedule import reference
from flow.schedule.engine import simulate
from flow.schedule.generators import Demand, Periodic, generate
from flow.schedule.jit import compiled
from flow.schedule.outcome import Outcome, Part
from flow.schedule.platform import USER, Cluster, Kind, OperatingPoint, Platform
from flow.schedule.policies import POLICIES, find_policy
from flow.schedule.policies.base import Governor, Policy
from flow.schedule.policies.pinned import LittleMax, Performance
from flow.schedule.policies.predictive import Gated, Replay, Tight
from flow.schedule.trace import Trace
from flow.schedule.work import FloatArray, Run, Table
from tests.schedule.support import (
    DEMANDS,
    GENERATORS,
    idle_state,
    one_model,
    platform_of,
    platforms,
    point,
    tables,
    traces,
    works,
    xu3,
    xu3_table,
)

FOREVER = (0, 1 << 60)
SCHEDULE = Path(__file__).resolve().parents[2] / "flow" / "schedule"


def both(
    policy: Policy, trace: Trace, table: Table, platform: Platform, work: FloatArray | None
) -> Outcome:
    """Run both ways; they must agree. Returns the compiled loop's."""
    ours = simulate(policy, trace, table, platform, work, FOREVER)
    plain = reference.simulate(policy, trace, table, platform, work, FOREVER)
    for name in ("arrival_us", "deadline_us", "finish_us", "action", "part_us", "busy_us"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(plain, name), name)
    for name in ("switches", "migrations", "wakes", "horizon_us"):
        assert getattr(ours, name) == getattr(plain, name), name
    np.testing.assert_allclose(ours.part_mj, plain.part_mj, rtol=1e-12)
    np.testing.assert_allclose(rows(ours), rows(plain), rtol=1e-12)
    return ours


def rows(outcome: Outcome) -> FloatArray:
    """The segments as numbers."""
    listed = [
        (s.part.value, s.start_us, s.stop_us, s.mw, s.cluster, s.point, s.request)
        for s in outcome.segments
    ]
    return np.array(listed, np.float64)


def accounted(outcome: Outcome, trace: Trace) -> None:
    """Segments follow each other without a gap, and add up to the times and energies told."""
    ends = [0, *(segment.stop_us for segment in outcome.segments)]
    assert [segment.start_us for segment in outcome.segments] == ends[:-1]
    assert ends[-1] == outcome.horizon_us == outcome.part_us.sum()
    power = sum(s.mw * (s.stop_us - s.start_us) for s in outcome.segments) * 1e-6
    assert outcome.energy_mj == pytest.approx(power, rel=1e-9, abs=1e-12)
    assert outcome.busy_us.sum() == outcome.part_us[Part.BUSY.value]
    assert 0 <= outcome.misses <= len(trace)
    assert (outcome.latency_us > 0).all() and (np.diff(outcome.finish_us) > 0).all()


@pytest.mark.parametrize("generator", GENERATORS)
def test_the_compiled_loop_is_the_reference(generator: str) -> None:
    """Every policy, with times that no policy knows beforehand, on all that a platform has."""
    platform = xu3()
    table = xu3_table(platform)
    trace = generate(GENERATORS[generator], DEMANDS, 150, 3)
    for name in POLICIES:
        outcome = both(find_policy(name), trace, table, platform, works(trace, 5))
        accounted(outcome, trace)


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_the_compiled_loop_is_the_reference_on_drawn_platforms(data: st.DataObject) -> None:
    platform = data.draw(platforms())
    policy = find_policy(data.draw(st.sampled_from(sorted(POLICIES))))
    batches = not isinstance(policy, Governor) and data.draw(st.booleans())
    table, trace = data.draw(tables(platform, batches)), data.draw(traces(25))
    work = works(trace, 1) if data.draw(st.booleans()) else None
    accounted(both(policy, trace, table, platform, work), trace)


def flat(
    transition: int = 0, ladder: tuple[tuple[str, float | None, int, int, int], ...] = ()
) -> Platform:
    """One cluster of two points: 100 mW at speed 1, 400 mW at speed 2; idling at 10 and 30 mW."""
    points = (point(500, 10, 90, 1), point(1000, 30, 370, 2))
    states = tuple(idle_state(*row) for row in ladder or (("wfi", None, 0, 0, 0),))
    return platform_of((Cluster("only", Kind.DVFS_CPU, 1, transition, points, states),), 0.0, 0)


def table_of(platform: Platform) -> Table:
    """One model that takes 20 and 10 ms."""
    return one_model(platform, {"only": Run((20_000, 10_000))})


def every(period_ms: float, count: int, deadline_us: int) -> Trace:
    return generate(Periodic(period_ms, 0), [Demand("m", deadline_us)], count, 0)


def test_a_run_by_hand() -> None:
    """Three requests at 0, 50 and 100 ms at the high point: 30 ms busy, 80 ms idle at 30 mW; the
    floor, 10 mW of idling at the low point, is not counted."""
    platform = flat()
    outcome = simulate(Performance(), every(50, 3, 60_000), table_of(platform), platform)
    assert outcome.finish_us.tolist() == [10_000, 60_000, 110_000]
    assert outcome.part_us.tolist() == [30_000, 80_000, 0, 0]
    np.testing.assert_allclose(outcome.part_mj, [30 * 0.390, 80 * 0.020, 0, 0])
    assert outcome.floor_mj == pytest.approx(110 * 0.020)
    assert outcome.misses == 0


def test_a_batch_takes_a_and_b_for_each() -> None:
    """Four requests at once, 10 ms for the first and 3 ms for those behind it; then, after a pause,
    one alone. The power is the same."""
    platform = flat()
    table = one_model(platform, {"only": Run((20_000, 10_000), None, (15_000, 3_000))})
    trace = every(0.001, 5, 60_000)
    trace.arrival_us[4] = 50_000
    outcome = both(Performance(), trace, table, platform, None)
    assert outcome.finish_us.tolist() == [10_000, 13_000, 16_000, 19_000, 60_000]
    assert outcome.part_mj[Part.BUSY.value] == pytest.approx(29 * 0.390)


def test_batches_are_what_sleeping_gains() -> None:
    """Served together, the four of a burst take less than each when it comes."""
    platform = flat(ladder=(("on", None, 0, 0, 0), ("off", 0.0, 0, 1_000, 2_000)))
    table = one_model(platform, {"only": Run((20_000, 10_000), None, (15_000, 3_000))})
    trace = every(20, 40, 120_000)
    eager, lazy = (both(p, trace, table, platform, None) for p in (Tight(), Gated()))
    assert eager.misses == lazy.misses == 0
    assert lazy.busy_us.sum() < 0.8 * eager.busy_us.sum()
    assert lazy.energy_mj < eager.energy_mj


def test_governors_do_not_batch() -> None:
    platform = flat()
    table = one_model(platform, {"only": Run((20_000, 10_000), None, (15_000, 3_000))})
    with pytest.raises(UsageError, match="ondemand: what takes less behind its like cannot be"):
        simulate(find_policy("ondemand"), every(20, 5, 60_000), table, platform)


def test_a_switch_stalls_at_the_larger_power() -> None:
    """A tight deadline asks for the high point, from the low one at which the cluster idles."""
    platform = flat(transition=1_000)
    policy = Tight(margin=0.0, follow=0.0)
    outcome = simulate(policy, every(50, 2, 15_000), table_of(platform), platform)
    assert outcome.finish_us.tolist() == [11_000, 61_000]
    assert outcome.switches == 3  # up, down while nothing waits, up
    # twice up at 390 mW, once down awake at 20 mW
    assert outcome.part_mj[Part.SWITCH.value] == pytest.approx(2 * 0.390 + 0.020)


def test_waking_delays_and_costs() -> None:
    """Idle for 40 ms at 20 mW above the floor for 5 ms, then 1 ms entering, then off."""
    ladder = (("wfi", None, 0, 0, 0), ("off", 0.0, 1_000, 2_000, 5_000))
    platform = flat(ladder=ladder)
    outcome = simulate(Performance(), every(50, 2, 60_000), table_of(platform), platform)
    assert outcome.finish_us.tolist() == [10_000, 62_000]
    assert outcome.wakes == 1
    # idling at the high point draws 30 mW, off 0: both above a floor of 0
    np.testing.assert_allclose(outcome.part_mj[[1, 3]], [6 * 0.030, 2 * 0.030])


def test_an_arrival_while_falling_asleep_waits() -> None:
    platform = flat(ladder=(("off", 0.0, 20_000, 2_000, 0),))
    outcome = simulate(Performance(), every(15, 2, 60_000), table_of(platform), platform)
    # asleep only at 30 ms, awake at 32
    assert outcome.finish_us.tolist() == [10_000, 42_000]


def test_a_governor_changes_a_request_on_its_way() -> None:
    """Ondemand begins at the low point, sees a period of 10 ms that was busy throughout, and runs
    the other half of the request twice as fast."""
    platform = flat()
    outcome = simulate(
        find_policy("ondemand"), every(100, 1, 60_000), table_of(platform), platform, window=FOREVER
    )
    assert outcome.finish_us.tolist() == [15_000]
    assert outcome.busy_us.tolist() == [[10_000, 5_000]]
    assert outcome.energy_mj == pytest.approx(10 * 0.090 + 5 * 0.390)


def test_conservative_climbs_by_a_twentieth() -> None:
    """From 50 to 55 % of the highest frequency, for which there is only the high point."""
    platform = flat()
    policy = find_policy("conservative", {"step": "0.3"})
    outcome = simulate(policy, every(100, 1, 60_000), table_of(platform), platform)
    assert outcome.busy_us.tolist() == [[10_000, 5_000]]


def test_schedutil_ramps_as_its_half_life_says() -> None:
    """At the low point of half the highest frequency utilisation u tends to 0.5; 1.25 u passes 0.5
    when u is 0.4, after log2(5) half-lives of 32 ms: at the tick of 76 ms."""
    platform = flat()
    table = one_model(platform, {"only": Run((400_000, 200_000))})
    outcome = simulate(find_policy("schedutil"), every(100, 1, 10**6), table, platform)
    assert outcome.busy_us[0, 0] == 76_000
    assert 32_000 * np.log2(5) == pytest.approx(74_300, abs=50)


def test_gating_sleeps_and_serves_together() -> None:
    """Hardware that draws as much idle as busy: three requests that can wait are served at once."""
    states = (idle_state("on", None, 0, 0, 0), idle_state("gated", 0.0, 0, 5_000, 0))
    cluster = Cluster("only", Kind.FPGA, 1, 0, (point(1, 1500, 0, 1),), states)
    platform = platform_of((cluster,), 0.0, 0)
    table = one_model(platform, {"only": Run((10_000,))})
    trace = every(20, 3, 100_000)
    eager = simulate(Tight(), trace, table, platform)
    lazy = simulate(Gated(), trace, table, platform)
    assert eager.misses == lazy.misses == 0
    # the first can wait until 85 ms, which leaves 5 ms to wake and 10 to run
    assert lazy.finish_us.tolist() == [100_000, 110_000, 120_000]
    assert (lazy.wakes, eager.wakes) == (1, 2)
    assert lazy.energy_mj < eager.energy_mj


def test_little_at_its_highest_is_the_smaller_cluster() -> None:
    platform = xu3()
    outcome = simulate(
        LittleMax(), generate(GENERATORS["poisson"], DEMANDS, 50, 1), xu3_table(platform), platform
    )
    assert outcome.busy_us[0, len(platform.clusters[0].points) - 1] == outcome.busy_us.sum() > 0


def test_eas_uses_both_clusters_and_the_cheaper_one_for_light_work() -> None:
    platform = xu3()
    table = xu3_table(platform)
    light = generate(Periodic(200, 0), [Demand(m, 10**6) for m in table.models], 60, 1)
    outcome = simulate(find_policy("eas"), light, table, platform)
    assert outcome.busy_us[0].sum() > 0.9 * outcome.busy_us.sum()
    heavy = generate(Periodic(35, 0), [Demand(m, 10**6) for m in table.models], 200, 1)
    assert simulate(find_policy("eas"), heavy, table, platform).busy_us[1].sum() > 0


def test_a_window_keeps_what_begins_in_it() -> None:
    platform = xu3()
    trace = generate(GENERATORS["bursty"], DEMANDS, 200, 2)
    whole = simulate(Tight(), trace, xu3_table(platform), platform, window=FOREVER).segments
    part = simulate(Tight(), trace, xu3_table(platform), platform, window=(10**6, 3 * 10**6))
    assert part.segments == tuple(s for s in whole if 10**6 <= s.start_us < 3 * 10**6)
    assert part.segments and not part.cut


def test_the_same_seed_gives_the_same_run() -> None:
    platform = xu3()
    first, second = (
        simulate(
            find_policy("price"), generate(GENERATORS["bursty"], DEMANDS, 500, 7),
            xu3_table(platform), platform,
        )
        for _ in range(2)
    )  # fmt: skip
    assert first.finish_us.tobytes() == second.finish_us.tobytes()
    assert first.part_mj.tobytes() == second.part_mj.tobytes()


def test_replay_gives_what_was_chosen() -> None:
    platform = xu3()
    trace = generate(GENERATORS["poisson"], DEMANDS, 300, 4)
    table = xu3_table(platform)
    chosen = simulate(Tight(), trace, table, platform)
    again = simulate(Replay(chosen.action), trace, table, platform)
    assert again.finish_us.tolist() == chosen.finish_us.tolist()
    assert again.energy_mj == chosen.energy_mj


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"models": ("small", "middle", "other")}, "the table must be of models"),
        ({"floor": 96.0}, "row 1: min_accuracy 96 is met by no variant of"),
        ({"work": np.zeros(20)}, "work must be above 0"),
        ({"work": np.ones(3)}, "work must be 20 numbers"),
        ({"actions": np.full(20, 9999, np.int32)}, "replayed actions: row 1: 9999 is none of"),
    ],
)
def test_what_cannot_be_run_is_refused(change: dict[str, object], message: str) -> None:
    platform = xu3()
    trace = generate(GENERATORS["poisson"], DEMANDS, 20, 4)
    models = change.get("models", trace.models)
    floor = np.full(20, change.get("floor", 0.0))
    trace = Trace(
        trace.arrival_us, trace.deadline_us, trace.model, floor, trace.session, trace.priority,
        models, "t",  # type: ignore[arg-type]
    )  # fmt: skip
    policy: Policy = Replay(change["actions"]) if "actions" in change else Tight()  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=message):
        simulate(policy, trace, xu3_table(platform), platform, change.get("work"))  # type: ignore[arg-type]


def test_governors_need_frequencies() -> None:
    bare = OperatingPoint(None, None, 0, {}, {}, USER)
    states = (idle_state("on", None, 0, 0, 0),)
    platform = platform_of((Cluster("only", Kind.FPGA, 1, 0, (bare,), states),), 0.0, 0)
    table = one_model(platform, {"only": Run((10_000,), (1.0,))})
    with pytest.raises(UsageError, match="only has no frequencies to govern"):
        simulate(find_policy("ondemand"), every(20, 3, 10**6), table, platform)


def test_where_nothing_can_be_written_it_is_compiled_for_this_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unwritable(function: object = None, cache: bool = False, **_: bool) -> object:
        if cache:
            raise RuntimeError("no locator available")
        return ("compiled", function)

    monkeypatch.setattr("numba.njit", unwritable)
    assert compiled(abs) == ("compiled", abs)


@pytest.mark.parametrize("name", ["kernels.py", "labels.py", "critical.py"])
def test_compiled_files_call_no_compiled_function_of_another(name: str) -> None:
    """numba keeps machine code by the file of a function: an older helper would live on in it."""
    taken = {
        node.module: [alias.name for alias in node.names]
        for node in ast.walk(ast.parse((SCHEDULE / name).read_text()))
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("flow")
    }
    assert taken.pop("flow.schedule.jit") == ["compiled"]
    assert taken in ({}, {"flow.schedule.policies.base": ["Governing", "Mode"]})
