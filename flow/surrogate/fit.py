"""Fitting estimators to what tools made of designs. Nothing of this is needed to estimate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.surrogate.conformal import group_quantile
from flow.surrogate.estimator import Estimator, Hull
from flow.surrogate.trees import Floats, Forest

COVERAGE = 0.9  # nominal
FOLDS = 6
GROUPS_A_SIZE, MOST_SIZES = 100, 6  # into which errors are divided
TREES, LEAVES, RATE = 100, 12, 0.1
PENALTY = 1.0  # of the linear rule's slopes, in rows


@dataclass(frozen=True, eq=False)
class Rows:
    """Designs: features (n, f), terms of the formula (n, t), labels (n,), and the group of each,
    which tells designs apart that count as different. `sizes` is how many of the features, the
    first, are sizes, in which designs may lie beyond all that were seen; `rising` says of each
    feature whether the label's ratio to the formula cannot fall (1) or rise (-1) with it, or 0."""

    features: Floats
    terms: Floats
    label: Floats
    group: NDArray[np.int64]
    sizes: int
    rising: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.label)

    def take(self, which: NDArray[Any]) -> Rows:
        """Those rows; of each, its features, terms, label and group."""
        parts = (self.features[which], self.terms[which], self.label[which], self.group[which])
        return Rows(*parts, self.sizes, self.rising)


def folds(group: NDArray[np.int64], count: int) -> Iterator[NDArray[np.bool_]]:
    """Which rows each fold holds out: whole groups, dealt out in a fixed order."""
    names = np.unique(group)
    order = np.random.default_rng(0).permutation(len(names))
    dealt = np.empty(len(names), dtype=np.int64)
    dealt[order] = np.arange(len(names)) % min(count, len(names))
    place = dealt[np.searchsorted(names, group)]
    for fold in range(min(count, len(names))):
        yield place == fold


def fit(rows: Rows, trees: int = TREES) -> Estimator:
    """The estimator of a label, with intervals calibrated on groups held out of the fit."""
    with _one_thread():
        return _calibrated(rows, trees)


