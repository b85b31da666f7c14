"""Estimates of own labels: the protocol's splits, what is told of few, and what leaks."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from flow.errors import FlowError, UsageError
from flow.surrogate.kernels import Kernel, Kind, drawn
from flow.surrogate.unrolled import (
    COUNTED,
    FEATURES,
    Label,
    Labelled,
    dsps,
    features,
    labelled,
    terms,
)
from tests.bench import own_estimators as bench

COUNT = 240


def table(count: int = COUNT, family: str = "ice40") -> list[dict[str, str]]:
    """Rows of drawn kernels with made-up structures: a LUT for each bit of a sum and two for each
    function, a flip-flop for each bit that is held, and one percent up or down."""
    rng, rows = np.random.default_rng(0), []
    for kernel in drawn(count):
        size = kernel.work()
        held = dict.fromkeys(COUNTED, 0)
        sums = int(size * rng.uniform(1, 4)) + 1
        held.update(sums=1 + sums // 8, sum_bits=sums, held=sums // 2, latency=kernel.cutoff)
        held.update(luts4=int(size * rng.uniform(0, 3)))
        if kernel.kind is Kind.MUL:
            held.update(products=kernel.inputs, product_bits=kernel.inputs * kernel.given_bits**2)
        lut = (sums + 2 * held["luts4"]) * rng.uniform(0.99, 1.01)
        counts = {"lut": lut, "ff": held["held"] + 1, "carry": 5, **dict.fromkeys(bench.EXACT, 0)}
        cells = {**held, **counts}
        named = {name: str(round(value)) for name, value in cells.items()}
        rows.append({**kernel.row(), **named, "family": family})
    return rows


@pytest.fixture(scope="module")
def designs() -> Labelled:
    return labelled(table(), bench.COUNTS)["ice40"]


def write(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def test_splits_hold_out_what_they_say(designs: Labelled) -> None:
    network = designs.networks()
    shapes, bits = designs.shapes(), [bench.bits_of(kernel) for kernel in designs.kernels]
    found = dict(bench.splits(designs))
    assert list(found) == [
        *("shape", "precision", "size", "random", "kernels to networks", "networks")
    ]
    for name, folds in found.items():
        told = np.sum([out for _, out in folds], axis=0)
        assert told.max() == 1 and not any((known & out).any() for known, out in folds)
        wanted = network if "networks" in name else ~network
        assert (told == wanted).all() or (name == "size" and 0 < told.sum() < wanted.sum())
        for known, out in folds:
            for what, values in (("shape", shapes), ("precision", bits)):
                ours = {v for v, taken in zip(values, out, strict=True) if taken}
                theirs = {v for v, taken in zip(values, known, strict=True) if taken}
                assert name != what or not ours & theirs
    ((known, out),) = found["kernels to networks"]
    assert (known == ~network).all() and (out == network).all()
    assert all(known[network].sum() == (network & ~out).sum() for known, out in found["networks"])


def test_what_follows_from_the_structure_is_found(designs: Labelled) -> None:
    """The formula tells all but the noise; so do its intervals; the mean does not."""
    case = bench.Case(designs, Label.LUT)
    split = dict(bench.splits(designs))["shape"][:2]
    told = dict(zip(bench.HEAD[4:], bench.scored(case, bench.ours, split), strict=True))
    assert float(told["median_pct"]) < 1.5 and float(told["kendall_tau"]) > 0.97
    assert float(told["covered_high"]) >= 90
    assert int(told["designs"]) == sum(int(out.sum()) for _, out in split)
    plain = dict(zip(bench.HEAD[4:], bench.scored(case, bench.mean, split), strict=True))
    assert float(plain["median_pct"]) > 20


def test_of_few_nothing_is_told_but_how_many(tmp_path: Path) -> None:
    few = labelled(table(48), bench.COUNTS)["ice40"]
    split = dict(bench.splits(few))["networks"]
    cells = bench.scored(bench.Case(few, Label.FF), bench.mean, split)
    assert cells[0] == str(few.networks().sum()) and int(cells[1]) < bench.LEAST
    assert not any(cells[2:]) and len(cells) == len(bench.HEAD) - 4
    assert bench.fitted({"ice40": few}) == {}


def test_a_split_that_leaks_is_refused(designs: Labelled) -> None:
    """The same kernel, drawn again, on the other side."""
    first = designs.kernels[0]
    again = Kernel(**{**vars(first), "number": COUNT})
    both = Labelled(
        "ice40",
        (*designs.kernels, again),
        (*designs.structures, designs.structures[0]),
        {name: np.append(counts, counts[0]) for name, counts in designs.counts.items()},
    )
    held = np.arange(len(both)) == COUNT
    with pytest.raises(FlowError, match="a split leaks: 1 configurations"):
        bench.scored(bench.Case(both, Label.LUT), bench.mean, [(~held, held)])


def test_products_of_values_take_dsps(designs: Labelled) -> None:
    kernels = zip(designs.kernels, designs.structures, strict=True)
    for kernel, structure in kernels:
        count = kernel.inputs if kernel.kind is Kind.MUL else 0
        assert dsps(structure, "ice40") == 0 and dsps(structure, "ecp5") == count
    small = dict.fromkeys(COUNTED, 0.0) | {"products": 3, "product_bits": 3 * 16}
    assert (dsps(small, "xc7"), dsps(small, "ecp5")) == (0, 3)


def test_the_tables_counts_are_checked(designs: Labelled) -> None:
    rows = table(3)
    assert len(labelled(rows, bench.COUNTS)["ice40"]) == 3
    assert terms(designs.structures[:2], Label.FF).shape == (2, 4)
    assert features(designs.structures[:2]).shape == (2, len(FEATURES))
    for broken in ("-1", "x", ""):
        with pytest.raises(UsageError, match="kernel 0 has no label"):
            labelled([{**rows[0], "held": broken}], bench.COUNTS)
    with pytest.raises(UsageError, match="kernel 0 has no label: KeyError"):
        labelled([{k: v for k, v in rows[0].items() if k != "luts4"}], bench.COUNTS)


def test_families_that_are_counted_alike(designs: Labelled) -> None:
    other = labelled(table(24, "xcup"), bench.COUNTS)["xcup"]
    cells = bench.same(designs, other)
    assert cells[:5] == ["xcup", "all", "counted like ice40 in 24", "same counts", "24"]
    other.counts["lut"][3] += 1
    assert bench.same(designs, other)[2] == "counted like ice40 in 23"
    assert len(cells) == len(bench.HEAD) == len(bench.exact(designs, "dsp"))


def test_an_ecp5s_carries_are_luts() -> None:
    """Of two LUTs each, as a part has them."""
    plain, ecp5 = (labelled(table(3, f), bench.COUNTS)[f].counts for f in ("ice40", "ecp5"))
    assert (ecp5["lut"] == plain["lut"] + 2 * 5).all() and (ecp5["ff"] == plain["ff"]).all()
