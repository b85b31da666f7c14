"""Comparing a float32 runtime's values with the integer graph: only rounding may tell them apart.

Every quantizer of the graph is computed from the runtime's own codes before it, so each difference
is a first one. It is a near-tie where the exact value is so close to the boundary between the two
codes that float32 (see `float_bound`) may round to either; anything else is a mismatch. Where all
scales are powers of two and sums stay below 2^24 units, float32 is exact and no difference is left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.errors import Mismatch
from flow.float_bound import UNIT, Reach, grid_of, is_power_of_two, reaches
from flow.graph import Node
from flow.host import make_host
from flow.importer import Imported
from flow.interp import Interpreter
from flow.onnx_file import OnnxFile, RawNode
from flow.ops import IntArray, Requant, Table, Threshold
from flow.oracle import Reals, Tensor, evaluate

ROUNDS = (Requant, Table, Threshold)  # the nodes that a runtime's codes are compared at
FLOAT64 = 2.0**-48  # of a magnitude: what float64's own rounding may add
_DIVIDES = ("Quant", "IntQuant", "QuantizeLinear", "Trunc")
_CONTINUES = ("DequantizeLinear", "Clip")  # what follows a QuantizeLinear and belongs to it


@dataclass(frozen=True)
class FloatAgreement:
    """How many vectors a runtime was given, how many of its values were compared, and how many of
    them are near-ties. `aside` counts vectors that a near-tie took out of the graph's range."""

    vectors: int
    codes: int
    near_ties: int
    aside: int = 0

    def __add__(self, other: FloatAgreement) -> FloatAgreement:
        return FloatAgreement(
            self.vectors + other.vectors,
            self.codes + other.codes,
            self.near_ties + other.near_ties,
            self.aside + other.aside,
        )


def wanted(file: OnnxFile, imported: Imported) -> tuple[str, ...]:
    """The file's tensors that `compare` needs of a runtime."""
    graph = imported.graph
    rounded = [n.output.name for n in graph.nodes if isinstance(n.op, ROUNDS)]
    names = [imported.origin[name] for name in rounded]
    last = _float_output(file, imported)
    return tuple(dict.fromkeys([*names, *([last] if last else [])]))


def compare(
    file: OnnxFile,
    imported: Imported,
    interpreter: Interpreter,
    codes: IntArray,
    values: Mapping[str, NDArray[Any]],
    first: int = 0,
) -> FloatAgreement:
    """Compare a runtime's `values`, by tensor of the file (n, ...), with the graph on `codes`.

    Args:
        first: the number under which the user knows the first vector.

    Raises:
        Mismatch: a value differs by more than float32 explains; layer, vector, place, both values,
            distance and bound are named.
    """
    run = _Comparison(file, imported, codes, values, first)
    interpreter.follow(codes, run.see)
    return FloatAgreement(len(codes), run.compared, run.near_ties, int((~run.alive).sum()))


def _float_output(file: OnnxFile, imported: Imported) -> str | None:
    """The tensor of an output that no quantizer makes; None where the host computes it."""
    graph = imported.graph
    if not graph.nodes or isinstance(graph.nodes[-1].op, ROUNDS):
        return None
    name = imported.origin.get(graph.output.name)
    return name or (None if imported.tail.functions else file.outputs[0])


