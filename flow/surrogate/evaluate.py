"""How good estimates are: measures, and splits that must not leak."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from flow.binomial import exact_share
from flow.errors import FlowError
from flow.metric import Interval
from flow.surrogate.trees import Floats

CAPACITIES = 9  # parts that designs are to fit into: deciles of what designs take


@dataclass(frozen=True)
class Scores:
    """Of n designs: the share of variance explained, the symmetric mean percentage error as
    wa-hls4ml has it (eps = 1), median and 90 % quantile of the relative error (%), Kendall's tau,
    and, of pairs of a design and a part that it does not fit, the percentage said to fit. Of
    intervals the percentage that held, with its 95 % interval, and the mean of their width as a
    percentage of the value; `covered_by_group` is that interval where designs of a group, which
    err together, are not counted as independent."""

    designs: int
    r2: float
    smape: float
    median: float
    p90: float
    tau: float
    false_feasible: float
    covered: float | None = None
    covered_within: Interval | None = None
    width: float | None = None
    covered_by_group: Interval | None = None


def score(
    label: Floats,
    value: Floats,
    low: Floats | None = None,
    high: Floats | None = None,
    group: NDArray[np.int64] | None = None,
) -> Scores:
    """Of estimates (n,); fitting is decided on `high` where there are intervals."""
    from scipy.stats import kendalltau

    error = np.abs(value - label)
    relative = 100 * error / np.maximum(label, 1)
    spread = float(np.square(label - label.mean()).sum())
    r2 = 1 - float(np.square(error).sum()) / spread if spread else float("nan")
    tau = kendalltau(label, value).statistic if spread and np.ptp(value) else float("nan")
    told = Scores(
        len(label),
        r2,
        float(200 * np.mean(error / (np.abs(label) + np.abs(value) + 1))),
        float(np.median(relative)),
        float(np.quantile(relative, 0.9)),
        float(tau),
        false_feasible(label, value if high is None else high),
    )
    if low is None or high is None:
        return told
    held = (low <= label + 1e-9) & (label <= high + 1e-9)
    return replace(
        told,
        covered=100 * float(held.mean()),
        covered_within=_percent(exact_share(int(held.sum()), len(held))),
        width=100 * float(np.mean((high - low) / np.maximum(value, 1))),
        covered_by_group=None if group is None else _percent(grouped_share(held, group)),
    )


def _percent(share: Interval) -> Interval:
    return Interval(100 * share.low, 100 * share.high, share.coverage)


def grouped_share(
    held: NDArray[np.bool_], group: NDArray[np.int64], coverage: float = 0.95
) -> Interval:
    """The interval of the share of `held` (n,) where those of one `group` (n,) go together: that of
    Clopper and Pearson for as many independent ones as vary as much.

    Source: E. L. Korn, B. I. Graubard, "Confidence intervals for proportions with small expected
    number of positive counts estimated from survey data", Survey Methodology 24 (1998).
    """
    from scipy.stats import t

    if len(held) == 0 or len(held) != len(group):
        raise ValueError(f"need a group each, not {len(group)} of {len(held)}")
    names, place = np.unique(group, return_inverse=True)
    count, groups, share = len(held), len(names), float(held.mean())
    alone = float(groups)  # where all are held, or none, they may go together entirely
    spread = np.bincount(place, held - share)
    if groups > 1 and (varied := float(np.square(spread).sum())):
        variance = groups / (groups - 1) * varied / count**2
        end = (1 + coverage) / 2
        fewer = (t.ppf(end, count - 1) / t.ppf(end, groups - 1)) ** 2
        alone = min(share * (1 - share) / variance * fewer, float(count))
    return exact_share(share * alone, alone, coverage)


def false_feasible(label: Floats, decided: Floats) -> float:
    """In percent; the parts have as much as the deciles of the designs take."""
    parts = np.quantile(label, np.linspace(0, 1, CAPACITIES + 2)[1:-1])
    large = label[:, None] > parts
    wrong = large & (decided[:, None] <= parts)
    return 100 * float(wrong.sum()) / max(int(large.sum()), 1)


def require_apart(keys: Sequence[Hashable], held: NDArray[np.bool_]) -> None:
    """Raises FlowError where a configuration is on both sides of a split."""
    ours = {key for key, out in zip(keys, held, strict=True) if out}
    theirs = {key for key, out in zip(keys, held, strict=True) if not out}
    if both := ours & theirs:
        raise FlowError(
            f"a split leaks: {len(both)} configurations are fitted and tested on, such as "
            f"{next(iter(both))}"
        )
