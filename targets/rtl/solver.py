"""da4ml: traced values, and matrices of constants as shared sums.

da4ml compiles itself with numba at its first use, for minutes. Interpreted, it takes seconds for
the small matrices of networks that are unrolled whole, so it is loaded without the compiler, unless
this process has loaded it already.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.ops import IntArray

Vars = NDArray[Any]  # of FixedVariable
SEARCHED = 256  # weights of a matrix of which every decomposition is tried
# Of a matrix that is solved whole: time grows as a power, and what halves share is lost.
BLOCK_WEIGHTS, BLOCK_OUTPUTS = 2560, 32
MAX_WEIGHT = 1 << 24  # da4ml takes matrices as float32


@cache
def da4ml() -> Any:
    """The modules of da4ml that are used here, by name."""
    from types import SimpleNamespace

    from numba import config
    from numba.typed import List

    settings: Any = config
    kept = settings.DISABLE_JIT
    settings.DISABLE_JIT = True  # read when da4ml's functions are defined
    try:
        from da4ml.cmvm import api, types
        from da4ml.trace import fixed_variable, tracer
    finally:
        settings.DISABLE_JIT = kept
    return SimpleNamespace(
        api=api, types=types, variables=fixed_variable, tracer=tracer, lists=List
    )


class Solver:
    """Products of constant matrices with traced values; equal products are solved once.

    `adder_size` and `carry_size` are da4ml's: the bits of one unit of an adder's cost, and of its
    delay; -1 counts every adder as one.
    """

    def __init__(self, adder_size: int, carry_size: int):
        self.hardware = da4ml().variables.HWConfig(adder_size, carry_size, -1)
        self._solved: dict[Any, Any] = {}
        self._least: dict[Any, Any] = {}

    def variable(self, low: int, high: int) -> Any:
        """An input that can be low..high."""
        return da4ml().variables.FixedVariable(low, high, 1, hwconf=self.hardware)

    def constant(self, code: int) -> Any:
        return da4ml().variables.FixedVariable.from_const(code, hwconf=self.hardware)

    def lookup(self, variable: Any, entries: NDArray[Any]) -> Any:
        """entries[(value - least value) / its step]."""
        made = variable.lookup(entries.astype(np.float64))
        self._least[made.id] = variable.unscaled.low
        return made

    def least(self, lookup: Any) -> float:
        """Of what value, before its factor, a `lookup` has its first entry. What da4ml knows of a
        value's range may be narrowed after a table was made of it."""
        return float(self._least[lookup.id])

    def product(self, weight: IntArray, bias: IntArray, inputs: Vars) -> Vars:
        """weight (out, in) times inputs (in,), plus bias (out,)."""
        parts = [peeled(variable) for variable in inputs]
        # In Python's integers, which do not overflow.
        total = weight.astype(object) @ np.array([c for _, c in parts], dtype=object) + bias
        units = [None if base is None else normal(base) for base, _ in parts]
        scales = {scale for _, scale in filter(None, units)}
        used = [bool(column.any()) for column in weight.T]
        # A large matrix is solved once for all places of a window: with padding as a value of 0.
        shared = weight.size > SEARCHED and len(scales) == 1
        spare = (self.constant(0), *scales) if shared else None
        kept = [(unit or spare, i) for i, unit in enumerate(units) if used[i]]
        live = [(unit, i) for unit, i in kept if unit is not None]
        matrix = np.zeros((len(live), len(weight)), dtype=np.int64)
        for row, ((_, scale), i) in zip(matrix, live, strict=True):
            row[:] = weight[:, i] * scale
        sums = self._sums(matrix, [unit for (unit, _), _ in live], shared)
        out = np.empty(len(weight), dtype=object)
        for o, found in enumerate(sums):
            out[o] = self.constant(int(total[o])) if found is None else found + int(total[o])
        return out

    def _sums(self, matrix: IntArray, live: list[Any], shared: bool) -> list[Any]:
        """live @ matrix, None for a column of zeros; large matrices in blocks."""
        rows, columns = matrix.shape
        if columns > BLOCK_OUTPUTS:
            half = columns // 2
            ends = matrix[:, :half], matrix[:, half:]
            return [found for end in ends for found in self._sums(end, live, shared)]
        if rows * columns > BLOCK_WEIGHTS and rows > 1:
            half = rows // 2
            above = self._sums(matrix[:half], live[:half], shared)
            below = self._sums(matrix[half:], live[half:], shared)
            return [
                a if b is None else b if a is None else a + b
                for a, b in zip(above, below, strict=True)
            ]
        found: list[Any] = [None] * columns
        some, taken = np.flatnonzero(matrix.any(axis=0)), np.flatnonzero(matrix.any(axis=1))
        if not len(some):
            return found
        live = [live[i] for i in taken]
        kernel = np.ascontiguousarray(matrix[np.ix_(taken, some)])
        ranges = [(float(v.low), float(v.high), float(v.step)) for v in live]
        delays = [float(v.latency) - min(v.latency for v in live) for v in live]
        if shared:
            ranges = [(min(r[0] for r in ranges), max(r[1] for r in ranges), 1.0)] * len(live)
            delays = [0.0] * len(live)
        key = kernel.tobytes(), kernel.shape, tuple(ranges), tuple(delays)
        if key not in self._solved:
            self._solved[key] = self._solve(kernel, ranges, delays)
        variables = np.array(live, dtype=object)
        for column, value in zip(some, self._solved[key](variables), strict=True):
            found[column] = value
        return found

    def _solve(self, kernel: IntArray, ranges: Any, delays: Any) -> Any:
        modules = da4ml()
        intervals = [modules.types.QInterval(*r) for r in ranges]
        sizes = {"adder_size": self.hardware.adder_size, "carry_size": self.hardware.carry_size}
        matrix = kernel.astype(np.float32)
        if hasattr(modules.api.solve, "py_func"):  # compiled: called as hls4ml's layers call it
            return modules.api.solve(
                matrix,
                method0="wmc",
                method1="auto",
                hard_dc=-1,
                decompose_dc=-2,
                qintervals=modules.lists(intervals),
                latencies=modules.lists(delays),
                search_all_decompose_dc=True,
                **sizes,
            )
        depth = int(np.ceil(np.log2(len(kernel))))
        tries = range(-1, depth + 1) if kernel.size <= SEARCHED else (-1,)
        found = (
            modules.api.jit_solve(
                matrix, decompose_dc=tried, qintervals=intervals, latencies=delays, **sizes
            )
            for tried in tries
        )
        return min(found, key=lambda solved: solved.cost)


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
