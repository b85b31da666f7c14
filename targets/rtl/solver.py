"""da4ml: traced values, and matrices of constants as shared sums.

da4ml compiles itself with numba at its first use, for minutes. Interpreted, it is as fast for the
small matrices of networks that are unrolled whole, so it is loaded without the compiler; in a
process that has loaded it otherwise it works too.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.ops import IntArray

Vars = NDArray[Any]  # of FixedVariable
SEARCHED = 256  # weights of a matrix of which every decomposition is tried
MAX_WEIGHT = 1 << 24  # da4ml takes matrices as float32


@cache
def da4ml() -> Any:
    """The modules of da4ml that are used here, by name."""
    from types import SimpleNamespace

    from numba import config

    settings: Any = config
    kept = settings.DISABLE_JIT
    settings.DISABLE_JIT = True  # read when da4ml's functions are defined
    try:
        from da4ml.cmvm import api, types
        from da4ml.trace import fixed_variable, tracer
    finally:
        settings.DISABLE_JIT = kept
    return SimpleNamespace(api=api, types=types, variables=fixed_variable, tracer=tracer)


class Solver:
    """Products of constant matrices with traced values; equal products are solved once.

    `adder_size` and `carry_size` are da4ml's: the bits of one unit of an adder's cost, and of its
    delay; -1 counts every adder as one.
    """

    def __init__(self, adder_size: int, carry_size: int):
        self.hardware = da4ml().variables.HWConfig(adder_size, carry_size, -1)
        self._solved: dict[Any, Any] = {}

    def variable(self, low: int, high: int) -> Any:
        """An input that can be low..high."""
        return da4ml().variables.FixedVariable(low, high, 1, hwconf=self.hardware)

    def constant(self, code: int) -> Any:
        return da4ml().variables.FixedVariable.from_const(code, hwconf=self.hardware)

    def product(self, weight: IntArray, bias: IntArray, inputs: Vars) -> Vars:
        """weight (out, in) times inputs (in,), plus bias (out,)."""
        total = [int(b) for b in bias]
        rows, live = [], []
        for column, variable in zip(weight.T, inputs, strict=True):
            base, offset = peeled(variable)
            for o, w in enumerate(column):
                total[o] += int(w) * offset
            if base is not None and column.any():
                unit, scale = normal(base)
                live.append(unit)
                rows.append([int(w) * scale for w in column])
        sums = self._sums(np.array(rows, dtype=np.int64).reshape(len(rows), len(weight)), live)
        out = np.empty(len(weight), dtype=object)
        for o, sum_ in enumerate(sums):
            out[o] = self.constant(total[o]) if sum_ is None else sum_ + total[o]
        return out

    def _sums(self, matrix: IntArray, live: list[Any]) -> list[Any]:
        """live @ matrix, None for a column of zeros."""
        found: list[Any] = [None] * matrix.shape[1]
        some = np.flatnonzero(matrix.any(axis=0))
        if not len(some):
            return found
        ranges = tuple((float(v.low), float(v.high), float(v.step)) for v in live)
        delays = tuple(float(v.latency) - min(v.latency for v in live) for v in live)
        kernel = matrix[:, some]
        key = kernel.tobytes(), kernel.shape, ranges, delays
        if key not in self._solved:
            self._solved[key] = self._solve(kernel, ranges, delays)
        variables = np.array(live, dtype=object)
        for column, value in zip(some, self._solved[key](variables), strict=True):
            found[column] = value
        return found

    def _solve(self, kernel: IntArray, ranges: Any, delays: Any) -> Any:
        api, types = da4ml().api, da4ml().types
        intervals = [types.QInterval(*r) for r in ranges]
        depth = int(np.ceil(np.log2(len(kernel))))
        tries = range(-1, depth + 1) if kernel.size <= SEARCHED else (-1,)
        best = None
        for decomposed in tries:
            found = api.jit_solve(
                kernel.astype(np.float32),
                decompose_dc=decomposed,
                qintervals=intervals,
                latencies=list(delays),
                adder_size=self.hardware.adder_size,
                carry_size=self.hardware.carry_size,
            )
            if best is None or found.cost < best.cost:
                best = found
        return best


def peeled(variable: Any) -> tuple[Any, int]:
    """The value as (variable, constant) whose sum it is; the variable is None for a constant."""
    if variable.low == variable.high:
        return None, int(variable.low)
    if variable.opr != "cadd":
        return variable, 0
    (parent,) = variable._from
    offset = variable._data * variable._factor
    if offset != int(offset):
        return variable, 0
    return parent * (variable._factor / parent._factor), int(offset)


def normal(variable: Any) -> tuple[Any, int]:
    """The value as unit * scale, where the unit is not negated and steps by 1."""
    scale = int(variable.step) * (-1 if variable._factor < 0 else 1)
    return (variable if scale == 1 else variable * (1 / scale)), scale


def narrowed(variable: Any, low: int, high: int) -> Any:
    """The same value, known to be inside low..high."""
    if variable.low < variable.high:
        variable.low = max(variable.low, type(variable.low)(int(low)))
        variable.high = min(variable.high, type(variable.high)(int(high)))
    return variable
