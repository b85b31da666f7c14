"""Whole hls4ml networks: sums of layers, ways at once and one by one, and whether they fit."""

from __future__ import annotations

import csv
import os
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow.metric import Fit, Kind
from flow.outline import INPUT, WEIGHTED, Outline, Role, Step
from flow.surrogate.hls4ml import Reused, cycles, interval
from flow.surrogate.structure import NOTHING
from targets.hls4ml.backends import Strategy
from targets.hls4ml.estimate import Build, estimates
from targets.hls4ml.parts import COUNTED, find_stock, read_stocks, shipped
from targets.hls4ml.totals import RELU, RELU_VALUES, Setting, totals
from targets.rtl.implement.parts import find_part, part_names

DATA = Path(os.environ.get("BITWRIGHT_DATA", "../shared/data")) / "surrogate"
BUILD = Build("xc7z020clg400-1", 10.0, stream=False, vendor=True)
RESOURCE = Setting(Strategy.RESOURCE, 32)


def dense(name: str, source: str, inputs: int, outputs: int, bits: int = 8, act: int = 16) -> Step:
    return Step(name, Role.DENSE, (source,), inputs, outputs, 1, act, 30, bits)


def act(name: str, source: str, values: int, bits: int = 16) -> Step:
    return Step(name, Role.REQUANT, (source,), 1, values, 1, 30, bits)


def network(*sizes: int, bits: int = 8) -> Outline:
    """Dense layers with an activation between each two."""
    steps: list[Step] = []
    last = INPUT
    for number, (inputs, outputs) in enumerate(pairwise(sizes)):
        steps.append(dense(f"fc{number}", last, inputs, outputs, bits))
        last = f"fc{number}"
        if number < len(sizes) - 2:
            steps.append(act(f"act{number}", last, outputs))
            last = f"act{number}"
    return Outline("net", sizes[0], 16, tuple(steps))


NET = network(64, 32, 32, 16)


def told(of: Outline, setting: Setting = RESOURCE, build: Build = BUILD) -> dict[str, float]:
    chosen = {step.name: setting for step in of.steps if step.role in WEIGHTED}
    return {metric.name: metric.value for metric in estimates(of, chosen, build).metrics}


def test_a_network_is_its_layers_and_its_activations() -> None:
    found = estimates(NET, {f"fc{n}": RESOURCE for n in range(3)}, BUILD)
    by_name = {metric.name: metric for metric in found.metrics}
    for label in ("lut", "ff", "bram_18k"):
        layers = [by_name[f"fc{n} {label}"] for n in range(3)]
        whole = by_name[f"{label} in HLS report"]
        assert whole.kind is Kind.ESTIMATED and whole.interval is not None
        between = 64 * max(RELU[False].get(label, (0,))) / RELU_VALUES
        assert whole.interval.low == pytest.approx(sum(m.interval.low for m in layers))
        assert whole.interval.high == pytest.approx(sum(m.interval.high for m in layers) + between)
    dsps = sum((Reused(s.taken, s.channels, 32, 8).dsps for s in NET.steps[::2]), NOTHING)
    assert by_name["dsp in HLS report"].value == dsps.likely == 64 + 32 + 16


def test_accounts_of_two_tools_are_two_figures() -> None:
    found = told(NET)
    for name in ("lut", "ff"):
        assert 0 < found[f"{name} by Vivado"] < found[f"{name} in HLS report"]
    chosen = {f"fc{n}": RESOURCE for n in range(3)}
    unknown = estimates(NET, chosen, BUILD).unknown
    assert "blocks of 18 or of 36" in unknown["bram_18k by Vivado"]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.lists(
            st.tuples(st.sampled_from(list(Strategy)), st.sampled_from((1, 2, 16, 64))),
            min_size=3,
            max_size=3,
        ),
        min_size=1,
        max_size=5,
    ),
    st.booleans(),
)
def test_many_ways_at_once_are_each_alone(
    drawn: list[list[tuple[Strategy, int]]], stream: bool
) -> None:
    ways = [[Setting(*pair) for pair in way] for way in drawn]
    together = totals(NET, ways, stream)
    for row, way in enumerate(ways):
        alone = totals(NET, [way], stream)
        for name in COUNTED:
            for part in ("low", "likely", "high"):
                ours = getattr(together.report[name], part)[row]
                assert ours == pytest.approx(
                    float(getattr(alone.report[name], part)[0]), nan_ok=True
                )
        assert together.why[row] == alone.why[0]
        reuse = [setting.reuse for setting in way]
        assert together.interval.low[row] == max(reuse)
        if any(setting.adders for setting in way):
            assert np.isnan(together.latency.likely[row])
            continue
        latency = together.latency
        ends = latency.low[row], latency.likely[row], latency.high[row]
        assert ends == cycles(sum(reuse), len(reuse), scales=2)
        assert together.interval.high[row] == interval(reuse).high


