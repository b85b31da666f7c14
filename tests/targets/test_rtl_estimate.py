"""What is told of a design's size before synthesis, and what is refused for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow.metric import Fit
from flow.metric import Kind as Worth
from flow.outline import INPUT, Outline, Role, Step
from flow.report.vendor.synthesis import Count, Stage, Synthesis
from flow.surrogate.fits import Need
from targets.rtl import estimate
from targets.rtl.estimate import COUNTED, WIDER, Row, Work, estimate_metrics, estimates, table
from targets.rtl.implement.fit import TooLarge, demand
from targets.rtl.implement.implement import called
from targets.rtl.implement.parts import Family, Part, Stock, find_part, part_names
from targets.rtl.netlist import Kind, Netlist, Operation, Output
from targets.rtl.ports import Port, Ports, Timing
from targets.rtl.target import Rtl

ROWS = [pytest.param(row, id=f"{row.family.value}: {row.design}") for row in table()]


def part_with(row: Row) -> Part:
    """A part of the family that has just what the design needs."""
    part = find_part({Family.ICE40: "hx8k", Family.ECP5: "lfe5u-25f"}.get(row.family, "xc7a100t"))
    part = replace(part, family=row.family)
    stocks = {kind: Stock(int(count), "made up") for kind, count in row.taken.items()}
    return replace(part, has=stocks)


def test_the_table_has_every_design_for_every_family() -> None:
    designs = {row.design for row in table()}
    assert len(designs) >= 10
    assert {(row.design, row.family) for row in table()} == {
        (design, family) for design in designs for family in Family
    }
    for row in table():  # the same Verilog for all
        (work,) = {other.work for other in table() if other.design == row.design}
        assert work == row.work


@pytest.mark.parametrize("row", ROWS)
def test_an_estimate_holds_for_a_design_that_it_has_not_seen(row: Row) -> None:
    """Yosys' count lies in the interval that all other designs give."""
    others = [other for other in table() if other.design != row.design]
    for kind, interval in estimates(row.work, row.family, others).items():
        assert interval.low <= row.taken[kind] <= interval.high, kind
        assert interval.high / interval.low < 8, "it says nothing"


@pytest.mark.parametrize("row", ROWS)
def test_what_fits_is_not_refused(row: Row) -> None:
    estimate.require_room(row.work, part_with(row))


@pytest.mark.parametrize("row", ROWS)
def test_a_design_of_the_table_is_never_said_to_fit_a_part_that_is_too_small(row: Row) -> None:
    """Of anything that it takes, one less is too few; with as much it is not refused, and with what
    the upper ends tell it fits."""
    others = [other for other in table() if other.design != row.design]
    ends = estimates(row.work, row.family, others)
    for kind, count in row.taken.items():
        need = Need(ends[kind].low, ends[kind].high, max(int(count) - 1, 0))
        assert need.fit is not Fit.FITS
        assert replace(need, has=count).fit is not Fit.DOES_NOT
        assert replace(need, has=ends[kind].high).fit is Fit.FITS


def test_three_answers_for_three_parts() -> None:
    row = next(row for row in table() if row.family is Family.XC7)
    small, large = find_part("xc7a100t"), find_part("xc7a100t")
    small = replace(small, has={kind: Stock(1, "made up") for kind in COUNTED})
    large = replace(large, has={kind: Stock(10**9, "made up") for kind in COUNTED})
    assert estimate.fit_of(row.work, small).fit is Fit.DOES_NOT
    assert estimate.fit_of(row.work, part_with(row)).fit is Fit.MAY_NOT
    assert estimate.fit_of(row.work, large).fit is Fit.FITS
    with pytest.raises(TooLarge):
        estimate.require_room(row.work, small)


def test_what_an_unknown_operation_does_is_never_nothing() -> None:
    odd = Step("odd", Role.UNKNOWN, (INPUT,), 1, 8, 1, 8, 8)
    told = Rtl(part="hx8k").estimate(Outline("net", 8, 8, (odd,)), None)
    assert told.metrics == ()
    why = "nothing is known of what odd does"
    assert told.unknown == dict.fromkeys(("latency_cycles", "adders", "board energy"), why)
    assert told.verdict is not None and told.verdict.fit is Fit.MAY_NOT