class _Comparison:
    """The state of one comparison: the runtime's real values so far, and what was found."""

    def __init__(
        self,
        file: OnnxFile,
        imported: Imported,
        codes: IntArray,
        values: Mapping[str, NDArray[Any]],
        first: int,
    ):
        self.file, self.imported, self.values, self.first = file, imported, values, first
        self.graph = imported.graph
        self.fixed = evaluate(file, {})
        self.made = {node.outputs[0]: node for node in file.nodes}
        self.forced = {imported.source: self._tensor(self.graph.input.name, codes)}
        self.alive = np.ones(len(codes), dtype=bool)
        self.compared = self.near_ties = 0

    def see(self, node: Node, made: IntArray) -> IntArray:
        """The runtime's codes where the node rounds, compared with the graph's."""
        if not isinstance(node.op, ROUNDS):
            if node is self.graph.nodes[-1]:
                self._see_output(made)
            return made
        name, tensor = node.output.name, self.imported.origin[node.output.name]
        real = np.asarray(self.values[tensor], np.float64).reshape(made.shape)
        codes, wrong_grid = self._codes(name, real)
        if (wrong_grid & self._living(made)).any():
            at = _first(wrong_grid & self._living(made))
            raise Mismatch(f"{self._place(name, at)}: {real[at]!r} is no multiple of its scale")
        wrong = (codes != made) & self._living(made)
        self.compared += int(self._living(made).sum())
        if wrong.any():
            self._explain(node, made, codes, wrong)
            self.near_ties += int(wrong.sum())
            codes = self._inside(name, codes, made)
        codes = np.where(self._living(made), codes, made)
        self.forced[tensor] = self._tensor(name, codes)
        return codes

    def _see_output(self, made: IntArray) -> None:
        """A float output: within float32's error of the exact one."""
        tensor = _float_output(self.file, self.imported)
        if tensor is None:
            return
        name = self.graph.output.name
        if name in self.imported.origin:
            exact = self._reals(name, made)
        else:
            exact = make_host(self.imported.head, self.imported.tail).scores(made)
        real = np.asarray(self.values[tensor], np.float64).reshape(made.shape)
        self.compared += int(self._living(made).sum())
        rows = np.flatnonzero((real != exact).reshape(len(made), -1).any(axis=1) & self.alive)
        if not rows.size:
            return
        reach = self._reach(rows, tensor)
        bound = (reach.bound() + FLOAT64 * reach.magnitude).reshape(len(rows), *made.shape[1:])
        error = np.abs(real[rows] - exact[rows])
        if not (error <= bound).all():
            at = _first(~(error <= bound))
            there = (int(rows[at[0]]), *at[1:])
            raise Mismatch(
                f"{self._place(name, there)}: {real[there]!r}, the graph {exact[there]!r}; float32 "
                f"explains {bound[at]:.3g}, not {error[at]:.3g}"
            )

    def _explain(self, node: Node, made: IntArray, codes: IntArray, wrong: NDArray[Any]) -> None:
        """Raises Mismatch unless every difference is a near-tie."""
        rows = np.flatnonzero(wrong.reshape(len(wrong), -1).any(axis=1))
        name = node.output.name
        quantizer = self._quantizer(self.imported.origin[name])
        source = quantizer.inputs[0]
        exact = self._exact(rows)[source].real
        bound = self._reach_of_quotient(rows, quantizer).bound()
        ends = [self._after(name, source, exact + sign * bound) for sign in (-1, 1)]
        low, high = np.minimum(*ends), np.maximum(*ends)
        # Both codes must be near: else a graph that is wrong itself would pass for the runtime.
        near = (low <= codes[rows]) & (codes[rows] <= high) & (low <= made[rows])
        real = wrong[rows] & ~(near & (made[rows] <= high))
        if not real.any():
            return
        at = _first(real)
        there = (int(rows[at[0]]), *at[1:])
        distance = self._distance(name, source, exact[at[0] : at[0] + 1], at[1:], codes[there])
        flat = np.broadcast_to(bound, exact.shape).reshape(len(rows), *made.shape[1:])
        raise Mismatch(
            f"{self._place(name, there)}: code {codes[there]}, the graph {made[there]}; the exact "
            f"value is {distance:.3g} from where the runtime's code begins, and float32 explains "
            f"{flat[at]:.3g} ({int(real.sum())} of {real.size} values differ so)"
        )

    def _exact(self, rows: IntArray) -> dict[str, Tensor]:
        """Every tensor that follows exactly from the runtime's codes so far."""
        return evaluate(
            self.file, {k: replace(t, real=t.real[rows]) for k, t in self.forced.items()}
        )

    def _reach(self, rows: IntArray, tensor: str) -> Reach:
        return reaches(self.file, self._exact(rows), tuple(self.forced))[tensor]

    def _reach_of_quotient(self, rows: IntArray, quantizer: RawNode) -> Reach:
        """Of what the quantizer rounds, x / scale + zero-point, times the scale."""
        reach = self._reach(rows, quantizer.inputs[0])
        if quantizer.op not in _DIVIDES:
            return reach
        scale, zero = (self.fixed[name].real for name in quantizer.inputs[1:3])
        wide = self._wide(quantizer, scale, reach.magnitude.ndim)
        added = np.abs(np.asarray(zero, np.float64)).max(initial=0)
        inside = bool(quantizer.op != "QuantizeLinear" and added)
        return Reach(
            reach.roundings + 1 + inside,
            reach.magnitude + inside * added * wide,
            min(reach.grid, grid_of(wide)) if is_power_of_two(scale) else 0.0,
        )

    @staticmethod
    def _wide(quantizer: RawNode, scale: NDArray[Any], rank: int) -> Reals:
        """The scale, lined up with the quantizer's input."""
        wide: Reals = np.asarray(scale, np.float64)
        if wide.size == 1:
            return wide.reshape((1,) * rank)
        if quantizer.op != "QuantizeLinear":
            return wide
        axis = int(np.asarray(quantizer.attributes.get("axis", 1))) % rank
        return wide.reshape([-1 if i == axis else 1 for i in range(rank)])

    def _quantizer(self, tensor: str) -> RawNode:
        """The node that rounds, of the tensor that it or its DequantizeLinear gives."""
        node = self.made[tensor]
        while node.op in _CONTINUES:
            node = self.made[node.inputs[0]]
        return node

    def _after(self, name: str, source: str, real: Reals) -> IntArray:
        """The codes that the file's quantizer gives for the real values of its input."""
        tensor = self.imported.origin[name]
        made = evaluate(self.file, {**self.fixed, source: Tensor(real)})[tensor].real
        return self._codes(name, made.reshape(len(real), *self.graph.value(name).shape))[0]

    def _distance(
        self, name: str, source: str, exact: Reals, place: tuple[int, ...], code: int
    ) -> float:
        """How far the value there (all else may move with it) is from where `code` begins;
        infinity where the quantizer never gives it."""

        def at(shift: float) -> int:
            return int(self._after(name, source, exact + shift)[(0, *place)])

        sign = 1.0 if code > at(0.0) else -1.0
        near, far = 0.0, float(self._scale(name).max()) * 2.0**-20
        while sign * (at(sign * far) - code) < 0:
            near, far = far, 2 * far
            if far > 1e30:
                return np.inf
        for _ in range(50):
            middle = (near + far) / 2
            if sign * (at(sign * middle) - code) < 0:
                near = middle
            else:
                far = middle
        return far

    def _inside(self, name: str, codes: IntArray, made: IntArray) -> IntArray:
        """A near-tie at the end of the range that the graph derived is followed no further."""
        shape = (1, -1, *[1] * (codes.ndim - 2))
        low, high = (end.reshape(shape) for end in self.graph.bounds[name])
        out = ((codes < low) | (codes > high)).reshape(len(codes), -1).any(axis=1)
        self.alive &= ~out
        return np.where(out.reshape(-1, *[1] * (codes.ndim - 1)), made, codes)

    # Codes and reals ------------------------------------------------------------------------------

    def _scale(self, name: str) -> Reals:
        value = self.graph.value(name)
        scale = np.array([float(s) for s in value.scale])
        return scale.reshape(-1, *[1] * (len(value.shape) - 1))

    def _reals(self, name: str, codes: IntArray) -> Reals:
        return (codes - self.graph.value(name).zero_point) * self._scale(name)

    def _tensor(self, name: str, codes: IntArray) -> Tensor:
        return Tensor(self._reals(name, codes), self._scale(name)[None])

    def _codes(self, name: str, real: Reals) -> tuple[IntArray, NDArray[Any]]:
        """The codes of real values, and where these are farther from them than float32 rounds."""
        steps = np.rint(real / self._scale(name))
        off = ~(np.abs(real - steps * self._scale(name)) <= 4 * UNIT * np.abs(real))
        safe = np.where(np.isfinite(steps) & (np.abs(steps) < 1 << 40), steps, 0)
        return safe.astype(np.int64) + self.graph.value(name).zero_point, off | (safe != steps)

    def _living(self, codes: IntArray) -> NDArray[np.bool_]:
        return np.broadcast_to(self.alive.reshape(-1, *[1] * (codes.ndim - 1)), codes.shape)

    def _place(self, name: str, at: tuple[int, ...]) -> str:
        inside = f", position {at[2:]}" if at[2:] else ""
        return f"layer {name}, vector {self.first + at[0]}, channel {at[1]}{inside}"


def _first(wrong: NDArray[Any]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(wrong)[0])
