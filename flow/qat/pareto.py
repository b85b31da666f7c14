"""Points of accuracy against bit operations: which ones are worth having, and their table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

COLUMNS = "point options accuracy bops rounding of_4_bit front bits each".split()


@dataclass(frozen=True)
class Trained:
    """One seed of a point: accuracy in percent on the test split, bit operations of the products,
    half adders of the roundings, and the bits of every layer, as weights x input."""

    accuracy: float
    bops: int
    rounding: int
    bits: str

    @property
    def cost(self) -> int:
        """AND gates of products and half adders of roundings, for one inference."""
        return self.bops + self.rounding


@dataclass(frozen=True)
class Point:
    """A network of some bits, over seeds. `name` and `options` are MODEL and OPTS that make it."""

    name: str
    options: str
    seeds: tuple[Trained, ...]

    @property
    def accuracy(self) -> float:
        """Mean over the seeds, percent."""
        return mean(seed.accuracy for seed in self.seeds)

    @property
    def bops(self) -> float:
        """Mean bit operations over the seeds, without rounding."""
        return mean(seed.bops for seed in self.seeds)

    @property
    def cost(self) -> float:
        """Mean bit operations over the seeds, with rounding."""
        return mean(seed.cost for seed in self.seeds)


def front(points: Sequence[Point]) -> list[Point]:
    """Those that no other one beats in both accuracy and cost."""
    return [
        p
        for p in points
        if not any(
            (o.accuracy, -o.cost) != (p.accuracy, -p.cost)
            and o.accuracy >= p.accuracy
            and o.cost <= p.cost
            for o in points
        )
    ]


def cheapest(points: Sequence[Point], accuracy: float) -> Point | None:
    """The point of least cost that reaches `accuracy` (percent), if one does."""
    return min((p for p in points if p.accuracy >= accuracy), key=lambda p: p.cost, default=None)


def table(points: Sequence[Point], uniform: Point) -> list[list[str]]:
    """Rows of text under COLUMNS, cheapest first. `of_4_bit` is a point's bit operations in those
    of `uniform`, the network of 4 bits everywhere; `each` has accuracy/bops of every seed, `bits`
    are the first seed's."""
    best = front(points)
    rows = [COLUMNS]
    for p in sorted(points, key=lambda point: point.cost):
        rows.append(
            [
                p.name,
                p.options,
                f"{p.accuracy:.2f}",
                f"{p.bops:.0f}",
                f"{mean(seed.rounding for seed in p.seeds):.0f}",
                f"{p.bops / uniform.bops:.3f}",
                "yes" if p in best else "",
                p.seeds[0].bits,
                " ".join(f"{seed.accuracy:.2f}/{seed.bops}" for seed in p.seeds),
            ]
        )
    return rows
