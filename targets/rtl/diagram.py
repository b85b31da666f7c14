"""A table as gates: a decision diagram of its bits, which LUTs hold better than rows of cases.

One decision of the value's highest bit is over its lower bits (R. Bryant, Graph-based algorithms
for Boolean function manipulation, 1986). A requantization's table is a staircase: below the few
bits that choose the code, all that is left of it is one comparison, which all of its bits share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from flow.qtype import QType

Bits = bytes  # a function's values, one byte each, by the number that its inputs are


@dataclass(frozen=True)
class Diagram:
    """`gates[k]` is what node k computes, in Verilog, of the bits of the name it was asked for and
    of earlier nodes; `outputs` are the table's bits, lowest first."""

    gates: tuple[str, ...]
    outputs: tuple[str, ...]


def diagram(
    table: Sequence[int], least: int, given: QType, out_width: int, value: str, node: str
) -> Diagram:
    """The gates of `table`, whose first entry is that of `least`, over `value` of the type `given`;
    node k is called `node`k. Codes that no entry is of give the nearest one's."""
    made, width = _Gates(value, node), given.bits
    reached = [entry(table, least, code, given) for code in range(1 << width)]
    outputs = [
        made.of(bytes((found >> bit) & 1 for found in reached), width) for bit in range(out_width)
    ]
    return Diagram(tuple(made.gates), tuple(outputs))


def entry(table: Sequence[int], least: int, code: int, given: QType) -> int:
    """The entry of a code, its bits as they are."""
    number = code - (1 << given.bits) if given.signed and code >> (given.bits - 1) else code
    return table[min(max(number - least, 0), len(table) - 1)]


@dataclass
class _Gates:
    value: str
    node: str
    gates: list[str] = field(default_factory=list)
    known: dict[Bits, str] = field(default_factory=dict)

    def of(self, bits: Bits, width: int) -> str:
        """The name of the function `bits` of the value's lowest `width` bits."""
        if not any(bits):
            return "1'b0"
        if all(bits):
            return "1'b1"
        half = len(bits) // 2
        low, high = bits[:half], bits[half:]
        if low == high:
            return self.of(low, width - 1)
        if bits in self.known:
            return self.known[bits]
        self.known[bits] = name = self._gate(low, high, width - 1)
        self.known[_inverted(bits)] = name[1:] if name.startswith("~") else f"~{name}"
        return name

    def _gate(self, low: Bits, high: Bits, place: int) -> str:
        key = f"{self.value}[{place}]"
        if not any(low) and all(high):
            return key
        if all(low) and not any(high):
            return f"~{key}"
        if high == _inverted(low):
            text = f"{key} ^ {self.of(low, place)}"
        elif not any(low):
            text = f"{key} & {self.of(high, place)}"
        elif all(high):
            text = f"{key} | {self.of(low, place)}"
        elif not any(high):
            text = f"~{key} & {self.of(low, place)}"
        elif all(low):
            text = f"~{key} | {self.of(high, place)}"
        else:
            text = f"{key} ? {self.of(high, place)} : {self.of(low, place)}"
        self.gates.append(text)
        return f"{self.node}{len(self.gates) - 1}"


def _inverted(bits: Bits) -> Bits:
    return bytes(1 - bit for bit in bits)
