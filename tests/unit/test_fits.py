"""Fitting a part: what does not fit is never said to, and what is refused cannot fit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow.metric import Fit
from flow.surrogate.fits import Need, verdict

AMOUNT = st.floats(0, 1e6, allow_nan=False)
NEEDS = st.dictionaries(
    st.sampled_from(("lut", "ff", "dsp", "bram_18k")),
    st.tuples(AMOUNT, AMOUNT, AMOUNT, st.floats(0, 1)),
    min_size=1,
)


@given(drawn=NEEDS, unknown=st.booleans())
def test_no_truth_inside_the_ends_makes_a_verdict_wrong(
    drawn: dict[str, tuple[float, float, float, float]], unknown: bool
) -> None:
    """Wherever between its ends each need truly lies: a design that fits does, and one that does
    not fit lacks something."""
    needs, truly = {}, True
    for name, (one, other, has, share) in drawn.items():
        low, high = sorted((one, other))
        needs[name] = Need(low, high, has)
        truly &= low + share * (high - low) <= has
    found = verdict("part", needs, ("uram",) if unknown else ())
    if found.fit is Fit.FITS:
        assert truly and not unknown
    if found.fit is Fit.DOES_NOT:
        assert not truly
    if found.fit is Fit.MAY_NOT and not unknown:  # it is not said where the ends tell
        assert any(need.low <= need.has < need.high for need in needs.values())


@pytest.mark.parametrize(
    ("low", "high", "has", "fit", "why"),
    [
        (10, 20, 20, Fit.FITS, "lut 10 to 20 of 20"),
        (10, 20.1, 20, Fit.MAY_NOT, "lut 10 to 21 of 20"),
        (20, 30, 20, Fit.MAY_NOT, "lut 20 to 30 of 20"),
        (20.1, 30, 20, Fit.DOES_NOT, "lut 20 to 30 of 20"),
        (7, 7, 9, Fit.FITS, "lut 7 of 9"),
        (0, 0, 0, Fit.FITS, "lut 0 of 0"),
    ],
)
def test_the_ends_decide(low: float, high: float, has: int, fit: Fit, why: str) -> None:
    found = verdict("xc7z020", {"lut": Need(low, high, has)})
    assert (found.fit, found.why) == (fit, why)
    assert found.to_json() == {"part": "xc7z020", "fit": fit.value, "why": why}


def test_what_is_not_known_is_not_taken_to_be_nothing() -> None:
    fine, large = Need(1, 2, 10), Need(11, 12, 10)
    assert verdict("part", {"lut": fine}, ["ff"]).fit is Fit.MAY_NOT
    assert verdict("part", {"lut": fine}, ["ff"]).why == "ff unknown"
    assert verdict("part", {"lut": large}, ["ff"]).fit is Fit.DOES_NOT
    assert verdict("part", {}).fit is Fit.MAY_NOT
