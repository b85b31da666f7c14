"""A netlist as one Verilog module: pipelined, with a clock enable, a new input every cycle."""

from __future__ import annotations

from collections.abc import Iterator

from flow.qtype import QType
from targets.rtl.diagram import diagram
from targets.rtl.implement.parts import Family
from targets.rtl.netlist import Kind, Netlist, Operation, Output
from targets.rtl.polarity import AS_TRACED, Polarity, polarity
from targets.rtl.ports import Ports

MODULE = "network"


def emit(netlist: Netlist, ports: Ports, module: str = MODULE, family: Family | None = None) -> str:
    """The module's text, for parts of a family where one is given."""
    chosen = AS_TRACED if family is Family.ECP5 else polarity(netlist)
    return "".join(f"{line}\n" for line in _Writer(netlist, ports, chosen).lines(module))


class _Writer:
    def __init__(self, netlist: Netlist, ports: Ports, chosen: Polarity):
        self.netlist, self.ports, self.polarity = netlist, ports, chosen
        self.last = netlist.last_use()

    def lines(self, module: str) -> Iterator[str]:
        into, out = self.ports.inputs.total, self.ports.outputs.total
        yield f"module {module} ("
        yield "  input wire clk,"
        yield "  input wire ce,"
        yield f"  input wire [{into - 1}:0] codes_in,"
        yield f"  output reg [{out - 1}:0] codes_out"
        yield ");"
        yield f"  reg [{into - 1}:0] codes;"
        yield "  always @(posedge clk) if (ce) codes <= codes_in;"
        for number, operation in enumerate(self.netlist.operations):
            if operation.width and operation.kind is not Kind.CONSTANT:
                yield from self._operation(number, operation)
        yield "  always @(posedge clk) if (ce) begin"
        for place, output in enumerate(self.netlist.outputs):
            low = place * self.ports.outputs.bits
            high = low + self.ports.outputs.bits - 1
            yield f"    codes_out[{high}:{low}] <= {self._output(output)};"
        yield "  end"
        yield "endmodule"

    def _operation(self, number: int, operation: Operation) -> Iterator[str]:
        """Its wire, and the registers that carry it to later stages."""
        name, stage = operation.name, self.netlist.stages[number]
        range_ = f"[{operation.width - 1}:0]"
        if operation.kind is Kind.TABLE:
            yield from self._table(operation, stage)
        else:
            yield f"  wire {range_} {name} = {self._expression(number, operation, stage)};"
        before = name
        for later in range(stage + 1, self.last[number] + 1):
            made, held = f"{name}_s{later}", f"{name}_s{later}"
            if (number, later) in self.polarity.registers:
                before, held = f"~{before}", f"{made}n"
            yield f"  reg {range_} {held};"
            yield f"  always @(posedge clk) if (ce) {held} <= {before};"
            if held != made:
                yield f"  wire {range_} {made} = ~{held};"
            before = made

    def _table(self, operation: Operation, stage: int) -> Iterator[str]:
        """As gates: synthesis would make multiplexers of cases, or a memory."""
        source = self.netlist.operations[operation.operands[0]]
        name, width = operation.name, operation.width
        value = self._at(operation.operands[0], stage)
        given = QType(source.width, source.signed)
        made = diagram(operation.table, operation.data, given, width, value, f"{name}_g")
        yield from (f"  wire {name}_g{place} = {gate};" for place, gate in enumerate(made.gates))
        yield f"  wire [{width - 1}:0] {name} = {{{', '.join(reversed(made.outputs))}}};"

    def _expression(self, number: int, operation: Operation, stage: int) -> str:
        width, point, kind = operation.width, operation.point, operation.kind
        if kind is Kind.INPUT:
            low = operation.data * self.ports.inputs.bits
            return f"codes[{low + width - 1}:{low}]"
        a = operation.operands[0]
        if kind is Kind.SUM:
            return self._sum(operation, stage, number in self.polarity.sums)
        if kind is Kind.OFFSET:
            return self._offset(operation, stage)
        if kind is Kind.MUX:
            return self._mux(operation, stage)
        if kind is Kind.PRODUCT:
            return " * ".join(self._as_signed(i, stage) for i in operation.operands)
        if kind is Kind.WRAP:
            return self._plain(a, stage, point, 0, 0, width, negated=operation.negated)
        assert kind is Kind.RELU
        bits = self._plain(a, stage, point, 0, 0, width, negated=operation.negated)
        source, text = self.netlist.operations[a], self._at(a, stage)
        if operation.negated:  # -a is above 0 where a is below
            sign = f"{text}[{source.width - 1}]" if source.signed else "1'b0"
            return f"{sign} ? {bits} : {width}'d0"
        if not source.signed:
            return bits
        return f"{text}[{source.width - 1}] ? {width}'d0 : {bits}"

    def _sum(self, operation: Operation, stage: int, inverted: bool) -> str:
        """The bits of a below b's are a's own, in a sum those of b below a's too."""
        width, point, (a, b) = operation.width, operation.point, operation.operands
        own = point - self.netlist.operations[a].point
        other = point - self.netlist.operations[b].point + operation.shift
        below = self.netlist.below(operation)
        first, second = (a, 0), (b, operation.shift)
        if not operation.negated and own > other:
            first, second = second, first
        sign = "-" if operation.negated else "+"
        high = [
            self._plain(i, stage, point, shift, below, width - below)
            for i, shift in (first, second)
        ]
        total = f"{high[0]} {sign} {high[1]}"
        if inverted:  # a + b = ~(~a - b)
            total = f"~(~{high[0]} {'+' if operation.negated else '-'} {high[1]})"
        if not below:
            return total
        # The sum's width is that of its operands, as parts of a concatenation have their own.
        return f"{{{total}, {self._plain(first[0], stage, point, first[1], 0, below)}}}"

    def _offset(self, operation: Operation, stage: int) -> str:
        width, point, (a,) = operation.width, operation.point, operation.operands
        below = self.netlist.below(operation)
        constant = _literal(operation.data >> below, width - below)
        total = f"{self._plain(a, stage, point, 0, below, width - below)} + {constant}"
        if not below:
            return total
        return f"{{{total}, {self._plain(a, stage, point, 0, 0, below)}}}"

    def _mux(self, operation: Operation, stage: int) -> str:
        width, point, (a, b, key) = operation.width, operation.point, operation.operands
        first = self._plain(a, stage, point, 0, 0, width)
        second = self._plain(b, stage, point, operation.shift, 0, width, operation.negated)
        source = self.netlist.operations[key]
        return f"{self._bits(key, stage, source.width - 1, 1)} ? {first} : {second}"

    def _output(self, output: Output) -> str:
        stage = self.netlist.count - 1
        bits = self.ports.outputs.bits
        return self._plain(output.operation, stage, 0, output.shift, 0, bits, output.negated)

    def _plain(
        self,
        number: int,
        stage: int,
        point: int,
        shift: int,
        below: int,
        count: int,
        negated: bool = False,
    ) -> str:
        """`count` bits, from bit `below` on, of the value times 2**shift (or its negative) with
        its binary point at `point`."""
        start = below - (point - self.netlist.operations[number].point + shift)
        if not negated:
            return self._bits(number, stage, start, count)
        if start <= 0:
            return f"-{self._bits(number, stage, start, count)}"
        # floor(-x) needs the bits that are dropped: -x = ~x + 1, whose carry they decide.
        carry = f"~|{self._bits(number, stage, 0, start)}"
        carry = f"{{{count - 1}'d0, {carry}}}" if count > 1 else f"({carry})"
        return f"~{self._bits(number, stage, start, count)} + {carry}"

    def _bits(self, number: int, stage: int, start: int, count: int) -> str:
        """`count` bits from bit `start` on, below the first one zeros, above the last the sign."""
        source = self.netlist.operations[number]
        if source.kind is Kind.CONSTANT or not source.width:
            value = source.data if source.kind is Kind.CONSTANT else 0
            return _literal(value >> start if start >= 0 else value << -start, count)
        name, width = self._at(number, stage), source.width
        zeros = min(max(-start, 0), count)
        high, low = min(start + count, width) - 1, max(start, 0)
        taken = max(high - low + 1, 0)
        parts = []
        if (above := count - zeros - taken) > 0:
            sign = f"{name}[{width - 1}]" if source.signed else "1'b0"
            parts.append(f"{{{above}{{{sign}}}}}")
        if taken:
            parts.append(name if taken == width else f"{name}[{high}:{low}]")
        if zeros:
            parts.append(f"{zeros}'d0")
        return parts[0] if len(parts) == 1 else f"{{{', '.join(parts)}}}"

    def _as_signed(self, number: int, stage: int) -> str:
        source = self.netlist.operations[number]
        text = self._bits(number, stage, 0, source.width + (not source.signed))
        return f"$signed({text})"

    def _at(self, number: int, stage: int) -> str:
        """The name under which the value is had in a stage."""
        made = self.netlist.stages[number]
        name = self.netlist.operations[number].name
        return name if stage == made else f"{name}_s{stage}"


def _literal(value: int, width: int) -> str:
    return f"{width}'d{value & ((1 << width) - 1)}"


def register_bits(netlist: Netlist, ports: Ports) -> int:
    """Flip-flops of the module as written."""
    carried = sum(
        o.width * (last - stage)
        for o, stage, last in zip(
            netlist.operations, netlist.stages, netlist.last_use(), strict=True
        )
        if o.kind is not Kind.CONSTANT
    )
    return carried + ports.inputs.total + ports.outputs.total
