"""How the benchmark compares LUTs where networks are right as often: by its closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from tests.bench.rtl import Floats, _compared, _equal


def networks(accuracy: float, luts: float) -> Floats:
    """Six of them, all alike."""
    return np.array([[accuracy] * 6, [luts] * 6])


@pytest.mark.parametrize(
    ("accuracy", "luts"),
    [(96.0, 1000), (96.25, 1250), (97.5, 3000), (98.0, 4000), (99.0, 4000), (95.9, 0)],
    ids=["first", "between", "beyond a fall", "last", "better than all", "worse than all"],
)
def test_luts_for_the_same_accuracy(accuracy: float, luts: float) -> None:
    """Where more channels were right less often, both count as their mean: 97 here."""
    curve = [networks(a, n) for a, n in ((96, 1000), (97.2, 2000), (96.8, 2500), (98, 4000))]
    assert _equal(networks(accuracy, 1), curve) == pytest.approx(luts)


def test_a_ratio_has_an_interval_that_seeds_alone_widen() -> None:
    curve = [networks(96, 1000), networks(98, 3000)]
    assert _compared(networks(97, 1000), curve) == ["2000", "0.500", "0.500 0.500", ""]
    own = np.array([[96.5, 97.5] * 3, [900.0, 1100.0] * 3])
    equal, ratio, interval, window = _compared(own, curve)
    low, high = map(float, interval.split())
    assert (equal, ratio, window) == ("2000", "0.500", "") and low < 0.48 and high > 0.52
    assert _compared(networks(97.8, 1200), curve)[3] == "0.400"
