"""Energy: counts times numbers that have a source, and intervals as wide as sources disagree."""

from __future__ import annotations

import csv
import os
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow.errors import FlowError
from flow.metric import Interval, Kind
from flow.outline import INPUT, Outline, Role, Step
from flow.outline import Known as Weights
from flow.plan import Events, Request, Source
from flow.surrogate.energy import (
    TABLE,
    Known,
    boards,
    multiplied,
    no_board,
    processors,
    read_energies,
    shipped_energies,
    switching,
    unrolled,
)
from flow.surrogate.recipes import recipe_outline
from flow.surrogate.structure import Range, products

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "flow" / "surrogate" / TABLE).read_text()
DATA = Path(os.environ.get("BITWRIGHT_DATA", "../shared/data")) / "surrogate"


def dense(known: Weights | None = None) -> Outline:
    """2 x 3 weights of 4 bits, inputs of 8; sums of 13 bits."""
    step = Step("fc", Role.DENSE, (INPUT,), 2, 3, 1, 8, 13, 4, known)
    return Outline("net", 2, 8, (step,))


def test_an_inference_by_hand() -> None:
    """Six products of 4 by 8 bits by the least and the most of the table, six additions of 13 bits,
    and three values of 13 bits held."""
    found = multiplied(dense(Weights(6, 3, 9)))
    held = 39 * 0.00554, 39 * 0.009, 39 * 0.00901
    assert found.low == pytest.approx(6 * 32 * 3.1 / 1024 + 6 * 13 * 0.0853 / 32 + held[0])
    assert found.likely == pytest.approx(6 * 32 * 8.63 / 1024 + 6 * 13 * 0.1 / 32 + held[1])
    assert found.high == pytest.approx(6 * 32 * 18.94 / 1024 + 6 * 13 * 0.21 / 32 + held[2])
    # Nine digits for three outputs are six additions.
    assert unrolled(dense(Weights(6, 3, 9))).low == pytest.approx(6 * 13 * 0.0853 / 32 + held[0])


def test_weights_that_are_not_known_may_all_be_nothing_or_all_be_something() -> None:
    unknown, full = multiplied(dense()), multiplied(dense(Weights(6, 3, 9)))
    none = multiplied(dense(Weights(0, 0, 0)))
    assert (unknown.low, unknown.high) == (none.low, full.high)


@given(st.integers(0, 6))
def test_more_weights_never_take_less(nonzero: int) -> None:
    fewer, more = (multiplied(dense(Weights(n, 3, 9))) for n in (nonzero, nonzero + 1))
    assert fewer.low < more.low and fewer.high < more.high


def test_an_fpga_takes_the_range_of_what_was_measured_more() -> None:
    cells = switching(Range(1000, 2000, 3000), fabric=False)
    fabric = switching(Range(1000, 2000, 3000), fabric=True)
    assert (cells.value, cells.unit, cells.interval) == (2.0, "nJ", Interval(1.0, 3.0, 0.5))
    assert fabric.kind is Kind.ESTIMATED
    assert fabric.interval == Interval(12.0, 42.0, 1 / 3)
    assert fabric.value == 2 * 13
    for name in ("Horowitz", "Aladdin", "Kuon and Rose"):
        assert name in fabric.source


def test_a_board_takes_its_power_for_as_long_as_the_design_runs() -> None:
    alone, pipelined = boards("xc7z020", Range.exactly(1e-3), Range(1e-6, 1e-6, 2e-6))
    assert (alone.name, alone.unit) == ("board energy", "uJ")
    assert alone.value == pytest.approx(1617)
    assert alone.interval is not None and alone.interval.coverage == 4 / 6
    assert (alone.interval.low, alone.interval.high) == pytest.approx((1583, 1758))
    assert pipelined.interval is not None
    assert (pipelined.interval.low, pipelined.interval.high) == pytest.approx((1.583, 3.516))
    assert list(boards("xcku5p", Range.exactly(1.0), None)) == []
    assert no_board("xcku5p") == (
        "no board with xcku5p was measured; those with xc7z020, xc7a100t were"
    )


@pytest.mark.parametrize("name", ["ad_autoencoder", "ic_resnet8", "kws_dscnn", "vww_mobilenet"])
def test_a_submitted_network_lies_in_its_processors_interval(name: str) -> None:
    """The table's counts of products are those of this project's models of the same networks."""
    body = tomllib.loads(TEXT)
    models = ("ad_autoencoder", "ic_resnet8", "kws_dscnn", "vww_mobilenet")
    at = models.index(name)
    recipe = Source(Request(name, ""), Events()).recipe
    assert recipe is not None
    macs = sum(products(step) for step in recipe_outline(recipe).steps)
    assert macs == body["networks"]["macs"][at]
    for metric, row in zip(processors(macs), body["processor"].values(), strict=True):
        assert metric.interval is not None and metric.interval.coverage == 3 / 5
        assert metric.name == f"energy on {row['title']}"
        for run in row["uj"]:
            assert metric.interval.low <= run[at] * (1 + 1e-9)
            assert run[at] <= metric.interval.high * (1 + 1e-9)


def test_the_table_has_the_submitted_numbers() -> None:
    path = DATA / "mlperf_tiny" / "mlperf_tiny_results.csv"
    if not path.is_file():
        pytest.skip(f"{path} is not there; set BITWRIGHT_DATA to a folder with surrogate/")
    with path.open() as file:
        told = {row["energy_uJ_inf"] for row in csv.DictReader(file)}
    typed = [
        str(number)
        for row in tomllib.loads(TEXT)["processor"].values()
        for run in row["uj"]
        for number in run
    ]
    assert typed and {float(number) for number in typed} <= {float(t) for t in told if t}


def test_accelergys_numbers_are_those_of_its_tables() -> None:
    folder = DATA / "accelergy_tables" / "aladdin"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there; set BITWRIGHT_DATA to a folder with surrogate/")
    table = shipped_energies()
    for name, known, parts, others in (
        ("adder", table.add, 32, {0.1}),
        ("multiplier", table.multiply, 32**2, {3.1}),
        ("reg", table.register, 1, set()),
    ):
        with (folder / f"{name}.csv").open() as file:
            seen = [float(row["dynamic energy(pJ)"]) for row in csv.DictReader(file)]
        typed = {round(number * parts, 9) for number in known.numbers}
        assert typed <= {*seen, *others}
        assert {min(seen), max(seen)} <= typed, "the ends are those of the source"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("pj = [0.0853, 0.1, 0.21]", "pj = [0.1]", "at least two numbers above 0"),
        ("pj = [0.0853, 0.1, 0.21]", "pj = [0.1, -0.2]", "at least two numbers above 0"),
        ("pj = [0.0853, 0.1, 0.21]", "pj = [0.2, 0.1]", "must ascend"),
        ("pj = [0.0853, 0.1, 0.21]", "pj = [0.1, nan]", "at least two numbers above 0"),
        ("bits = 32", "bits = 0", "ZeroDivisionError"),
        ("[fabric]", "[cloth]", "fabric"),
        ("[networks]", "[networks", "damaged"),
    ],
)
def test_a_damaged_table_is_refused(old: str, new: str, message: str) -> None:
    with pytest.raises(FlowError, match=message):
        read_energies(TEXT.replace(old, new, 1))
    assert old in TEXT


def test_a_number_without_a_source_is_refused() -> None:
    with pytest.raises(ValueError, match="source must say"):
        replace(Known((1.0, 2.0), "ours", "measured"), source="")
