"""LUTs and flip-flops before any synthesis: told inside what was labelled, wide beyond, and unknown
where nothing is like it."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from flow.surrogate.fit import fit
from flow.surrogate.store import Fitted
from flow.surrogate.unrolled import Label, Labelled, labelled
from targets.rtl.counts import count_estimates
from targets.rtl.implement.parts import Family
from targets.rtl.structure import Counted
from tests.bench import own_estimators as bench
from tests.unit.test_own_estimators import table

_SOME = {"sums": 12, "sum_bits": 90, "luts4": 60, "held": 40, "latency": 4}
DESIGN = Counted(**{field.name: _SOME.get(field.name, 0) for field in fields(Counted)})


@pytest.fixture(scope="module")
def designs() -> Labelled:
    return labelled(table(), bench.COUNTS)["ice40"]


@pytest.fixture(scope="module")
def fitted(designs: Labelled) -> dict[str, Fitted]:
    about = {"tool": "Yosys", "designs": len(designs), "table": "labels.csv"}
    return {
        f"own/{family}/{label.value}": Fitted(fit(bench.Case(designs, label).rows, 20), about)
        for label in Label
        for family in ("ice40", "xc7")
    }


def test_counts_are_told_with_an_interval(fitted: dict[str, Fitted]) -> None:
    told = count_estimates(DESIGN, [Family.ICE40], fitted)
    lut, ff = told.metrics
    assert (lut.name, ff.name, told.unknown) == ("lut on ice40", "ff on ice40", {})
    assert lut.value == pytest.approx(90 + 2 * 60, rel=0.05)
    assert ff.value == pytest.approx(41, rel=0.1)
    assert lut.interval is not None and lut.interval.coverage == 0.9
    assert lut.interval.low < 90 + 2 * 60 < lut.interval.high
    assert lut.source == "without the byte stream. Yosys: fitted on 240 designs of labels.csv"


def test_what_was_not_labelled_is_said_to_be(fitted: dict[str, Fitted]) -> None:
    """Larger than all: wider. Of more stages than any: unknown. A family without labels: unknown,
    but UltraScale+ by Xilinx 7's."""
    large = replace(DESIGN, sums=12_000, sum_bits=90_000, luts4=60_000, held=40_000)
    (lut, _) = count_estimates(large, [Family.ICE40], fitted).metrics
    (near, _) = count_estimates(DESIGN, [Family.ICE40], fitted).metrics
    assert lut.source.endswith("beyond all that were seen, hence wide")
    assert lut.interval is not None and near.interval is not None
    wide, narrow = (each.high / max(each.low, 1) for each in (lut.interval, near.interval))
    assert wide >= narrow
    told = count_estimates(replace(DESIGN, latency=500), [Family.ICE40], fitted)
    assert told.unknown == {
        f"{label.value} on ice40": "no labelled design is like it in latency" for label in Label
    }
    told = count_estimates(DESIGN, list(Family), fitted)
    assert "too few labels" in told.unknown["lut on ecp5"] and len(told.metrics) == 6
    xcup = next(each for each in told.metrics if each.name == "lut on xcup")
    assert "which xcup is counted like" in xcup.source
