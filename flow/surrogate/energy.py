"""Energy of one inference: counts of operations, or seconds on a board, times tables with sources.

`energy.toml` holds the numbers, and in whole where they are from. Where sources disagree the
interval goes from the least to the most that any of them has: of n numbers one more lies between
them with a probability of (n-1)/(n+1), being drawn as they were. Nothing here was measured on the
hardware in question.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from flow.errors import FlowError
from flow.metric import Interval, Kind, Metric
from flow.outline import WEIGHTED, Outline
from flow.surrogate.structure import (
    NOTHING,
    Range,
    additions,
    bit_operations,
    output_bits,
    products,
)

TABLE = "energy.toml"
ALONE, PIPELINED = "board energy", "board energy, pipelined"
SWITCHING = "switching energy"


@dataclass(frozen=True)
class Known:
    """Numbers of one thing, ascending, and where they are from: `cited` is for figures, of which
    the table has the whole `source`."""

    numbers: tuple[float, ...]
    cited: str
    source: str

    def __post_init__(self) -> None:
        told = self.numbers
        if len(told) < 2 or not all(0 < number < math.inf for number in told):
            raise ValueError(f"must be at least two numbers above 0, not {list(told)}")
        if list(told) != sorted(told):
            raise ValueError(f"must ascend, not {list(told)}")
        if not (self.cited and self.source):
            raise ValueError("cited and source must say where the numbers are from")

    @property
    def range(self) -> Range:
        """From the least to the most of them; likely is the middle one."""
        told, middle = self.numbers, len(self.numbers) // 2
        return Range(told[0], (told[middle] + told[~middle]) / 2, told[-1])

    @property
    def coverage(self) -> float:
        return (len(self.numbers) - 1) / (len(self.numbers) + 1)


@dataclass(frozen=True)
class Processor:
    """A board, what it has, picojoules for each product of int8 networks, and how many networks
    these are of."""

    title: str
    about: str
    product_pj: Known
    networks: int

    @property
    def coverage(self) -> float:
        """As one more network would be drawn, not one more submission."""
        return (self.networks - 1) / (self.networks + 1)


@dataclass(frozen=True)
class Energies:
    """What is known: picojoules of an added bit, of a product's pair of bits and of a bit held, how
    often as much an FPGA takes, watts of boards by the device on them, and processors by name."""

    add: Known
    multiply: Known
    register: Known
    fabric: Known
    boards: Mapping[str, tuple[str, Known]]
    processors: Mapping[str, Processor]


@cache
def shipped_energies() -> Energies:
    """The table's."""
    return read_energies((resources.files("flow.surrogate") / TABLE).read_text())


def read_energies(text: str) -> Energies:
    """The table that a TOML text is.

    Raises:
        FlowError: it is none, or a number has no source.
    """
    try:
        body = tomllib.loads(text)
        operation = body["operation"]
        macs = body["networks"]["macs"]
        return Energies(
            _known(operation["add"], "pj", operation["add"]["bits"]),
            _known(operation["multiply"], "pj", operation["multiply"]["bits"] ** 2),
            _known(operation["register"], "pj", operation["register"]["bits"]),
            _known(body["fabric"], "times"),
            {row["device"]: (name, _known(row, "watts")) for name, row in body["board"].items()},
            {name: _processor(row, macs) for name, row in body["processor"].items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise FlowError(f"{TABLE} is damaged: {error!r}; install bitwright again") from error


def _known(row: Mapping[str, Any], key: str, parts: int = 1) -> Known:
    return Known(tuple(number / parts for number in row[key]), row["cited"], row["source"])


def _processor(row: Mapping[str, Any], macs: Sequence[int]) -> Processor:
    each = (1e6 * uj / n for run in row["uj"] for uj, n in zip(run, macs, strict=True))
    known = Known(tuple(sorted(each)), row["cited"], row["source"])
    return Processor(row["title"], row["about"], known, len(macs))


def multiplied(network: Outline) -> Range:
    """Picojoules in standard cells of products by multipliers, each added up, and of values held
    once."""
    table = shipped_energies()
    pairs = sum((bit_operations(step) for step in network.steps), NOTHING)
    added = NOTHING
    for step in network.steps:
        if step.role in WEIGHTED:
            most = products(step) * step.made_bits
            if step.known is None:
                added += Range(0, most, most)
            else:
                added += Range.exactly(step.known.nonzero * step.positions * step.made_bits)
        else:
            added += additions(step) * step.made_bits
    return pairs * table.multiply.range + added * table.add.range + _held(network)


def unrolled(network: Outline) -> Range:
    """Picojoules in standard cells of products by adders alone, nothing shared, and of values held
    once."""
    added = sum((additions(step) * step.made_bits for step in network.steps), NOTHING)
    return added * shipped_energies().add.range + _held(network)


def switching(picojoules: Range, fabric: bool) -> Metric:
    """Of the logic alone, in an FPGA's `fabric` or in standard cells."""
    table = shipped_energies()
    known = [table.add, table.multiply, table.register, *([table.fabric] if fabric else [])]
    nanojoules = picojoules * 1e-3
    where = "standard cells of 40 to 45 nm"
    if fabric:
        nanojoules *= table.fabric.range
        low, high = table.fabric.numbers[0], table.fabric.numbers[-1]
        where = f"{low:g} to {high:g} times that of {where}"
    cited = dict.fromkeys(name for each in known for name in each.cited.split(", "))
    left = f"clock, wires, memory and leakage are not in it ({', '.join(cited)})"
    return _metric(
        SWITCHING,
        nanojoules,
        "nJ",
        min(each.coverage for each in known),
        f"operations' bits in {where}; {left}",
    )


def boards(device: str, latency: Range | None, interval: Range | None) -> Iterator[Metric]:
    """Of a whole board with that device, for one inference after another, which takes `latency`
    seconds, and for one every `interval` seconds. Nothing where no such board was measured."""
    if device not in shipped_energies().boards:
        return
    name, watts = shipped_energies().boards[device]
    low, high = watts.numbers[0], watts.numbers[-1]
    for called, seconds, how in (
        (ALONE, latency, "one after another"),
        (PIPELINED, interval, "a new one as soon as the design takes it"),
    ):
        if seconds is not None:
            told = f"{low:g} to {high:g} W of a {name}, whatever runs, {how} ({watts.cited})"
            yield _metric(called, seconds * watts.range * 1e6, "uJ", watts.coverage, told)


def no_board(device: str) -> str:
    """Why a board's energy is unknown."""
    known = ", ".join(shipped_energies().boards)
    return f"no board with {device or 'this device'} was measured; those with {known} were"


def processors(macs: float) -> Iterator[Metric]:
    """Of networks of int8 on the processors that are known."""
    for each in shipped_energies().processors.values():
        low, high = each.product_pj.numbers[0], each.product_pj.numbers[-1]
        told = (
            f"{each.about}, {low:,.0f} to {high:,.0f} pJ a product, as int8 networks took there "
            f"by the submitters' runtimes ({each.product_pj.cited})"
        )
        found = each.product_pj.range * macs * 1e-6
        yield _metric(f"energy on {each.title}", found, "uJ", each.coverage, told)


def _held(network: Outline) -> Range:
    bits = Range.exactly(sum(output_bits(step) for step in network.steps))
    return bits * shipped_energies().register.range


def _metric(name: str, found: Range, unit: str, coverage: float, source: str) -> Metric:
    interval = Interval(found.low, found.high, coverage)
    return Metric(name, found.likely, unit, Kind.ESTIMATED, source, interval)
