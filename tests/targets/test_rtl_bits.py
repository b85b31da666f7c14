"""The bits of a netlist: what is left of them computes the network, and no less is left than that
needs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from flow.interp import Interpreter
from flow.ops import Table
from flow.qtype import QType
from flow.surrogate.kernels import Kernel, Kind, drawn
from targets.rtl.bits import ONE, ZERO, Bits, Made
from targets.rtl.cover import Logic
from targets.rtl.labels import Laid
from targets.rtl.netlist import Kind as Does
from tests.targets.test_rtl_structure import counted

Values = NDArray[np.bool_]
SAMPLES = 64
KERNELS = [kernel for kernel in drawn(120) if kernel.work() < 120]
CLAMPING = drawn(15)[14]  # to the codes below those of its sums, by registers' resets


class Simulated:
    """Every bit of a kernel on random codes, from what it is said to be made of alone."""

    def __init__(self, kernel: Kernel, seed: int):
        self.graph, self.laid = kernel.graph(), Laid(kernel)
        self.bits = Bits(self.laid.made, self.laid.ports)
        given = self.graph.input.qtype
        rng = np.random.default_rng(seed)
        shape = (SAMPLES, *self.graph.input.shape)
        self.codes = rng.integers(given.low, given.high + 1, shape)
        self.values: list[Values] = []
        for bit in range(len(self.bits.made)):
            self.values.append(self._value(bit))

    def outputs(self) -> NDArray[np.int64]:
        """Codes (n, outputs)."""
        port = self.laid.ports.outputs
        bits = np.array([self.values[bit] for bit in self.bits.outputs]).T
        places = bits.reshape(SAMPLES, -1, port.bits).astype(np.int64) << np.arange(port.bits)
        codes: NDArray[np.int64] = places.sum(axis=2)
        return codes - ((codes >> (port.bits - 1)) << port.bits) if port.signed else codes

    def _value(self, bit: int) -> Values:
        bits = self.bits
        made, how = bits.made[bit], bits.how[bit]
        needs = [self.values[need] for need in bits.needs[bit]]
        if bit in (ZERO, ONE):
            return np.full(SAMPLES, bit == ONE)
        if made is Made.GIVEN:
            assert isinstance(how, tuple)
            entry, place = how
            found: Values = self.codes.reshape(SAMPLES, -1)[:, entry] >> place & 1 != 0
            return found
        if made is Made.HELD:
            return needs[0]
        if made is Made.INVERTED:
            return ~needs[0]
        if made is Made.NEGATED:
            return needs[0] ^ np.any(needs[1:], axis=0)
        if made is Made.CLAMPED:
            return needs[0] & (needs[1] if how else ~needs[1])
        if made is Made.CHOSEN:
            return np.where(needs[2], needs[0], needs[1])
        if made in (Made.LOOKED_UP, Made.MULTIPLIED):
            assert isinstance(how, int)
            whole = self._looked_up(bit) if made is Made.LOOKED_UP else self._product(bit)
            return whole >> how & 1 != 0
        first, second, carry = needs
        second = ~second if how else second
        if made is Made.CARRIED:
            return first & second | carry & (first ^ second)
        return first ^ second ^ carry

    def _words(self, bit: int) -> list[NDArray[np.int64]]:
        """Of the operands of the operation that makes it."""
        operations = self.laid.made.operations
        needs, found = list(self.bits.needs[bit]), []
        for operand in operations[self.bits.owner[bit]].operands:
            width = operations[operand].width
            word = [self.values[need].astype(np.int64) for need in needs[:width]]
            total = sum(value << place for place, value in enumerate(word))
            if operations[operand].signed:
                total = total - (word[-1] << width)
            found.append(np.asarray(total))
            needs = needs[width:]
        return found

    def _product(self, bit: int) -> NDArray[np.int64]:
        first, second = self._words(bit)
        return first * second

    def _looked_up(self, bit: int) -> NDArray[np.int64]:
        operation = self.laid.made.operations[self.bits.owner[bit]]
        (word,) = self._words(bit)
        entries = np.array(operation.table)
        return entries[np.clip(word - operation.data, 0, len(entries) - 1)]


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(KERNELS), st.integers(0, 1000))
def test_what_is_left_computes_the_network(kernel: Kernel, seed: int) -> None:
    """Of every bit only what it is said to be made of is used."""
    found = Simulated(kernel, seed)
    wanted = Interpreter(found.graph).run(found.codes)
    assert (found.outputs() == wanted.reshape(SAMPLES, -1)).all()


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(KERNELS), st.integers(0, 1000))
@example(CLAMPING, 0)
def test_functions_are_what_the_bits_are(kernel: Kernel, seed: int) -> None:
    """Their values by those of the bits that they are of; none says what it does not depend on."""
    found = Simulated(kernel, seed)
    logic = Logic(found.laid.made, found.bits, frozenset())
    for bit in range(len(found.bits.made)):
        if (function := logic.function(bit)) is None:
            continue
        of, values = function
        at = sum((found.values[name].astype(np.int64) << j for j, name in enumerate(of)), 0)
        told = (np.array(values, dtype=object) >> np.asarray(at, dtype=object)) & 1
        assert (np.asarray(told, dtype=np.int64) == found.values[bit]).all()
        assert len(of) <= 6 and len(set(of)) == len(of)


@pytest.mark.parametrize("kernel", KERNELS[:12], ids=lambda kernel: f"{kernel.number}")
def test_no_two_bits_are_the_same(kernel: Kernel) -> None:
    """No register is there twice, and none holds what no output needs."""
    bits = Bits((laid := Laid(kernel)).made, laid.ports)
    sources = [bits.needs[bit] for bit, made in enumerate(bits.made) if made is Made.HELD]
    assert len(sources) == len(set(sources))
    read = {need for bit, live in enumerate(bits.live) if live for need in bits.needs[bit]}
    for bit, live in enumerate(bits.live):
        assert not live or bit in read or bit in bits.outputs


def test_larger_luts_are_fewer() -> None:
    for kernel in KERNELS[:24]:
        laid = Laid(kernel)
        few = {i for i, o in enumerate(laid.made.operations) if o.kind is Does.SUM}
        logic = Logic(laid.made, Bits(laid.made, laid.ports), few)
        found = [logic.cover(inputs) for inputs in (4, 5, 6)]
        four, five, six = (c.luts + c.leaves + c.choices + c.gated for c in found)
        assert four >= five >= six


def test_a_table_that_is_a_bit_needs_nothing() -> None:
    """Of seven bits, the value's highest: no leaf, no choice, no gate."""
    found = counted(QType(7, signed=False), Table((np.arange(128) >= 64).astype(np.int64), 0))
    assert (found.luts4, found.leaves4, found.inverted4) == (0, 0, 0)
    assert Kind.TABLE in {kernel.kind for kernel in KERNELS}
