"""Noise by how often it takes a value for another: AnalogVNN's `leakage` at a `precision` of steps
per unit, the share of values that noise moves by more than half a step."""

from __future__ import annotations

import math


def gaussian_sigma(leakage: float, precision: float) -> float:
    """The standard deviation with which a share `leakage` lies more than half a step of 1/precision
    off."""
    from scipy.special import erfinv

    return float(1 / (2 * math.sqrt(2) * precision * erfinv(1 - leakage)))


def laplacian_scale(leakage: float, precision: float) -> float:
    """The scale b of Laplacian noise, whose variance is 2 b^2, for the same share."""
    return -1 / (2 * precision * math.log(leakage))


def poisson_rate(leakage: float, precision: float) -> float:
    """The mean count that stands for 1, so that the share of counts more than half a step off is
    `leakage`, by the incomplete gamma function, which is continuous in the count.

    Raises:
        ValueError: no rate of 1 to 10^9 gives that share.
    """
    from scipy.optimize import brentq
    from scipy.special import gammaincc

    def excess(log_rate: float) -> float:
        rate = math.exp(log_rate)
        half = rate / (2 * precision)
        inside = gammaincc(rate + half + 1, rate) - gammaincc(rate - half + 1, rate)
        return float(1 - inside - leakage)

    ends = 0.0, math.log(1e9)
    if not excess(ends[1]) <= 0 <= excess(ends[0]):
        raise ValueError(
            f"leakage {leakage:g} at precision {precision:g} is out of reach of Poisson noise; use "
            f"gaussian"
        )
    return math.exp(float(brentq(excess, *ends, xtol=1e-13, rtol=1e-14)))
