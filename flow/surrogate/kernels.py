"""Single layers, and small networks of them, to be synthesized, so that estimates can be fitted on
what came of them.

`drawn` spreads them over shapes, bits, zeros, scales and pipeline stages by Latin hypercube; a
kernel is its numbers, from which its graph with seeded random weights follows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from flow.errors import UsageError
from flow.graph import Graph
from flow.outline import WEIGHTED as WEIGHTED_ROLES
from flow.outline import Role, Step, outline


class Kind(Enum):
    DENSE = "dense"
    CONV = "conv"
    DEPTHWISE = "depthwise"
    MAX_POOL = "max_pool"
    SUM_POOL = "sum_pool"
    REQUANT = "requant"
    TABLE = "table"
    ADD = "add"
    MUL = "mul"
    NETWORK = "network"


# In this order again and again: what differs most among designs comes most often. Of the last pair
# a turn has one.
TURN = (
    *(Kind.DENSE, Kind.CONV, Kind.REQUANT, Kind.DENSE, Kind.DEPTHWISE, Kind.MAX_POOL),
    *(Kind.CONV, Kind.TABLE, Kind.DENSE, Kind.SUM_POOL, Kind.NETWORK, Kind.ADD),
)
OTHER_TURN = (*TURN[:-1], Kind.MUL)
BLOCK = 24 * len(TURN)  # kernels that are spread evenly together

WEIGHTED = (Kind.DENSE, Kind.CONV, Kind.DEPTHWISE, Kind.NETWORK)
IMAGES = (Kind.CONV, Kind.DEPTHWISE, Kind.MAX_POOL, Kind.SUM_POOL)
SCALED = (Kind.REQUANT, Kind.NETWORK)
# Work is in products of 12 bits, such as 3 bits by 4, of about four LUTs each. Most kernels are
# small, which costs little and tells much; of size s there are as many as s**-1.5. Least and most
# of layers with weights, of others, and of networks.
WORK = (20.0, 1500.0)
PLAIN_WORK = (10.0, 500.0)
NETWORK_WORK = (200.0, 2000.0)
# The ends of what is drawn: channels in and out, side of the window and of the outputs, layers,
# bits of inputs, weights and outputs, bits of a scale's multiplier, rounding down instead of to the
# nearest, percent of the weights that are 0, and adders in one stage. What is unrolled whole has no
# reuse factor: how many stages it is cut into can be chosen.
_FIELDS: dict[str, tuple[int, int]] = {
    "inputs": (2, 64),
    "outputs": (1, 48),
    "window": (1, 3),
    "extent": (1, 6),
    "layers": (2, 4),
    "given_bits": (1, 8),
    "weight_bits": (2, 8),
    "made_bits": (2, 8),
    "multiplier": (-5, 8),  # 1 and below: a power of two, which is half of them
    "down": (0, 1),
    "zeros": (0, 80),
    "cutoff": (1, 8),
}
_WORK = "work"
_GEOMETRIC = ("inputs", "outputs")  # as many between 2 and 4 as between 32 and 64


@dataclass(frozen=True)
class Kernel:
    """One layer, or of kind network several. What its kind has not is 0: windows and extents are of
    images, weights of layers with weights, `made_bits` of requantizations and tables."""

    number: int
    kind: Kind
    inputs: int
    outputs: int
    window: int
    extent: int
    layers: int
    given_bits: int
    weight_bits: int
    made_bits: int
    multiplier: int
    down: int
    zeros: int
    cutoff: int

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name != "kind" and not 0 <= value <= 1_000_000:
                raise UsageError(f"kernel: {field.name} must be from 0 to 1000000, not {value}")
        if min(self.inputs, self.given_bits) < 1:
            raise UsageError(f"kernel {self.number}: needs inputs and bits of them")
        if max(self.given_bits, self.weight_bits, self.made_bits, self.multiplier) > 24:
            raise UsageError(f"kernel {self.number}: bits must be at most 24")

    @property
    def shape(self) -> tuple[int, ...]:
        """What tells shapes apart, for splits: kind and sizes, without bits. No two networks are of
        one shape."""
        sizes = self.inputs, self.outputs, self.window, self.extent, self.layers
        own = self.number if self.kind is Kind.NETWORK else 0
        return (list(Kind).index(self.kind), *sizes, own)

    def row(self) -> dict[str, str]:
        """As cells of a table."""
        cells = {**vars(self), "kind": self.kind.value}
        return {name: str(value) for name, value in cells.items()}

    @classmethod
    def read(cls, cells: Mapping[str, str]) -> Kernel:
        """The inverse of `row`. Raises KeyError, ValueError or UsageError."""
        values: dict[str, Any] = {
            field.name: int(cells[field.name])
            for field in dataclasses.fields(cls)
            if field.name != "kind"
        }
        return cls(kind=Kind(cells["kind"]), **values)

    def graph(self) -> Graph:
        """On codes, with weights that its number decides."""
        from flow.surrogate.kernel_graphs import kernel_graph

        return kernel_graph(self)

    def work(self) -> float:
        """About how large it is; see `WORK`."""
        if self.kind is Kind.NETWORK:
            return sum(_work_of(step) for step in outline(self.graph()).steps)
        taken = self.window**2 if self.kind in IMAGES else 1
        made = self.extent**2 if self.kind in IMAGES else 1
        if self.kind in (Kind.DENSE, Kind.CONV):
            taken, made = taken * self.inputs, made * self.outputs
        else:
            made *= self.inputs
        if self.kind is Kind.ADD:
            taken = 2
        bits = self.given_bits, self.weight_bits, self.made_bits
        return _work(Role(self.kind.value), made, taken, *bits)


def _work_of(step: Step) -> float:
    return _work(
        step.role, step.outputs, step.taken, step.given_bits, step.weight_bits or 1, step.made_bits
    )


def _work(role: Role, made: int, taken: int, given: int, weight: int, bits: int) -> float:
    """Of what makes `made` outputs, each of `taken` inputs; as hardware of this kind was seen."""
    if role in WEIGHTED_ROLES:
        return made * taken * given * weight / 12
    if role is Role.TABLE:
        return made * bits * 2.0 ** max(given - 6, 0) / 4
    if role is Role.REQUANT:
        return float(made * given)
    if role is Role.MUL:
        return made * given**2 / 3
    if role in (Role.ADD, Role.MAX_POOL, Role.SUM_POOL):
        return made * taken * given / 3
    return 0.0


def kind_of(number: int) -> Kind:
    """That of a kernel of this number."""
    turn, place = divmod(number, len(TURN))
    return (OTHER_TURN if turn % 2 else TURN)[place]


def drawn(count: int, seed: int = 0) -> list[Kernel]:
    """`count` kernels, the kinds in turn, in blocks each of which is spread evenly: more of them
    begin with fewer of the same seed. What is too large is made smaller."""
    from scipy.stats import qmc

    names = (*_FIELDS, _WORK)
    rows: list[Sequence[float]] = []
    for block in range(-(-count // BLOCK)):
        rng = np_generator(seed, block)
        rows += qmc.LatinHypercube(len(names), rng=rng).random(BLOCK).tolist()
    return [
        _fitting(number, kind_of(number), dict(zip(names, row, strict=True)))
        for number, row in enumerate(rows[:count])
    ]


def np_generator(*seeds: int) -> Any:
    """numpy's, of these seeds."""
    import numpy as np

    return np.random.default_rng(seeds)


