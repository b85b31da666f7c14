"""The area under the ROC curve against its definition and scikit-learn's; its interval against the
normal approximation, and against how often it holds the true area."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from flow.roc import Roc

SCORES = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=30)


@given(SCORES, SCORES)
def test_the_area_is_the_share_of_pairs_in_order_ties_half(
    normal: list[float], anomalous: list[float]
) -> None:
    scores = np.array([*normal, *anomalous])
    marks = np.arange(len(scores)) >= len(normal)
    roc = Roc.of(scores, marks)
    pairs = [(a > n) + (a == n) / 2 for n in normal for a in anomalous]
    assert roc.area == pytest.approx(sum(pairs) / len(pairs), abs=1e-12)
    assert roc.area == pytest.approx(roc_auc_score(marks, scores), abs=1e-12)
    assert (roc.normal, roc.anomalous) == (len(normal), len(anomalous))
    assert Roc.of(-scores, marks).area == pytest.approx(1 - roc.area, abs=1e-12)


@given(st.integers(0, 2**32 - 1))
def test_a_recording_is_judged_by_the_mean_of_its_parts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    marks = np.array([False, False, False, True, True])
    recordings = rng.permutation(np.repeat([7, 0, 4, 9, 2], rng.integers(1, 6, 5)))
    labels = marks[np.searchsorted([0, 2, 4, 7, 9], recordings)].astype(np.int64)
    scores = rng.normal(size=len(recordings))
    means = np.array([scores[recordings == name].mean() for name in (0, 2, 4, 7, 9)])
    assert Roc.of_parts(scores, labels, recordings) == Roc.of(means, marks)


def test_one_kind_alone_and_recordings_of_both_are_refused() -> None:
    ones = np.ones(3)
    for marks in (ones == 1, ones == 0):
        with pytest.raises(ValueError, match="not one kind alone"):
            Roc.of(ones, marks)
    with pytest.raises(ValueError, match="one label"):
        Roc.of_parts(ones, np.array([0, 1, 1]), np.array([5, 5, 6]))


@given(st.integers(0, 400), st.integers(1, 40), st.integers(1, 40))
def test_an_interval_is_around_its_area_and_inside_of_0_to_1(
    hits: int, normal: int, anomalous: int
) -> None:
    roc = Roc(hits / 400, normal, anomalous)
    around, mirrored = roc.interval(), Roc(1 - hits / 400, normal, anomalous).interval()
    assert 0 <= around.low <= roc.area <= around.high <= 1
    assert around.low < around.high
    assert mirrored.low == pytest.approx(1 - around.high, abs=1e-9)
    wider = roc.interval(0.99)
    assert wider.low <= around.low and wider.high >= around.high


def test_of_many_recordings_the_interval_is_hanley_s_and_mcneil_s() -> None:
    """Their example: 58 normal and 51 abnormal images, area 0.893, standard error 0.032."""
    size = 10_000
    q1, q2 = 0.893 / (2 - 0.893), 2 * 0.893**2 / (1 + 0.893)
    rest = (size - 1) * (q1 - 0.893**2) + (size - 1) * (q2 - 0.893**2)
    error = np.sqrt((0.893 * (1 - 0.893) + rest) / size**2)
    around = Roc(0.893, size, size).interval()
    assert around.high - around.low == pytest.approx(2 * 1.96 * error, rel=1e-3)
    few = Roc(0.893, 58, 51).interval()
    assert few.high - few.low == pytest.approx(2 * 1.96 * 0.032, rel=0.05)


@pytest.mark.parametrize(
    ("normal", "anomalous", "gap"), [(35, 27, 1.5), (12, 12, 0.0), (9, 30, 3.0)]
)
def test_the_interval_holds_the_true_area_about_as_often_as_it_says(
    normal: int, anomalous: int, gap: float
) -> None:
    rng = np.random.default_rng(normal)
    true = NormalDist().cdf(gap / 2**0.5)
    marks = np.arange(normal + anomalous) >= normal
    held = 0
    for _ in range(1000):
        around = Roc.of(rng.normal(size=len(marks)) + gap * marks, marks).interval()
        held += around.low <= true <= around.high
    assert 0.93 <= held / 1000 <= 0.99
