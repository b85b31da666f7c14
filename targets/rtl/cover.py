"""How many LUTs a netlist's logic takes beside its carry chains: every function that a register, a
chain or an output needs is one, if its inputs are few enough; of others the last step is one, and
what that takes is looked at in turn. What is the same function of the same bits, or its inverse, is
there once; a bit alone is free, and its inverse counted apart.

That is simpler than what synthesis does (J. Cong, Y. Ding, "FlowMap", IEEE TCAD 13, 1994, and those
that came after it), but it sees what counts of bits cannot: that of few inputs there are few
functions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from flow.qtype import QType
from targets.rtl.bits import ONE, ZERO, Bits, Made
from targets.rtl.diagram import entry
from targets.rtl.estimate import table_of
from targets.rtl.netlist import Netlist

MOST = 6  # inputs of a function that is looked at
_Function = tuple[tuple[int, ...], int]  # bits that it is of, and its values as bits of a number


@dataclass(frozen=True)
class Cover:
    """LUTs of functions, and bits that are inverted for a register or a chain; of tables with more
    inputs than a LUT, functions of their lowest bits, choices among these, such as have a constant
    on one side, and which operations these tables are."""

    luts: int
    inverted: int
    leaves: int
    choices: int
    gated: int
    tables: frozenset[int]


class Logic:
    """The bits of a netlist that are functions of others, in carry chains or not; `few` are the
    operations that add without a chain."""

    def __init__(self, netlist: Netlist, bits: Bits, few: AbstractSet[int]):
        self._netlist, self._bits, self._few = netlist, bits, few
        self._known: dict[int, _Function | None] = {ZERO: ((), 0), ONE: ((), 1)}
        self._readers = Counter(
            need for bit, live in enumerate(bits.live) if live for need in bits.needs[bit]
        )

    def cover(self, inputs: int, absorbs: bool = False) -> Cover:
        """With LUTs of so many inputs, at most MOST. Where a carry chain is of multiplexers and
        `absorbs` what is before it, a sum's two operands are one function, too."""
        waiting, seen = list(self._roots()), set()
        functions = self._before_chains(inputs) if absorbs else set()
        inverted: set[int] = set()
        larger, tables, divided = 0, set(), Counter[str]()
        while waiting:
            bit = waiting.pop()
            if bit in seen or not self._is_logic(bit):
                continue
            seen.add(bit)
            found = self.function(bit)
            if found is not None and len(found[0]) <= inputs:
                of, values = found
                if len(of) > 1:
                    functions.add((of, min(values, values ^ _all(len(of)))))
                elif of and values == 0b01:
                    inverted.add(of[0])
                continue
            needs = self._bits.needs[bit]
            if self._bits.made[bit] is Made.LOOKED_UP and len(needs) > inputs:
                tables.add(self._bits.owner[bit])
                divided.update(_divided(*self._table(bit), inputs))
            else:
                larger += 1
            waiting += needs
        return Cover(
            len(functions) + larger,
            len(inverted),
            divided["leaves"],
            divided["choices"],
            divided["gated"],
            frozenset(tables),
        )

    def function(self, bit: int) -> _Function | None:
        """What it is of registers and of sums along carries; none of more than MOST."""
        waiting = [bit]
        while waiting:
            at = waiting[-1]
            if at in self._known:
                waiting.pop()
            elif not self._is_logic(at):
                self._known[at] = (at,), 0b10
            elif missing := [need for need in self._bits.needs[at] if need not in self._known]:
                waiting += missing
            else:
                self._known[at] = self._made_of(at, [self._known[n] for n in self._bits.needs[at]])
        return self._known[bit]

    def _roots(self) -> Iterator[int]:
        bits = self._bits
        yield from bits.outputs
        for bit, live in enumerate(bits.live):
            if live and not self._is_logic(bit):
                for need in bits.needs[bit]:
                    yield from bits.needs[need] if self._resets(bit, need) else (need,)

    def _resets(self, bit: int, need: int) -> bool:
        """Whether a bit is a register whose reset clamps it, for nothing."""
        made = self._bits.made
        clamps = made[bit] is Made.HELD and made[need] is Made.CLAMPED
        return clamps and self._readers[need] == 1

    def resets(self) -> int:
        """Signals that reset registers."""
        needs, live = self._bits.needs, self._bits.live
        registers = (bit for bit, on in enumerate(live) if on and needs[bit])
        return len({needs[n][1] for b in registers for n in needs[b][:1] if self._resets(b, n)})

    def _before_chains(self, inputs: int) -> set[_Function]:
        """Exclusive ors of the operands of sums."""
        found: set[_Function] = set()
        bits = self._bits
        for bit, live in enumerate(bits.live):
            if not live or bits.made[bit] not in (Made.ADDED, Made.COUNTED, Made.CARRIED):
                continue
            parts = [self.function(need) for need in bits.needs[bit][:2]]
            if self._is_logic(bit) or not all(part and len(part[0]) <= inputs for part in parts):
                continue
            known = [part for part in parts if part is not None]
            names = tuple(sorted({name for of, _ in known for name in of}))
            if len(names) > inputs:
                names = tuple(sorted(bits.needs[bit][:2]))
                known = [((name,), 0b10) for name in names]
            first, second = (_over(part, names) for part in known)
            of, values = _reduced(names, first ^ second)
            if len(of) > 1:
                found.add((of, min(values, values ^ _all(len(of)))))
        return found

    def _is_logic(self, bit: int) -> bool:
        made = self._bits.made[bit]
        if made in (Made.ADDED, Made.COUNTED, Made.CARRIED):
            return self._bits.owner[bit] in self._few
        return made in (Made.CHOSEN, Made.CLAMPED, Made.LOOKED_UP, Made.INVERTED)

    def _made_of(self, bit: int, needs: list[_Function | None]) -> _Function | None:
        of: set[int] = set()
        for need in needs:
            if need is None:
                return None
            of |= set(need[0])
        if len(of) > MOST:
            return None
        names = tuple(sorted(of))
        parts = [_over(need, names) for need in needs if need is not None]
        return _reduced(names, self._values(bit, parts, 1 << len(names)))

    def _values(self, bit: int, parts: list[int], count: int) -> int:
        """Of parts that are given by their values, `count` each."""
        made, how, full = self._bits.made[bit], self._bits.how[bit], (1 << count) - 1
        if made is Made.CHOSEN:
            one, other, key = parts
            return key & one | ~key & other & full
        if made is Made.CLAMPED:
            value, sign = parts
            return value & sign if how else value & ~sign & full
        if made is Made.LOOKED_UP:
            return self._looked_up(bit, parts, count)
        if made is Made.INVERTED:
            return ~parts[0] & full
        first, second, carry = parts
        second ^= full if how else 0  # a - b = a + ~b + 1
        if made is Made.CARRIED:
            return first & second | carry & (first ^ second)
        return first ^ second ^ carry

    def _looked_up(self, bit: int, parts: list[int], count: int) -> int:
        table, least, given, place = self._table(bit)
        values = 0
        for at in range(count):
            code = sum((part >> at & 1) << j for j, part in enumerate(parts))
            values |= (entry(table, least, code, given) >> place & 1) << at
        return values

    def _table(self, bit: int) -> tuple[tuple[int, ...], int, QType, int]:
        operations, place = self._netlist.operations, self._bits.how[bit]
        assert isinstance(place, int)
        table, least, given, _ = table_of(operations, operations[self._bits.owner[bit]])
        return table, least, given, place


