"""The exact interval of a share that was counted."""

from __future__ import annotations

from flow.metric import Interval


def exact_share(hits: float, total: float, coverage: float = 0.95) -> Interval:
    """The interval of Clopper and Pearson of the share hits/total, which covers at least what it
    says. Counts need not be whole, as those of a design with clusters are not.

    Source: C. J. Clopper, E. S. Pearson, "The use of confidence or fiducial limits illustrated in
    the case of the binomial", Biometrika 26 (1934).
    """
    from scipy.special import betaincinv

    if not 0 <= hits <= total or total == 0:
        raise ValueError(f"need 0 <= hits <= total and total > 0, not {hits} of {total}")
    tail = (1 - coverage) / 2
    low = 0.0 if hits == 0 else float(betaincinv(hits, total - hits + 1, tail))
    high = 1.0 if hits == total else float(betaincinv(hits + 1, total - hits, 1 - tail))
    return Interval(low, high, coverage)