def test_a_network_that_fits_and_one_that_does_not() -> None:
    chosen = {f"fc{n}": RESOURCE for n in range(3)}
    fits = estimates(NET, chosen, BUILD).verdict
    assert fits is not None and (fits.part, fits.fit) == ("xc7z020", Fit.FITS)
    large = network(256, 256, 256, 256)
    not_at_all = estimates(large, chosen, BUILD).verdict
    assert not_at_all is not None and not_at_all.fit is Fit.DOES_NOT
    assert "dsp" in not_at_all.why and "of 220" in not_at_all.why
    nobodys = replace(BUILD, part="xc7k325tffg900-2")
    assert estimates(NET, chosen, nobodys).verdict is None


def test_bits_that_no_design_had_are_not_told() -> None:
    """Of 5 bits of input none was seen: counts are unknown, and nothing is said to fit."""
    few = Outline("net", 64, 5, (dense("fc0", INPUT, 64, 32, act=5),))
    found = estimates(few, {"fc0": RESOURCE}, BUILD)
    assert found.unknown["lut in HLS report"] == "fc0: none with bits like its were seen"
    assert found.unknown["fc0 lut"] == "input bits 5, where designs seen have 16"
    assert found.verdict is not None and found.verdict.fit is Fit.MAY_NOT
    assert "lut unknown" in found.verdict.why


def test_what_is_not_known_is_never_nothing() -> None:
    odd = Step("odd", Role.UNKNOWN, (INPUT,), 1, 64, 1, 16, 16)
    of = Outline("net", 64, 16, (odd, dense("fc0", "odd", 64, 32)))
    found = estimates(of, {"fc0": RESOURCE}, BUILD)
    assert not found.metrics
    assert found.unknown["dsp in HLS report"] == "nothing is known of what odd does"
    assert found.verdict is not None and found.verdict.fit is Fit.MAY_NOT
    pooled = Outline("net", 64, 16, (*of.steps[1:], replace(act("p", "fc0", 8), role=Role.TABLE)))
    assert (
        "no design was seen with table"
        in estimates(
            replace(pooled, steps=(replace(pooled.steps[0], sources=(INPUT,)), pooled.steps[1])),
            {"fc0": RESOURCE},
            BUILD,
        ).unknown["lut in HLS report"]
    )


def test_scales_that_are_no_powers_of_two_may_take_dsps() -> None:
    scaled = tuple(replace(s, scaled=s.role is Role.REQUANT) for s in NET.steps)
    found = totals(replace(NET, steps=scaled), [[RESOURCE] * 3], stream=False)
    assert (found.report["dsp"].low[0], found.report["dsp"].high[0]) == (112, 112 + 4 * 64)
    assert not found.report["lut"].known[0]
    assert found.why == ("no design was seen with scales that are no powers of two",)


def test_activations_take_no_more_than_the_designs_that_are_all_theirs() -> None:
    path = DATA / "hls4ml_baselines" / "hls4ml_pytest_baselines.csv"
    if not path.is_file():
        pytest.skip(f"{path} is not there; set BITWRIGHT_DATA to a folder with surrogate/")
    with path.open() as file:
        rows = [row for row in csv.DictReader(file) if row["section"] == "CSynthesisReport"]
    for stream, name in ((False, "io_parallel"), (True, "io_stream")):
        ours = [r for r in rows if f"_activations_{name}-" in r["test"]]
        ours = [row for row in ours if row["test"].endswith("-relu") and row["LUT"]]
        for label, values in RELU[stream].items():
            assert sorted(int(row[label.upper()]) for row in ours) == list(values)


def test_parts_are_those_of_the_other_target_where_both_know_them() -> None:
    same = {stock.device for stock in shipped()} & set(part_names())
    assert same >= {"xc7z020", "xc7a100t", "xcku5p"}
    for name in same:
        stock, part = find_stock(name), find_part(name)
        assert stock is not None
        assert stock.has == {
            kind.value: row.count for kind, row in part.has.items() if kind.value in COUNTED
        }
    assert find_stock("xcu250-figd2104-2L-e") == find_stock("xcu250-figd2104-2l-e")
    assert find_stock("Arria10") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[a]\nlut = 1\n", "device a: must have lut, ff, dsp, bram_18k and source"),
        ("a = 1\n", "device a: must have"),
        ('[a]\nlut=-1\nff=1\ndsp=1\nbram_18k=1\nsource="x"\n', "lut must be a whole number"),
        ('[a]\nlut=1\nff=1.5\ndsp=1\nbram_18k=1\nsource="x"\n', "ff must be a whole number"),
        ('[a]\nlut=1\nff=1\ndsp=1\nbram_18k=1\nsource=""\n', "source must say"),
    ],
)
def test_bad_tables_of_parts_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_stocks(text)
