"""Choosing the price on time, on a trace of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from flow.schedule.engine import simulate
from flow.schedule.platform import Platform
from flow.schedule.policies.predictive import Price
from flow.schedule.trace import Trace
from flow.schedule.work import FloatArray, Table

PRICES_W = (0.0, 0.1, 0.2, 0.4, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0)


def tune_price(
    training: Trace,
    table: Table,
    platform: Platform,
    policy: Price,
    work: FloatArray | None = None,
    prices_w: Sequence[float] = PRICES_W,
) -> Price:
    """The policy with the price of the least J on the training trace, the lowest of equals. A
    report must not be of the same trace."""
    tried = [replace(policy, price_w=price) for price in prices_w]
    costs = [
        simulate(each, training, table, platform, work).cost_mj(policy.miss_mj) for each in tried
    ]
    return tried[costs.index(min(costs))]
