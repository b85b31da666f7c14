"""Platforms: what ships, golden numbers, and files that are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flow.errors import UsageError
from flow.schedule.platform import Load, Method, Platform
from flow.schedule.platform_file import (
    load_platform,
    platform_names,
    read_platform,
    unset_fields,
)
from flow.schedule.work import Run, Variant, make_table, measured_variants
from tests.schedule.support import xu3


def shipped(name: str) -> Platform:
    """With 0 for all that must be set."""
    return load_platform(name, dict.fromkeys(unset_fields(name), 0.0))


def test_what_ships() -> None:
    assert platform_names() == (
        "analog-tile", "hikey960", "host", "juno-r0", "odroid-xu3", "pynq-z2", "rk3399",
        "sdm845", "stm32-u575",
    )  # fmt: skip


@pytest.mark.parametrize("name", platform_names())
def test_a_shipped_platform_says_where_its_numbers_are_from(name: str) -> None:
    platform = shipped(name)
    assert platform.name == name
    sources = [point.source for cluster in platform.clusters for point in cluster.points]
    sources += [design.source for design in platform.designs]
    assert all(len(source.commit) == 8 or source.method is Method.MODEL for source in sources)
    assert set(unset_fields(name)) <= set(platform.assumed)
    for cluster in platform.clusters:
        assert cluster.floor_mw == 0 or name in ("odroid-xu3", "juno-r0")
        assert all(p.idle_mw >= cluster.floor_mw for p in cluster.points)


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("odroid-xu3", ("p_awake_mw", "migration_us")),
        ("sdm845", ("migration_us", "silver.transition_us", "gold.transition_us")),
        ("pynq-z2", ("p_deep_mw", "fabric.gated.exit_us")),
        ("stm32-u575", ("core.idle_mw", "core.stop.power_mw")),
        ("analog-tile", ("p_awake_mw", "p_deep_mw", "tile.idle_mw")),
    ],
)
def test_what_nobody_knows_must_be_set(name: str, missing: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as error:
        load_platform(name)
    for path in missing:
        assert f"{path} must be set: " in str(error.value)
    assert f"{name}.toml" in str(error.value)


@pytest.mark.parametrize(
    ("name", "cluster", "mhz", "idle", "busy", "speed"),
    [
        ("odroid-xu3", "big", 2000, 413.0, 1739.8, 1.0),
        ("odroid-xu3", "little", 1400, 93.3, 198.7, 0.419),
        ("sdm845", "gold", 2803.2, 0, 1297.8, 17425),
        ("sdm845", "silver", 902.4, 0, 86.0, 3350),
        ("hikey960", "a73", 2362, 433, 2848, 1024),
        ("juno-r0", "a53", 850, 57, 93, 447),
        ("rk3399", "a72", 1800, 63, 1385, 1800),
    ],
)
def test_golden_points(
    name: str, cluster: str, mhz: float, idle: float, busy: float, speed: float
) -> None:
    platform = shipped(name)
    held = platform.clusters[platform.cluster(cluster)]
    (point,) = (point for point in held.points if point.mhz == mhz)
    assert (point.idle_mw, point.busy_mw[Load.COMPUTE]) == (idle, busy)
    assert point.speed[Load.COMPUTE] == speed


def test_powers_above_the_floor_by_hand() -> None:
    """At 2 GHz one big core adds 1739.8 to 413.0 mW; the floor has the 29.7 of the idle island."""
    platform = xu3()
    assert platform.active_mw(1, 18, Load.COMPUTE) == pytest.approx(2123.1)
    assert platform.scaled(1.3).active_mw(1, 18, Load.COMPUTE) == pytest.approx(1.3 * 2123.1)
    assert not platform.without_extras().has_extras and platform.has_extras


@pytest.mark.parametrize(
    ("awake", "best"), [(0, ("little", 200)), (500, ("little", 1400)), (2000, ("big", 1800))]
)
def test_pacing_and_racing_turn_on_what_stays_awake(awake: float, best: tuple[str, float]) -> None:
    """The point of least energy for compute-bound work on the Odroid."""
    platform = load_platform("odroid-xu3", {"p_awake_mw": awake, "migration_us": 0})
    assert cheapest(platform) == best


def test_on_the_sdm845_pacing_below_902_mhz_loses() -> None:
    assert cheapest(shipped("sdm845")) == ("silver", 902.4)
    assert any("busy_mw of load compute falls from 97.2" in w for w in shipped("sdm845").warnings)


def cheapest(platform: Platform) -> tuple[str, float | None]:
    variant = Variant("m", "t", "v", 90.0, Load.COMPUTE, 10**6)
    table = make_table(platform, [variant], ["m"])
    action = table.actions[int(table.energy_mj.argmin())]
    cluster = platform.clusters[action.cluster]
    return cluster.name, cluster.points[action.point].mhz


def test_designs_that_were_measured() -> None:
    """On the PYNQ-Z2 one design takes 17 times the energy of another that is more often right."""
    first, second, *_ = shipped("pynq-z2").designs
    assert first.energy_mj / second.energy_mj == pytest.approx(17.5, abs=0.1)
    watts = [d.energy_mj * d.per_second / 1000 for d in shipped("pynq-z2").designs]
    assert min(watts) == pytest.approx(1.583, abs=0.001) and max(watts) < 1.583 + 0.2


def test_the_device_trees_formula_is_far_from_what_was_measured() -> None:
    """On the Odroid 30 % too little for big cores and 15 % too much for little ones, as means."""
    measured, formula = xu3(), xu3().by_formula()
    assert formula.clusters[1].points[-1].busy_mw[Load.COMPUTE] == pytest.approx(1068, abs=0.5)
    assert formula.clusters[0].points[-1].source.method is Method.DT_CV2F
    for cluster, error in ((0, 0.148), (1, -0.297)):
        pairs = zip(
            formula.clusters[cluster].points, measured.clusters[cluster].points, strict=True
        )
        ratios = [a.busy_mw[Load.COMPUTE] / b.busy_mw[Load.COMPUTE] - 1 for a, b in pairs]
        assert np.mean(ratios) == pytest.approx(error, abs=0.002)
    hikey = shipped("hikey960")
    low, high = hikey.clusters[0].points[0], hikey.clusters[1].points[-1]
    told = hikey.by_formula()
    assert low.busy_mw[Load.COMPUTE] / told.clusters[0].points[0].busy_mw[Load.COMPUTE] > 2.9
    assert high.busy_mw[Load.COMPUTE] / told.clusters[1].points[-1].busy_mw[Load.COMPUTE] > 1.8
    with pytest.raises(UsageError, match="silver has no coefficient"):
        shipped("sdm845").by_formula()


def test_designs_become_variants() -> None:
    """An inference of CNV-W1A1 takes 1/661 s and, with what idling takes meanwhile, 2.530 mJ."""
    platform = shipped("pynq-z2")
    table = make_table(
        platform, measured_variants(platform, "image classification"), ["image classification"]
    )
    assert [platform.designs[a.variant].name for a in table.actions] == ["RN07", "CNV-W1A1"]
    assert table.time_us.tolist() == [27_322, 1_513]
    np.testing.assert_allclose(table.energy_mj, [44.19, 2.530], rtol=1e-3)
    with pytest.raises(UsageError, match="unknown task of pynq-z2 'image'"):
        measured_variants(platform, "image")
    with pytest.raises(UsageError, match="design DS-CNN has no accuracy; give one"):
        measured_variants(shipped("stm32-u575"), "keyword spotting")
    (given,) = measured_variants(shipped("stm32-u575"), "keyword spotting", {"DS-CNN": 90.0})
    assert given.accuracy == 90.0


SOURCE = """
[sources.s]
repository = "someone/board"
commit = "0123456789"
path = "table.csv"
method = "measured"
licence = "MIT"
quantity = "mW of the board"
"""
TEXT = f"""
name = "board"
title = "A board"
rail = "board"
p_awake_mw = {{ value = 1, source = "s" }}
p_deep_mw = {{ value = 2, source = "s" }}
{SOURCE}
[[clusters]]
name = "core"
kind = "dvfs_cpu"
cores = 1
source = "s"
transition_us = {{ value = 10, source = "s" }}
idle_states = [
    {{ name = "w", power_mw = "held", entry_us = 0, exit_us = 0, residency_us = 0, source = "s" }},
]
points = [
    {{ mhz = 100, idle_mw = 1, busy_mw = {{ compute = 10 }}, speed = {{ compute = 1 }} }},
    {{ mhz = 200, idle_mw = 2, busy_mw = {{ compute = 30 }}, speed = {{ compute = 2 }} }},
]
"""


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "board.toml"
    path.write_text(TEXT)
    platform = load_platform(str(path), {"p_awake_mw": 7})
    assert platform.p_awake_mw == 7 and platform.assumed == ("p_awake_mw",)
    assert platform.clusters[0].points[1].source.commit == "0123456789"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('rail = "board"', "", "rail must be given"),
        ('rail = "board"', 'rail = "board"\ncolour = 1', "unknown colour"),
        ('source = "s"\ntransition', "transition", r"core.points\[0\]: must have a source"),
        ('commit = "0123456789"', 'commit = ""', "sources.s.commit: must say where"),
        ('method = "measured"', 'method = "guessed"', "sources.s.method: must be one of"),
        ("idle_mw = 1", "idle_mw = nan", r"core.points\[0\].idle_mw: must be a number from 0"),
        ("compute = 10 ", "compute = -10 ", r"core.points\[0\].busy_mw.compute: must be a number"),
        ("compute = 10 ", "compute = inf ", "must be a number from 0 to 1e"),
        ("compute = 1 ", "compute = 0 ", "speed: must be above 0"),
        ("compute = 1 ", "memory = 1 ", "busy_mw and speed must be of the same loads"),
        ("compute = 1 ", "thinking = 1 ", "unknown load 'thinking'"),
        ("mhz = 200", "mhz = 100", "core.points: MHz must rise, not 100, 100"),
        ('kind = "dvfs_cpu"', 'kind = "toaster"', "core.kind: must be one of dvfs_cpu"),
        ("value = 10, source", "value = true, source", "core.transition_us: must be a number"),
        ("residency_us = 0", "residency_us = 5", "the first must have residency_us = 0"),
        ("cores = 1", "cores = 0", "core.cores: must be from 1"),
        ("name = \"board\"", "name = ", "board.toml: "),
        ("busy_mw = { compute = 10 }, speed = { compute = 1 }", "busy_mw = {}, speed = {}",
         "all points must have the same loads"),
        ("value = 2, source = \"s\"", "value = 2, source = \"t\"", "p_deep_mw.source: must be one"),
    ],
)  # fmt: skip
def test_damaged_files_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in TEXT
    path = tmp_path / "board.toml"
    path.write_text(TEXT.replace(old, new, 1))
    with pytest.raises(UsageError, match=message) as error:
        load_platform(str(path))
    assert "board.toml" in str(error.value)


def test_an_empty_hull_is_refused() -> None:
    start = TEXT.index("points = [")
    with pytest.raises(UsageError, match="there must be one at the least"):
        read_platform("f", TEXT[:start] + "points = []\n", {})
    bare = TEXT.replace(
        "busy_mw = { compute = 10 }, speed = { compute = 1 }", "busy_mw = {}, speed = {}"
    )
    bare = bare.replace(
        "busy_mw = { compute = 30 }, speed = { compute = 2 }", "busy_mw = {}, speed = {}"
    )
    with pytest.raises(UsageError, match="core: the hull is empty"):
        read_platform("f", bare, {})


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("odroid-xu4", {}, "unknown platform 'odroid-xu4' .did you mean 'odroid-xu3'"),
        ("nowhere.toml", {}, "no platform file nowhere.toml"),
        ("odroid-xu3", {"p_awake_mw": 0, "migration_us": 0, "p_wake": 1}, "unknown field of"),
        ("odroid-xu3", {"p_awake_mw": -1, "migration_us": 0}, "p_awake_mw: must be a number"),
    ],
)
def test_wrong_names_and_values(name: str, values: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_platform(name, values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reference_us": 0.0}, "times must be above 0"),
        ({"reference_us": float("nan")}, "times must be above 0"),
        ({"reference_us": None, "runs": {"big": Run((1.0,))}}, "each of 19 points of big, not 1"),
        ({"reference_us": None, "runs": {"huge": Run((1.0,))}}, "cluster must be one of little"),
        ({"accuracy": float("nan")}, "accuracy must be a number"),
        ({"runs": {}}, "give either reference_us or runs"),
        ({"model": "other"}, "model 'm' of the trace has no variant"),
    ],
)
def test_odd_variants_are_refused(change: dict[str, object], message: str) -> None:
    told = {"model": "m", "target": "t", "name": "v", "accuracy": 90.0, "reference_us": 10.0}
    with pytest.raises(UsageError, match=message):
        make_table(xu3(), [Variant(**{**told, **change})], ["m"])  # type: ignore[arg-type]
