"""Two networks on the same chips: how much better one is, pair by pair."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from flow.binomial import exact_share
from flow.metric import Kind, Metric
from flow.target import Other, Spread
from targets.analog.intervals import (
    BoolArray,
    difference_interval,
    mean_interval,
    paired_interval,
    reached,
    reached_interval,
)
from targets.analog.mapping import FloatArray

MOST = 0.9  # of chips, that shall be as good as is told


def compared(
    told: Spread, mine: BoolArray, theirs: BoolArray, other: Other, floor: float
) -> Spread:
    """What is told of chips (chips, samples), with another network's on the same ones beside it;
    where one of them has more, those are left out. `floor` is the accuracy of good chips, or 0."""
    count = min(len(mine), len(theirs))
    after, before = (hits[:count].mean(axis=1) for hits in (mine, theirs))
    accuracy = Metric(
        f"accuracy chips {other.name}",
        float(before.mean()),
        "1",
        Kind.ESTIMATED,
        f"{other.about}; the same {count:,} chips, t interval over them",
        mean_interval(before),
    )
    gained = f"gained on {other.name}"
    paired = f"paired over the same {count:,} chips"
    found = [
        Metric(
            f"accuracy {gained}",
            float((after - before).mean()),
            "1",
            Kind.ESTIMATED,
            f"{paired}; t interval",
            difference_interval(after - before),
        ),
        *_ordered(after, before, other, gained),
    ]
    notes = list(told.warnings)
    if floor:
        well, badly = after >= floor, before >= floor
        wins, losses = int((well & ~badly).sum()), int((badly & ~well).sum())
        good = int(badly.sum())
        source = f"{good} of {count} chips with an accuracy of at least {floor:g}"
        interval = paired_interval(wins, losses, count)
        found += [
            Metric(
                f"yield {other.name}",
                good / count,
                "1",
                Kind.ESTIMATED,
                f"{source}; Clopper and Pearson",
                exact_share(good, count),
            ),
            Metric(
                f"yield {gained}",
                (wins - losses) / count,
                "1",
                Kind.ESTIMATED,
                f"{paired}: {wins} became good, {losses} ceased to be; Bonett and Price",
                interval,
            ),
        ]
        ends = f"[{100 * interval.low:+.1f}, {100 * interval.high:+.1f}]"
        said = "not significant" if interval.low <= 0 <= interval.high else "significant"
        notes.append(
            f"against {other.name} the yield at {floor:g} changes by "
            f"{100 * (wins - losses) / count:+.1f} points {ends}: {said}"
        )
    scores = {**told.accuracy, f"chips {other.name}": accuracy}
    return replace(told, accuracy=scores, metrics=(*told.metrics, *found), warnings=tuple(notes))


def _ordered(after: FloatArray, before: FloatArray, other: Other, gained: str) -> list[Metric]:
    """What most chips reach, and how many are as good as the other network's median chip: neither
    asks for a floor, which may be below or above all that chips reach."""
    count, chips = len(after), f"the same {len(after):,} chips"
    mine, theirs = (float(reached(shares, MOST)) for shares in (after, before))
    median = float(np.median(before))
    well, badly = after >= median, before >= median
    wins, losses = int((well & ~badly).sum()), int((badly & ~well).sum())
    told = f"chips with an accuracy of at least {median:.4f}, that of {other.name}'s median one"
    return [
        Metric(
            f"90 % reach, {other.name}",
            theirs,
            "1",
            Kind.MEASURED,
            f"what {100 * MOST:g} % of {chips} reach",
        ),
        Metric(
            f"90 % reach, {gained}",
            mine - theirs,
            "1",
            Kind.ESTIMATED,
            f"paired bootstrap over {chips}",
            reached_interval(after, before, MOST, 0),
        ),
        Metric(
            f"yield at median, {other.name}",
            float(badly.mean()),
            "1",
            Kind.ESTIMATED,
            f"{int(badly.sum())} of {count} {told}; Clopper and Pearson",
            exact_share(int(badly.sum()), count),
        ),
        Metric(
            f"yield at median, {gained}",
            (wins - losses) / count,
            "1",
            Kind.ESTIMATED,
            f"{told}; {wins} became good, {losses} ceased to be; Bonett and Price",
            paired_interval(wins, losses, count),
        ),
    ]
