"""The bits of a netlist, each once, as synthesis will keep them: what is constant, what is another
bit's copy, equal registers, and what no output depends on, are none of their own.

The Verilog says more than is made of it: inputs whose weights are 0 are held, outputs that are the
same are held twice, and the lowest bits of sums are those of an operand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from enum import Enum

from targets.rtl.netlist import Kind, Netlist, Operation, Output
from targets.rtl.ports import Ports

ZERO, ONE = 0, 1
SHIFTED = 3  # registers in a row from which on AMD's LUTs hold them (`xilinx_srl -minlen 3`)
Word = list[int]  # a value's bits by their numbers, the lowest first


class Made(Enum):
    """How a bit comes about."""

    GIVEN = "given"  # a constant, or an entry of the port
    HELD = "held"  # a register
    ADDED = "added"  # of two bits, and a carry where there is one
    COUNTED = "counted"  # of one bit and a constant, with a carry or a constant 1
    CARRIED = "carried"  # a carry of which the sum beside it is not needed, as in comparisons
    CLAMPED = "clamped"
    CHOSEN = "chosen"
    NEGATED = "negated"
    INVERTED = "inverted"
    MULTIPLIED = "multiplied"
    LOOKED_UP = "looked up"


@dataclass(frozen=True)
class Rows:
    """Registers in rows of `SHIFTED` and more of which only the last one is read, and how many such
    rows."""

    registers: int
    rows: int


class Bits:
    """Of a netlist, by their numbers: how a bit is made, of which others (`needs`), and whether an
    output depends on it (`live`)."""

    def __init__(self, netlist: Netlist, ports: Ports):
        self._netlist, self._ports = netlist, ports
        self.made = [Made.GIVEN, Made.GIVEN]
        self.owner = [-1, -1]  # the operation that makes a bit
        self.how: list[Hashable] = [None, None]  # what else it is known by
        self.needs: list[tuple[int, ...]] = [(), ()]
        self._beside = [ZERO, ZERO]  # of a carry the sum of the same bits
        self._register: dict[int, int] = {}
        self._known: dict[tuple[Hashable, ...], int] = {}  # by how it is made of what
        self._words: list[list[Word]] = []  # by operation, and by stages after its own
        for number in range(len(netlist.operations)):
            self._words.append([self._word(number)])
        self.outputs = [
            self._held(bit) for output in netlist.outputs for bit in self._output(output)
        ]
        self.live = self._reached()

    def counts(self) -> Counter[tuple[int, Made]]:
        """How many live bits each operation makes, in what way; registers are of operation -1."""
        found: Counter[tuple[int, Made]] = Counter()
        for bit, live in enumerate(self.live):
            made, owner = self.made[bit], self.owner[bit]
            if not live or made is Made.GIVEN:
                continue
            if made is not Made.CARRIED:
                found[-1 if made is Made.HELD else owner, made] += 1
            elif not self.live[self._beside[bit]]:
                found[owner, made] += 1
        return found

    def rows(self) -> Rows:
        """Of the live registers."""
        read: Counter[int] = Counter(self.outputs)
        after: dict[int, int] = {}
        for bit, needs in enumerate(self.needs):
            if self.live[bit]:
                read.update(needs)
                if self.made[bit] is Made.HELD:
                    after[needs[0]] = bit

        def goes_on(bit: int) -> bool:
            return self.made[bit] is Made.HELD and read[bit] == 1 and bit in after

        registers = rows = 0
        for source, first in after.items():
            if goes_on(source):
                continue  # in the middle of a row
            length, bit = 1, first
            while goes_on(bit):
                length, bit = length + 1, after[bit]
            if length >= SHIFTED:
                registers, rows = registers + length, rows + 1
        return Rows(registers, rows)

    def _same(self, made: Made, owner: int, needs: tuple[int, ...], how: Hashable = None) -> int:
        """A bit that is made of others, in what way `how` tells; all equal ones are one."""
        key = made, needs, how
        if key not in self._known:
            self._known[key] = self._new(made, owner, needs, how)
        return self._known[key]

    def _new(self, made: Made, owner: int, needs: tuple[int, ...], how: Hashable = None) -> int:
        self.how.append(how)
        self.made.append(made)
        self.owner.append(owner)
        self.needs.append(needs)
        self._beside.append(ZERO)
        return len(self.made) - 1

    def _held(self, bit: int) -> int:
        """The register of a bit; all equal ones are one, and constants need none."""
        if bit in (ZERO, ONE):
            return bit
        if bit not in self._register:
            self._register[bit] = self._new(Made.HELD, self.owner[bit], (bit,))
        return self._register[bit]

    def _at(self, number: int, stage: int) -> Word:
        """The word of an operation in a stage."""
        words = self._words[number]
        if self._netlist.operations[number].kind is Kind.CONSTANT:
            return words[0]
        while len(words) <= stage - self._netlist.stages[number]:
            words.append([self._held(bit) for bit in words[-1]])
        return words[stage - self._netlist.stages[number]]

    def _reached(self) -> list[bool]:
        live = [False] * len(self.made)
        waiting = list(self.outputs)
        while waiting:
            bit = waiting.pop()
            if not live[bit]:
                live[bit] = True
                waiting += self.needs[bit]
        live[ZERO] = live[ONE] = False
        return live

    def _output(self, output: Output) -> Word:
        count, stage = self._ports.outputs.bits, self._netlist.count - 1
        return self._plain(output.operation, stage, 0, count, -1, output.shift, output.negated)

    def _word(self, number: int) -> Word:
        operation, stage = self._netlist.operations[number], self._netlist.stages[number]
        width, point, kind = operation.width, operation.point, operation.kind
        if kind is Kind.CONSTANT:
            return _constant(operation.data, width)
        if kind is Kind.INPUT:
            entry = (self._new(Made.GIVEN, -1, (), (operation.data, j)) for j in range(width))
            return [self._held(bit) for bit in entry]
        if not width:
            return []
        if kind is Kind.SUM:
            return self._sum(number, operation, stage)
        a = operation.operands[0]
        if kind is Kind.OFFSET:
            given = self._plain(a, stage, point, width, number)
            return self._added(number, given, _constant(operation.data, width), False)
        if kind is Kind.WRAP:
            return self._plain(a, stage, point, width, number, negated=operation.negated)
        if kind is Kind.RELU:
            return self._relu(number, operation, stage)
        if kind is Kind.MUX:
            return self._mux(number, operation, stage)
        if kind is Kind.TABLE:
            needs = tuple(self._at(a, stage))
            return [self._looked_up(number, operation, needs, j) for j in range(width)]
        needs = tuple(bit for i in operation.operands for bit in self._at(i, stage))
        return [self._same(Made.MULTIPLIED, number, needs, j) for j in range(width)]

    def _sum(self, number: int, operation: Operation, stage: int) -> Word:
        width, point, (a, b) = operation.width, operation.point, operation.operands
        first = self._plain(a, stage, point, width, number)
        second = self._plain(b, stage, point, width, number, operation.shift)
        return self._added(number, first, second, operation.negated)

    def _added(self, number: int, first: Word, second: Word, negated: bool) -> Word:
        """Sum or difference, a + ~b + 1: where constants decide a bit or a carry, it is that."""
        found: Word = []
        carry = ONE if negated else ZERO
        for a, b in zip(first, second, strict=True):
            made, carry = self._position(number, a, b, carry, negated)
            found.append(made)
        return found

    def _position(self, number: int, a: int, b: int, carry: int, negated: bool) -> tuple[int, int]:
        """The sum of three bits, and their carry."""
        changed = self._inverse(b, number) if negated and b <= ONE else b
        constants = [bit for bit in (a, changed, carry) if bit <= ONE]
        along = self.made[carry] is Made.CARRIED
        if len(constants) == 3:
            return (ONE if sum(constants) % 2 else ZERO), (ONE if sum(constants) > 1 else ZERO)
        if len(constants) == 2 and not along:
            (left,) = (bit for bit in (a, changed, carry) if bit > ONE)
            if negated and left == b:
                left = self._inverse(left, number)
            even = constants[0] == constants[1]
            return (left if even else self._inverse(left, number)), (constants[0] if even else left)
        made = Made.COUNTED if min(a, changed) <= ONE else Made.ADDED
        needs = a, b, carry
        total = self._same(made, number, needs, negated)
        if a == changed and a <= ONE:
            return total, a
        next_ = self._same(Made.CARRIED, number, needs, negated)
        self._beside[next_] = total
        return total, next_

    def _inverse(self, bit: int, owner: int) -> int:
        if bit <= ONE:
            return ONE - bit
        if self.made[bit] is Made.INVERTED:
            return self.needs[bit][0]
        return self._same(Made.INVERTED, owner, (bit,))

    def _relu(self, number: int, operation: Operation, stage: int) -> Word:
        (a,), width = operation.operands, operation.width
        source = self._netlist.operations[a]
        bits = self._plain(a, stage, operation.point, width, number, negated=operation.negated)
        if not source.signed:
            return [ZERO] * width if operation.negated else bits
        sign = self._at(a, stage)[-1]
        return [
            bit
            if bit in (ZERO, sign)
            else self._same(Made.CLAMPED, number, (bit, sign), operation.negated)
            for bit in bits
        ]

    def _looked_up(
        self, number: int, operation: Operation, needs: tuple[int, ...], place: int
    ) -> int:
        key = Made.LOOKED_UP, needs, (operation.table, operation.data, place)
        if key not in self._known:
            self._known[key] = self._new(Made.LOOKED_UP, number, needs, place)
        return self._known[key]

    def _mux(self, number: int, operation: Operation, stage: int) -> Word:
        width, point, (a, b, key) = operation.width, operation.point, operation.operands
        first = self._plain(a, stage, point, width, number)
        how = operation.shift, operation.negated
        second = self._plain(b, stage, point, width, number, *how)
        sign = self._at(key, stage)[-1]
        return [
            one if one == other else self._same(Made.CHOSEN, number, (one, other, sign))
            for one, other in zip(first, second, strict=True)
        ]

    def _plain(
        self,
        number: int,
        stage: int,
        point: int,
        count: int,
        owner: int,
        shift: int = 0,
        negated: bool = False,
    ) -> Word:
        """`count` bits of the value times 2**shift (or its negative) with its binary point at
        `point`, as `verilog` has them; what must be made for that is the `owner`'s."""
        source = self._netlist.operations[number]
        word = self._at(number, stage)
        start = source.point - point - shift
        if not source.width:
            return [ZERO] * count
        top = word[-1] if source.signed or source.kind is Kind.CONSTANT else ZERO
        found = [
            ZERO if place < 0 else word[place] if place < len(word) else top
            for place in range(start, start + count)
        ]
        return self._negative(found, word[: max(start, 0)], owner) if negated else found

    def _negative(self, word: Word, dropped: Sequence[int], owner: int) -> Word:
        """-x = ~x + 1: the lowest bit that can be 1 stays as it is."""
        needs = tuple(bit for bit in dropped if bit != ZERO)
        found: Word = []
        for bit in word:
            if not needs:
                found.append(bit)
                needs = () if bit == ZERO else (bit,)
            else:
                found.append(self._same(Made.NEGATED, owner, (bit, *needs)))
                needs = (found[-1], bit)
        return found


def _constant(value: int, width: int) -> Word:
    return [ONE if value >> place & 1 else ZERO for place in range(width)]
