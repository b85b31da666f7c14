"""What a netlist computes and holds, by what it costs: the structure that estimates of LUTs and
flip-flops stand on where the hardware is laid out."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from targets.rtl.bits import Bits, Made
from targets.rtl.cover import Logic
from targets.rtl.estimate import table_gates
from targets.rtl.netlist import Kind, Netlist, Operation
from targets.rtl.polarity import polarity
from targets.rtl.ports import Ports

FEW_BITS = 4  # of both operands: such sums are LUTs, not carries (implement/adders.v)


_ALONG_CARRIES = (Made.ADDED, Made.COUNTED, Made.CARRIED)


@dataclass(frozen=True)
class Counted:
    """Sums along carries, the bits in which they are written, by twos, the bits that they make of
    two, and of one and a constant, and carries of which the sum is not needed; bits that are
    negated, and that are needed both ways up. What is beside carries, as `cover` has it with LUTs
    of 4 and of 6 inputs: LUTs, bits that are inverted, parts of larger tables; signals that reset
    registers. Bits times bits of products of two values, and how many there are. Flip-flops, those
    of them in long rows, and how many such rows; cycles. Only what an output depends on is counted,
    and what is the same once."""

    sums: int
    paired_bits: int
    sum_bits: int
    count_bits: int
    compared_bits: int
    negated_bits: int
    inverted_bits: int
    luts4: int
    inverted4: int
    leaves4: int
    choices4: int
    gated4: int
    gates4: int
    luts6: int
    leaves6: int
    choices6: int
    gated6: int
    resets: int
    product_bits: int
    products: int
    held: int
    rowed: int
    rows: int
    latency: int

    @classmethod
    def of(cls, made: Netlist, ports: Ports) -> Counted:
        bits = Bits(made, ports)
        few = {
            number
            for number, operation in enumerate(made.operations)
            if operation.kind in (Kind.SUM, Kind.OFFSET) and _few(made, operation)
        }
        counts = {place: n for place, n in bits.counts().items() if place[0] not in few}

        def total(how: Made) -> int:
            return sum(n for (_, made), n in counts.items() if made is how)

        along = {of for of, how in counts if how in _ALONG_CARRIES}
        logic, rows = Logic(made, bits, few), bits.rows()
        four, six = logic.cover(4), logic.cover(6, absorbs=True)
        multiplied = {of for of, how in counts if how is Made.MULTIPLIED}
        return cls(
            sums=len(along),
            paired_bits=sum(-(-_left(made, made.operations[of]) // 2) * 2 for of in along),
            sum_bits=total(Made.ADDED),
            count_bits=total(Made.COUNTED),
            compared_bits=total(Made.CARRIED),
            negated_bits=total(Made.NEGATED),
            inverted_bits=_inverted(made),
            luts4=four.luts,
            inverted4=four.inverted,
            leaves4=four.leaves,
            choices4=four.choices,
            gated4=four.gated,
            gates4=table_gates(made.operations, (made.operations[n] for n in four.tables)),
            luts6=six.luts,
            leaves6=six.leaves,
            choices6=six.choices,
            gated6=six.gated,
            resets=logic.resets(),
            product_bits=sum(prod(_widths(made, made.operations[of])) for of in multiplied),
            products=len(multiplied),
            held=total(Made.HELD),
            rowed=rows.registers,
            rows=rows.rows,
            latency=made.latency,
        )


def _inverted(made: Netlist) -> int:
    """Bits of values that are needed both ways up, and of those that are held one way in a register
    and the other in the next."""
    chosen = polarity(made)
    between = 0
    for number, (operation, last) in enumerate(zip(made.operations, made.last_use(), strict=True)):
        before: bool | None = False if operation.kind is Kind.INPUT else None  # a port's, or none
        for stage in range(made.stages[number] + 1, last + 1):
            inverse = (number, stage) in chosen.registers
            between += operation.width * (before is not None and inverse is not before)
            before = inverse
    return chosen.inverters + between


def _few(made: Netlist, operation: Operation) -> bool:
    """Whether it is written without a carry: its operands have few bits."""
    left = _left(made, operation)
    bits = sum(min(width, left) for width in _widths(made, operation))
    if operation.kind is Kind.OFFSET:
        constant = operation.data >> (operation.width - left) & ((1 << left) - 1)
        bits += constant.bit_length()
    return bits <= FEW_BITS


def _left(made: Netlist, operation: Operation) -> int:
    """Bits of a sum as it is written: all but those that are one operand's own."""
    return operation.width - made.below(operation)


def _widths(made: Netlist, operation: Operation) -> list[int]:
    return [made.operations[place].width for place in operation.operands]
