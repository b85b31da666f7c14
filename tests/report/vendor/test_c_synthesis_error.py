"""How far C synthesis is off: the intervals in the code are those of the data."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from flow.report.vendor.synthesis import IMPLEMENTED_COVERAGE, IMPLEMENTED_SHARE

DATA = Path(os.environ.get("BITWRIGHT_DATA", "../shared/data"))
TABLE = DATA / "surrogate" / "quickest" / "data1.csv"


def quantiles(
    ratio: NDArray[np.float64], weight: NDArray[np.float64]
) -> tuple[np.float64, np.float64]:
    order = np.argsort(ratio)
    mass = np.cumsum(weight[order]) / weight.sum()
    outside = (1 - IMPLEMENTED_COVERAGE) / 2
    low, high = np.searchsorted(mass, [outside, 1 - outside])
    return ratio[order][low], ratio[order][high]


def test_intervals_are_those_of_the_data_and_hold_for_unseen_designs() -> None:
    if not TABLE.is_file():
        pytest.skip(f"{TABLE} is not there; set BITWRIGHT_DATA to a folder with surrogate/quickest")
    with TABLE.open() as file:
        rows = list(csv.DictReader(file))
    for kind, interval in IMPLEMENTED_SHARE.items():
        name = kind.value.upper()
        kept = [row for row in rows if float(row[name]) > 0]
        ratio = np.array([float(row[f"{name}_impl"]) / float(row[name]) for row in kept])
        design = np.array([row["Design_Index"] for row in kept])
        weight = np.array([1 / np.sum(design == one) for one in design])
        assert interval == pytest.approx(quantiles(ratio, weight), abs=5e-4)
        held = []
        for one in np.unique(design):
            seen = design != one
            low, high = quantiles(ratio[seen], weight[seen])
            held.append(np.mean((ratio[~seen] >= low) & (ratio[~seen] <= high)))
        assert np.mean(held) == pytest.approx(IMPLEMENTED_COVERAGE, abs=0.03)