def test_energy_goes_with_the_part() -> None:
    """A board's power for as long as bytes take; of a part with known currents its core's; of
    others the logic's alone."""
    net = Outline("net", 8, 8, (Step("fc", Role.DENSE, (INPUT,), 8, 2, 1, 8, 20, 4),))
    work, timing = Work(400, 300), Timing.of(3, Ports(Port((8,), 8, False), Port((2,), 20, True)))

    def names(name: str) -> dict[str, float]:
        part = find_part(name)
        found = estimate.energies(net, work, part, 50.0, timing)
        return {metric.name: metric.value for metric in found}

    board = names("xc7z020")
    assert board["board energy"] == pytest.approx(1.617e6 * timing.stream_latency / 50e6)
    assert board["board energy, pipelined"] == pytest.approx(
        1.617e6 * timing.stream_interval / 50e6
    )
    core = names("up5k")
    assert core.keys() == {"switching energy", "core power", "core energy"}
    seconds = timing.stream_interval / 50e6
    assert core["core energy"] == pytest.approx(1e3 * core["core power"] * seconds)
    assert names("hx8k").keys() == {"switching energy"}


@given(
    st.sampled_from(part_names()),
    st.integers(1, 10**7),
    st.integers(1, 10**7),
)
def test_what_is_refused_needs_more_than_any_design_of_the_table_would(
    name: str, logic: int, held: int
) -> None:
    """A design is refused where it would be too large even if Yosys did as well as for the best of
    the table, and WIDER times better."""
    part, work = find_part(name), Work(logic, held)
    over = set()
    rows = [row for row in table() if row.family is part.family]
    for kind in rows[0].taken:
        best = min(row.taken[kind] / row.work.bits(kind) for row in rows)
        if int(best / WIDER * work.bits(kind)) > part.has[kind].count:
            over.add(kind.value)
    if not over:
        estimate.require_room(work, part)
        return
    with pytest.raises(TooLarge, match="before synthesis") as told:
        estimate.require_room(work, part)
    assert {one.what for one in told.value.excess} == over
    assert all(": at least " in str(one) for one in told.value.excess)


@pytest.mark.parametrize("name", ["hx8k", "lfe5u-25f", "xc7a100t"])
def test_estimates_are_figures_beside_what_is_measured(name: str) -> None:
    part = find_part(name)
    row = next(row for row in table() if row.family is part.family)
    counts = {kind: Count(count) for kind, count in row.counted.items()}
    found = Synthesis("Yosys", "0.70", Stage.LOGIC_SYNTHESIS, ("stat.json",), resources=counts)
    measured = {called(kind, part): count.share for kind, count in demand(found, part).items()}
    metrics = estimate_metrics(row.work, part)
    assert len(metrics) == (2 if part.family is Family.ECP5 else 3)
    for metric in metrics:
        assert metric.kind is Worth.ESTIMATED and metric.interval is not None
        assert metric.interval.low < metric.value < metric.interval.high
        share = measured[metric.name.removesuffix(" share")]
        assert share is not None and metric.interval.low <= 100 * share <= metric.interval.high


def test_the_work_of_a_netlist() -> None:
    """Sums, choices and products by their bits, tables by their gates; registers by theirs, with
    those of the stream: 8 of an input byte, 8 of an output byte, and one for each stage that may
    hold one."""

    def made(kind: Kind, width: int, *operands: int, negated: bool = False) -> Operation:
        return Operation(kind, f"a_{kind.value}", width, False, 0, 0, operands, negated=negated)

    operations = (
        made(Kind.INPUT, 6),
        made(Kind.SUM, 7, 0, 0),
        made(Kind.OFFSET, 5, 1),
        made(Kind.PRODUCT, 12, 1, 2),  # 7 * 5
        # From 21 on, binary 010101: a gate for each bit above the lowest.
        replace(made(Kind.TABLE, 1, 0), table=(0,) * 21 + (1,) * 43),
        made(Kind.WRAP, 4, 3),
        made(Kind.WRAP, 2, 3, negated=True),
        made(Kind.MUX, 9, 1, 2, 3),
    )
    netlist = Netlist(operations, (Output(7, 0, False),), (0,) * 8, 1, 1)
    ports = Ports(Port((1,), 6, False), Port((1,), 4, False))
    found = Work.of(netlist, ports)
    assert found.logic == 7 + 5 + 35 + 5 + 2 + 9
    assert found.held == (6 + 4) + 8 + 8 + netlist.latency
    assert np.array_equal([found.bits(kind) for kind in COUNTED], [63, 28, 63])
