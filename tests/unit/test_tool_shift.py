"""What a later tool leaves of what an earlier one announced."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow.errors import FlowError, UsageError
from flow.report.vendor.synthesis import IMPLEMENTED_COVERAGE, IMPLEMENTED_SHARE
from flow.spans import Spans
from flow.surrogate.designs import read_pairs
from flow.surrogate.shift import (
    COVERAGE,
    Shift,
    fitted_shift,
    read_shifts,
    save_shifts,
    shipped_shifts,
)

DATA = Path(os.environ.get("BITWRIGHT_DATA", "../shared/data")) / "surrogate"


@given(st.lists(st.lists(st.floats(0.01, 100), min_size=1, max_size=6), min_size=1, max_size=12))
def test_quantiles_of_designs_whatever_their_variants(drawn: list[list[float]]) -> None:
    """By the definition: every design has one share, however many variants it has; as much of the
    shares lies at or below each quantile as it says, and no smaller ratio has."""
    ratio = np.array([value for design in drawn for value in design])
    design = np.repeat(np.arange(len(drawn)), [len(d) for d in drawn])
    weight = np.array([1 / len(d) / len(drawn) for d in drawn for _ in d])
    found = fitted_shift(ratio, design)
    for value, share in ((found.low, 0.05), (found.likely, 0.5), (found.high, 0.95)):
        assert weight[ratio <= value].sum() >= share - 1e-9
        assert weight[ratio < value].sum() <= share + 1e-9
    assert found.coverage == COVERAGE


def test_what_is_left_of_a_range() -> None:
    left = Spans.between(8, 10, 12) * Shift(0.25, 0.5, 1.0, 0.9).spans
    assert (left.low, left.likely, left.high) == (2, 5, 12)


def test_there_is_one_model_of_what_implementation_leaves() -> None:
    """Reports of vendor tools carry the same interval."""
    shipped = shipped_shifts().of
    for kind, ends in IMPLEMENTED_SHARE.items():
        shift = shipped[kind.value]
        assert (shift.low, shift.high) == pytest.approx(ends, abs=5e-4)
        assert shift.coverage == IMPLEMENTED_COVERAGE


def test_the_shipped_ones_are_those_of_the_pairs() -> None:
    if not (DATA / "quickest").is_dir():
        pytest.skip(f"{DATA} has no quickest; set BITWRIGHT_DATA to a folder with surrogate/")
    shipped = shipped_shifts()
    found = read_pairs(DATA, tuple(shipped.of))
    for label, pairs in found.items():
        assert fitted_shift(pairs.ratio, pairs.design) == shipped.of[label]
    assert shipped.about["designs"] == len(np.unique(found["lut"].design)) == 57
    assert "bram_18k" not in shipped.of  # blocks of which size the pairs count is not known


def test_written_and_read_again(tmp_path: Path) -> None:
    shipped = shipped_shifts()
    save_shifts(tmp_path, shipped)
    text = (tmp_path / "shift.json").read_text()
    assert read_shifts(text) == shipped
    body = json.loads(text)
    body["of"]["lut"]["low"] = 2.0
    for wrong in ("", "{", "{}", "[]", json.dumps(body), text.replace('"likely"', '"lik"')):
        with pytest.raises(FlowError, match=r"shift.json cannot be read: .*; fit it again"):
            read_shifts(wrong)


def test_bad_ratios_are_refused() -> None:
    for wrong in ([], [0.5, -0.1], [np.nan]):
        with pytest.raises(ValueError, match="ratios must be numbers"):
            fitted_shift(np.array(wrong), np.arange(len(wrong)))


def test_bad_tables_of_pairs_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "quickest"
    folder.mkdir()
    table = folder / "data1.csv"
    with pytest.raises(UsageError, match=r"data1.csv cannot be read: .*BITWRIGHT_DATA"):
        read_pairs(tmp_path, ["lut"])
    table.write_text("Design_Index,LUT,LUT_impl\n")
    with pytest.raises(UsageError, match="is empty"):
        read_pairs(tmp_path, ["lut"])
    table.write_text("Design_Index,LUT\n1,5\n")
    with pytest.raises(UsageError, match="must name the columns Design_Index, LUT, LUT_impl"):
        read_pairs(tmp_path, ["lut"])
    table.write_text("Design_Index,LUT,LUT_impl\n1,5,many\n")
    with pytest.raises(UsageError, match=r"line 2 is no design: LUT_impl must be .* not 'many'"):
        read_pairs(tmp_path, ["lut"])
    table.write_text("Design_Index,LUT,LUT_impl\n1,0,3\n")
    with pytest.raises(UsageError, match="hold no design that has any lut"):
        read_pairs(tmp_path, ["lut"])
