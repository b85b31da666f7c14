"""Types, metrics, options, host rounding: each against something that shares no code with it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from flow.errors import UsageError
from flow.host_snippet import round_float
from flow.metric import Interval, Kind, Metric, share_interval
from flow.options import split_assignments, with_options
from flow.qat.recipe import Granularity, apply_options
from flow.qtype import QType
from flow.requant import Rounding
from models import MODELS


@given(st.integers(-(1 << 40), 1 << 40), st.integers(0, 1 << 40))
def test_covering_is_the_smallest_type(low: int, extent: int) -> None:
    qtype = QType.covering(low, low + extent)
    assert qtype.low <= low
    assert low + extent <= qtype.high
    if qtype.bits > 1:
        smaller = QType(qtype.bits - 1, qtype.signed)
        assert smaller.low > low or smaller.high < low + extent


def test_types_are_what_they_say() -> None:
    assert (QType(4, True).low, QType(4, True).high) == (-8, 7)
    assert (QType(4, True, narrow=True).low, QType(4, True, narrow=True).high) == (-7, 7)
    assert (QType(4, False).low, QType(4, False).high) == (0, 15)
    assert (QType(4, False, narrow=True).high) == 14  # as QONNX: max_int(unsigned, narrow)
    with pytest.raises(ValueError, match="bits must be from 1 to 63"):
        QType(64, True)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_share_interval_is_wilson_s(counts: tuple[int, int]) -> None:
    hits, total = counts
    expected = binomtest(hits, total).proportion_ci(0.95, method="wilson")
    found = share_interval(hits, total)
    assert found.low == pytest.approx(expected.low, abs=1e-9)
    assert found.high == pytest.approx(expected.high, abs=1e-9)


def test_an_estimate_without_interval_is_no_metric() -> None:
    with pytest.raises(ValueError, match="must carry its interval"):
        Metric("lut", 10, "1", Kind.ESTIMATED, "formula")
    with pytest.raises(ValueError, match="source"):
        Metric("lut", 10, "1", Kind.MEASURED, "")
    metric = Metric("lut", 10, "1", Kind.ESTIMATED, "formula", Interval(8, 12, 0.9))
    assert Metric.from_json(metric.to_json()) == metric


@given(
    st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=30),
    st.sampled_from(list(Rounding)),
    st.booleans(),
)
def test_float_rounding_is_the_rational_one(
    numbers: list[float], mode: Rounding, ties: bool
) -> None:
    x = np.array(numbers, dtype=np.float32)
    if ties:  # land on halves, where the modes differ
        x = np.round(x * 2) / np.float32(2)
    expected = [mode.apply(Fraction(float(v))) for v in x]
    if mode.breaks_at_halves and not ties:
        # x + 0.5 itself rounds in float32 just below a half; QONNX's tools do the same.
        fraction = np.abs(x - np.trunc(x))
        keep = (np.abs(fraction - 0.5) > 1e-2) | (fraction == 0.5)
        expected = [e for e, k in zip(expected, keep, strict=True) if k]
        x = x[keep]
    assert round_float(x, mode.value).astype(np.int64).tolist() == expected


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Sample:
    count: int = 1
    share: float = 0.5
    on: bool = False
    colour: Colour = Colour.RED
    hidden: tuple[int, ...] = ()


def test_options_are_the_fields() -> None:
    text = split_assignments("count=3 share=1e-3 on=yes colour=blue")
    assert with_options(Sample(), text) == Sample(3, 1e-3, True, Colour.BLUE)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("count=3.5", "count must be a whole number, not '3.5'"),
        ("share=nan", "share must be a finite number, not 'nan'"),
        ("on=maybe", "on must be true or false, not 'maybe'"),
        ("colour=green", "colour must be one of red, blue, not 'green'"),
        ("colours=red", "unknown option 'colours' .did you mean 'colour'"),
        ("hidden=1", "unknown option 'hidden'"),
        ("count", "'count' must be of the form key=value"),
        ("count=", "must be of the form key=value"),
        ("count=1 count=2", "'count' is given twice"),
    ],
)
def test_wrong_options_say_what_is_right(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        with_options(Sample(), split_assignments(text))


def test_recipes_know_their_shapes_and_bits() -> None:
    recipe = apply_options(MODELS["digits_cnn"](), {"weight_bits": "3", "conv2.act_bits": "7"})
    rows = {row.name: row for row in recipe.summary()}
    assert rows["conv1"].output_shape == (8, 8, 8)
    assert rows["pool"].output_shape == (16, 4, 4)
    assert rows["flatten"].output_shape == (256,)
    assert (rows["conv1"].weight, rows["conv1"].act, rows["conv2"].act) == (3, 5, 7)
    assert rows["fc"].act is None
    assert apply_options(recipe, {"output_bits": "8"}).summary()[-1].act == 8
    changed = apply_options(recipe, {"granularity": "channel"})
    assert changed.granularity is Granularity.CHANNEL
    assert changed.digest() != recipe.digest()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight_bits": "17"}, "weight_bits must be from 2 to 16, not 17"),
        ({"conv9.weight_bits": "3"}, "unknown layer 'conv9'"),
        ({"conv1.colour": "3"}, "unknown layer option 'colour'"),
        ({"fc.act_bits": "3"}, "fc.act_bits.*accumulator"),
        ({"data": "mnist"}, "unknown option 'data'"),
        ({"seed": "-1"}, "seed must be from 0"),
    ],
)
def test_wrong_recipe_options_are_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        apply_options(MODELS["digits_cnn"](), options)