def _divided(
    table: tuple[int, ...], least: int, given: QType, place: int, inputs: int
) -> dict[str, int]:
    """A bit of a table as functions of its lowest `inputs` bits, and choices among them by the
    others; each different one once, but constants and those that choose among equals."""
    level = [
        bytes(
            entry(table, least, code, given) >> place & 1
            for code in range(start << inputs, (start + 1) << inputs)
        )
        for start in range(1 << (given.bits - inputs))
    ]
    leaves = len({min(each, _not(each)) for each in level if 0 < sum(each) < len(each)})
    choices = gated = 0
    while len(level) > 1:
        pairs = list(zip(level[::2], level[1::2], strict=True))
        different = {pair for pair in pairs if pair[0] != pair[1]}
        some = sum(any(_constant(each) for each in pair) for pair in different)
        gated, choices = gated + some, choices + len(different) - some
        level = [low + high for low, high in pairs]
    return {"leaves": leaves, "choices": choices, "gated": gated}


def _constant(values: bytes) -> bool:
    return not any(values) or all(values)


def _not(values: bytes) -> bytes:
    return bytes(1 - value for value in values)


def _all(inputs: int) -> int:
    return (1 << (1 << inputs)) - 1


def _over(function: _Function, names: tuple[int, ...]) -> int:
    """Its values as a function of more bits."""
    of, values = function
    places = [names.index(name) for name in of]
    found = 0
    for at in range(1 << len(names)):
        own = sum((at >> place & 1) << j for j, place in enumerate(places))
        found |= (values >> own & 1) << at
    return found


def _reduced(names: tuple[int, ...], values: int) -> _Function:
    """Of only those bits that change it."""
    for place in reversed(range(len(names))):
        rows = range(1 << len(names))
        if all((values >> at & 1) == (values >> (at ^ 1 << place) & 1) for at in rows):
            kept = [at for at in rows if not at >> place & 1]
            values = sum((values >> at & 1) << row for row, at in enumerate(kept))
            names = names[:place] + names[place + 1 :]
    return names, values
