"""What a netlist computes and holds, by what it costs: the structure that estimates of LUTs and
flip-flops stand on where the hardware is laid out."""

from __future__ import annotations

from dataclasses import dataclass

from targets.rtl.estimate import table_gates
from targets.rtl.netlist import Kind, Netlist, Operation
from targets.rtl.ports import Ports
from targets.rtl.verilog import register_bits

FEW_BITS = 4  # of both operands: such sums are LUTs, not carries (implement/adders.v)
SHIFTED = 3  # registers in a row from which on AMD's LUTs hold them (`xilinx_srl -minlen 3`)


@dataclass(frozen=True)
class Counted:
    """Sums and the bits in which both operands have some; those of few bits; bits that are chosen
    and clamped; bits of wires that are negated; gates of tables; bits times bits of products of two
    values, and how many there are. Flip-flops, those of them in rows of `SHIFTED` and more, and how
    many such rows; cycles."""

    sums: int
    sum_bits: int
    few_bits: int
    chosen_bits: int
    clamped_bits: int
    negated_bits: int
    gates: int
    product_bits: int
    products: int
    held: int
    rowed: int
    rows: int
    latency: int

    @classmethod
    def of(cls, made: Netlist, ports: Ports) -> Counted:
        by: dict[Kind, int] = dict.fromkeys(Kind, 0)
        sums = few = negated = products = 0
        for operation in made.operations:
            operands = [made.operations[place] for place in operation.operands]
            kind = operation.kind
            if kind is Kind.PRODUCT:
                by[kind] += operands[0].width * operands[1].width
                products += 1
            elif kind in (Kind.SUM, Kind.OFFSET):
                bits = _summed(operation, operands)
                sums += 1
                by[kind] += bits
                few += bits if sum(min(o.width, bits) for o in operands) <= FEW_BITS else 0
            else:
                by[kind] += operation.width
            if operation.negated and kind in (Kind.WRAP, Kind.RELU, Kind.MUX):
                negated += operation.width
        negated += sum(made.operations[o.operation].width for o in made.outputs if o.negated)
        rows = [
            (operation.width, last - stage)
            for operation, stage, last in zip(
                made.operations, made.stages, made.last_use(), strict=True
            )
            if operation.kind is not Kind.CONSTANT and last - stage >= SHIFTED
        ]
        return cls(
            sums,
            by[Kind.SUM] + by[Kind.OFFSET],
            few,
            by[Kind.MUX],
            by[Kind.RELU],
            negated,
            table_gates(made),
            by[Kind.PRODUCT],
            products,
            register_bits(made, ports),
            sum(width * stages for width, stages in rows),
            sum(width for width, _ in rows),
            made.latency,
        )


def _summed(operation: Operation, operands: list[Operation]) -> int:
    """Bits of a sum but those at the low end that are one operand's own, as they are written."""
    width = operation.width
    if operation.kind is Kind.OFFSET:
        zeros = (operation.data & -operation.data).bit_length() - 1
        return width - min(max(zeros, 0), width - 1)
    own = operation.point - operands[0].point
    other = operation.point - operands[1].point + operation.shift
    below = max(own, other) if not operation.negated else other
    return width - min(max(below, 0), width - 1)