def _fitting(number: int, kind: Kind, shares: dict[str, float]) -> Kernel:
    """The kernel at a point of the unit cube."""
    values = {name: _between(name, shares[name]) for name in _FIELDS}
    values["multiplier"] = max(values["multiplier"], 1)
    for name in _unused(kind):
        values[name] = 0
    if kind is Kind.REQUANT:  # of sums, not of codes
        values["given_bits"] += 6
    elif kind is Kind.TABLE:
        values["given_bits"] = min(values["given_bits"] + 2, 9)
    elif kind is Kind.MUL:
        values["given_bits"] += 4  # where products become DSPs, and where they do not
    if kind in (Kind.MAX_POOL, Kind.SUM_POOL, Kind.DEPTHWISE):
        values["window"] = max(values["window"], 2)
    ends = NETWORK_WORK if kind is Kind.NETWORK else WORK if kind in WEIGHTED else PLAIN_WORK
    most = _of_size(shares[_WORK], *ends)
    if kind is Kind.NETWORK:
        values["inputs"] = max(values["inputs"], 8)
        values["outputs"] = min(max(values["outputs"], 2), 12)
    while (found := Kernel(number, kind, **values)).work() > most:
        largest = max(("inputs", "outputs", "extent"), key=lambda name: values[name])
        if values[largest] < 2:
            break
        values[largest] = values[largest] * 3 // 4
    return found


def _of_size(share: float, least: float, most: float) -> float:
    """The size below which that share of kernels is, which are as many as size**-1.5."""
    first, last = least**-0.5, most**-0.5
    return float((first + share * (last - first)) ** -2)


def _between(name: str, share: float) -> int:
    low, high = _FIELDS[name]
    if name in _GEOMETRIC:
        return min(int(low * ((high + 1) / low) ** share), high)
    return min(low + int(share * (high - low + 1)), high)


def _unused(kind: Kind) -> Iterator[str]:
    if kind not in IMAGES and kind is not Kind.NETWORK:
        yield from ("window", "extent")
    if kind is not Kind.NETWORK:
        yield "layers"
    if kind not in WEIGHTED:
        yield from ("weight_bits", "zeros")
    if kind not in (Kind.DENSE, Kind.CONV, Kind.NETWORK):
        yield "outputs"
    if kind not in SCALED:
        yield from ("multiplier", "down")
    if kind not in SCALED and kind is not Kind.TABLE:
        yield "made_bits"
