"""How good estimates are: measures, and splits that must not leak."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from flow.errors import FlowError
from flow.metric import Interval
from flow.surrogate.conformal import exact_share
from flow.surrogate.trees import Floats

CAPACITIES = 9  # parts that designs are to fit into: deciles of what designs take


@dataclass(frozen=True)
class Scores:
    """Of n designs: the share of variance explained, the symmetric mean percentage error as
    wa-hls4ml has it (eps = 1), median and 90 % quantile of the relative error (%), Kendall's tau,
    and, of pairs of a design and a part that it does not fit, the percentage said to fit. Of
    intervals the percentage that held, with its 95 % interval, and the mean of their width as a
    percentage of the value."""

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


def score(
    label: Floats, value: Floats, low: Floats | None = None, high: Floats | None = None
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
    share = exact_share(int(held.sum()), len(held))
    return replace(
        told,
        covered=100 * float(held.mean()),
        covered_within=Interval(100 * share.low, 100 * share.high, share.coverage),
        width=100 * float(np.mean((high - low) / np.maximum(value, 1))),
    )


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