def _one_thread() -> AbstractContextManager[object]:
    """On a few hundred rows threads cost more than they give."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1)  # type: ignore[no-any-return]


def _calibrated(rows: Rows, trees: int) -> Estimator:
    plain = fit_values(rows, trees)
    errors, inside, owners, sizes = [], [], [], []
    for held in _held_out(rows):
        found = fit_values(rows.take(~held), trees)
        test = rows.take(held)
        made = found.estimate(test.features, test.terms)
        errors.append(np.abs(np.log1p(test.label) - np.log1p(made.value)))
        inside.append(~made.outside)
        owners.append(test.group)
        sizes.append(np.log1p(made.value))
    error, within, group = np.concatenate(errors), np.concatenate(inside), np.concatenate(owners)
    size, beyond = np.concatenate(sizes), ~within
    within[len(rows) :] = False  # those are held out for what lies beyond the ends
    edges = _edges(size[within], len(np.unique(rows.group)))
    near = _half_widths(error[within], group[within], np.searchsorted(edges, size[within]), edges)
    far = near
    if beyond.any():
        far = np.maximum(near, group_quantile(error[beyond], group[beyond], COVERAGE))
    return replace(plain, edges=edges, inside=near, outside=far)


def _edges(size: Floats, groups: int) -> Floats:
    """Between as many designs each."""
    count = max(1, min(groups // GROUPS_A_SIZE, MOST_SIZES))
    found: Floats = np.unique(np.quantile(size, np.arange(1, count) / count))
    return found


def _half_widths(
    error: Floats, group: NDArray[np.int64], place: NDArray[np.int64], edges: Floats
) -> Floats:
    """Of each size."""
    return np.array(
        [
            group_quantile(error[place == size], group[place == size], COVERAGE)
            for size in range(len(edges) + 1)
        ]
    )


def _held_out(rows: Rows) -> Iterator[NDArray[np.bool_]]:
    """Folds of groups, which hold out every row once; and, of each size, the quarter at either
    end."""
    yield from folds(rows.group, FOLDS)
    for size in range(rows.sizes):
        column = rows.features[:, size]
        low, high = np.quantile(column, [0.25, 0.75])
        for held in (column > high, column < low):
            if held.any() and len(np.unique(rows.group[~held])) > 3:
                yield held


def fit_values(rows: Rows, trees: int = TREES) -> Estimator:
    """Without intervals: those that it tells have no width."""
    factors = fitted_formula(rows.terms, rows.label)
    left = np.log1p(rows.label) - np.log1p(rows.terms @ factors)
    learned = forest(rows.features, left, rows.rising, trees)
    hull = hull_of(rows.features, rows.group, rows.sizes)
    slope = linear((rows.features - hull.low) / hull.unit, left)
    ends = float(left.min()), float(left.max())
    none = np.zeros(1)
    return Estimator(factors, learned, slope, *ends, hull, np.zeros(0), none, none, COVERAGE)


def fitted_formula(terms: Floats, label: Floats) -> Floats:
    """Factors, none negative, of least error in log(1 + label), large ones counting less than by
    their square: some designs are what no term tells. The search begins at the least squared
    relative error."""
    from scipy.optimize import least_squares, nnls

    weight = 1 / (1 + label)
    scale = np.abs(terms * weight[:, None]).max(axis=0)
    scale[scale == 0] = 1
    begin, _ = nnls(terms * weight[:, None] / scale, label * weight)
    scaled, goal = terms / scale, np.log1p(label)

    def error(factors: Floats) -> Floats:
        found: Floats = np.log1p(scaled @ factors) - goal
        return found

    def slopes(factors: Floats) -> Floats:
        found: Floats = scaled / (1 + scaled @ factors)[:, None]
        return found

    found = least_squares(
        error, begin + 1e-9, slopes, bounds=(0, np.inf), loss="soft_l1", f_scale=0.1
    )
    result: Floats = found.x / scale
    return result


def forest(features: Floats, label: Floats, rising: Sequence[int], trees: int = TREES) -> Forest:
    """Boosted trees of least squared error."""
    with _one_thread():
        return _plain(_boosted(features, label, rising, trees))


def _boosted(features: Floats, label: Floats, rising: Sequence[int], trees: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingRegressor

    return HistGradientBoostingRegressor(
        max_iter=trees,
        max_leaf_nodes=LEAVES,
        learning_rate=RATE,
        min_samples_leaf=max(2, min(8, len(label) // 40)),
        monotonic_cst=list(rising),
        early_stopping=False,
        random_state=0,
    ).fit(features, label)


def _plain(made: Any) -> Forest:
    """scikit-learn's trees as arrays."""
    trees = [stage[0].nodes for stage in made._predictors]
    size = max(len(nodes) for nodes in trees)
    shape = (len(trees), size)
    feature, left, right = (np.zeros(shape, dtype=np.int64) for _ in range(3))
    threshold, value = np.zeros(shape), np.zeros(shape)
    for tree, nodes in enumerate(trees):
        leaf = nodes["is_leaf"].astype(bool)
        own = np.arange(len(nodes))
        row = slice(0, len(nodes))
        feature[tree, row] = np.where(leaf, 0, nodes["feature_idx"])
        threshold[tree, row] = np.where(leaf, 0.0, nodes["num_threshold"])
        left[tree, row] = np.where(leaf, own, nodes["left"])
        right[tree, row] = np.where(leaf, own, nodes["right"])
        value[tree, row] = np.where(leaf, nodes["value"], 0.0)
    depth = max(int(nodes["depth"].max()) for nodes in trees)
    base = float(np.asarray(made._baseline_prediction).reshape(-1)[0])
    return Forest(base, feature, threshold, left, right, value, depth)


def hull_of(features: Floats, group: NDArray[np.int64], sizes: int) -> Hull:
    """`reach` is the furthest that any design is from the nearest of another group."""
    low, high = features.min(axis=0), features.max(axis=0)
    unit = np.where(high > low, high - low, 1.0)
    points, place = np.unique(features, axis=0, return_index=True)
    owner, scaled, reach = group[place], points / unit, 0.0
    for start in range(0, len(points), 256):  # bounded memory
        rows = slice(start, start + 256)
        far = np.zeros((len(owner[rows]), len(points)))
        for column in scaled.T:
            np.maximum(far, np.abs(column[rows, None] - column), out=far)
        far[owner[rows, None] == owner] = np.inf
        if np.isfinite(closest := far.min(axis=1)).all():
            reach = max(reach, float(closest.max()))
    return Hull(low, high, unit, points, reach, sizes)


def linear(scaled: Floats, label: Floats) -> Floats:
    """(constant, slopes) of least squares with a penalty on the slopes."""
    with_one = np.column_stack([np.ones(len(scaled)), scaled])
    penalty = PENALTY * np.eye(with_one.shape[1])
    penalty[0, 0] = 0.0
    found: Floats = np.linalg.solve(with_one.T @ with_one + penalty, with_one.T @ label)
    return found
