"""Which sums are written of inverted operands, so that fewer values are needed inverted.

The carry of an iCE40 takes an adder's operands as they are, so what is subtracted is inverted by
LUTs of its own, unless it is needed inverted only: the sum that it is can then come out inverted
for nothing. As a - b = ~(~a + b) and a + b = ~(~a - b), every sum has two ways to be written, each
of which inverts what the other does not. Where carries are multiplexers that changes little. An
ECP5's carry cell gives its sum as it is: there a sum that comes out inverted takes a LUT for each
bit, and four designs took 15 to 56 % more LUTs.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from targets.rtl.netlist import Kind, Netlist, Operation

_SWEEPS = 8
_SMALL = 4  # bits of a sum's operands that one LUT takes, inverted or not, without a carry
_Place = tuple[int, int]  # an operation and the stage in which its value is read


@dataclass(frozen=True)
class Polarity:
    """`sums` are the operations that are written inverted, `registers` the (operation, stage) whose
    register holds the inverted value, `inverters` the bits that are still needed both ways."""

    sums: frozenset[int]
    registers: frozenset[_Place]
    inverters: int


AS_TRACED = Polarity(frozenset(), frozenset(), 0)  # every sum as it was found


def polarity(netlist: Netlist) -> Polarity:
    """The choice for all sums, each changed as long as that saves inverters."""
    uses = _Uses(netlist)
    for _ in range(_SWEEPS):
        before = uses.cost
        for number in uses.sums:
            uses.flip_if_cheaper(number)
        if uses.cost == before:
            break
    return Polarity(frozenset(uses.flipped), frozenset(_registers(netlist, uses)), uses.cost)


class _Uses:
    """How often every value is read as it is, and inverted, in every stage."""

    def __init__(self, netlist: Netlist):
        self.netlist = netlist
        self.flipped: set[int] = set()
        self.sums = [i for i, o in enumerate(netlist.operations) if self._carries(o)]
        self.count: dict[_Place, list[int]] = defaultdict(lambda: [0, 0])
        for number, operation in enumerate(netlist.operations):
            for place, inverted in self._read(number):
                self.count[place][inverted] += 1
            if operation.kind not in (Kind.SUM, Kind.TABLE):  # a table's gates take either
                for source in operation.operands:
                    self.count[source, netlist.stages[number]][0] += 1
        for output in netlist.outputs:
            self.count[output.operation, netlist.count - 1][output.negated] += 1
        self.cost = sum(self._price(place) for place in list(self.count))

    def flip_if_cheaper(self, number: int) -> None:
        """Write a sum the other way where that costs no more."""
        reads = self._read(number)
        places = {place for place, _ in reads}
        before = sum(self._price(place) for place in places)
        self._flip(number, reads)
        change = sum(self._price(place) for place in places) - before
        if change > 0:
            self._flip(number, self._read(number))
        else:
            self.cost += change

    def _flip(self, number: int, reads: list[tuple[_Place, bool]]) -> None:
        for place, inverted in reads:
            self.count[place][inverted] -= 1
            self.count[place][not inverted] += 1
        self.flipped ^= {number}

    def _read(self, number: int) -> list[tuple[_Place, bool]]:
        """What a sum reads, and whether inverted."""
        operation, stage = self.netlist.operations[number], self.netlist.stages[number]
        if not self._carries(operation):
            return []
        first, second = operation.operands
        flipped = number in self.flipped
        return [((first, stage), flipped), ((second, stage), flipped != operation.negated)]

    def _carries(self, operation: Operation) -> bool:
        """Whether it is a sum along a carry."""
        widths = (self.netlist.operations[source].width for source in operation.operands)
        return operation.kind is Kind.SUM and sum(widths) > _SMALL

    def _price(self, place: _Place) -> int:
        """Inverters that a value costs in a stage."""
        plain, inverted = self.count[place]
        operation = self.netlist.operations[place[0]]
        given = operation.kind is Kind.INPUT and place[1] == 0  # a register of the ports
        return operation.width if inverted and (plain or given) else 0


def _registers(netlist: Netlist, uses: _Uses) -> list[_Place]:
    """The registers behind which a value is needed inverted only."""
    found = []
    for number, (made, last) in enumerate(zip(netlist.stages, netlist.last_use(), strict=True)):
        plain = inverted = False
        for stage in range(last, made, -1):
            as_is, turned = uses.count[number, stage]
            plain, inverted = plain or as_is > 0, inverted or turned > 0
            if inverted and not plain:
                found.append((number, stage))
            # What is in front of the register is asked for what the register holds.
            plain, inverted = (False, True) if inverted and not plain else (True, False)
    return found
