"""How far float32 arithmetic can be from the exact value, for every tensor of a file.

Whatever the order of its sums, a float32 tensor is a sum of terms, each of which was rounded at
most k times: it is within gamma_k * (sum of the terms' magnitudes) of the exact value, gamma_k =
k*u / (1 - k*u), u = 2^-24 (Higham, Accuracy and Stability of Numerical Algorithms, section 3.4).
For a dense layer on n inputs with a bias k is n + 3, and n + 4 after the division by the next
scale. Where all terms are multiples of a power of two, and fewer than 2^24 of it, nothing is
rounded at all.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.onnx_file import OnnxFile, RawNode
from flow.oracle import Reals, Tensor, apply

UNIT = 2.0**-24
EXACT = 2.0**24
BIAS_GRID = 4  # roundings: a bias may bring its own float32 scale, within 2^-22 of the product's
NORM = 6  # roundings of a BatchNormalization: var + eps, sqrt, and one of each - / * +
FUNCTION = 8  # roundings of 1 in any float function; onnxruntime's tanh, the worst, measured 5.5


@dataclass(frozen=True, eq=False)
class Reach:
    """At most `roundings` per term, the terms' `magnitude` (n, ...) in all, and a power of two of
    which every term is a multiple: 0 where there is none, infinity where all terms are 0."""

    roundings: int
    magnitude: Reals
    grid: float

    def bound(self) -> Reals:
        """The largest error; 0 where float32 is exact."""
        error = gamma(self.roundings) * self.magnitude
        return np.where(self.magnitude < EXACT * self.grid, 0.0, error)


def gamma(roundings: int) -> float:
    """The largest relative error of one term; infinity where there are too many roundings."""
    share = roundings * UNIT
    return share / (1 - share) if share < 1 else np.inf


def grid_of(values: NDArray[Any]) -> float:
    """The largest power of two of which all values are multiples; infinity if all are 0."""
    some = np.asarray(values, np.float64)
    some = some[some != 0]
    if not some.size:
        return np.inf
    mantissa, exponent = np.frexp(some)
    whole = np.abs(mantissa * 2.0**53).astype(np.int64)
    return float(np.ldexp((whole & -whole).astype(np.float64), exponent - 53).min())


def is_power_of_two(values: NDArray[Any]) -> bool:
    """Whether dividing by any of the values is exact."""
    return bool((np.frexp(np.abs(np.asarray(values, np.float64)))[0] == 0.5).all())


def quantized(values: Reals) -> Reach:
    """A quantizer's output: one rounding, in code * scale."""
    return Reach(1, np.abs(values), grid_of(values))


def reaches(
    file: OnnxFile, reals: Mapping[str, Tensor], given: Collection[str]
) -> dict[str, Reach]:
    """The reach of every tensor in `reals`, the exact values; those `given` are quantized."""
    found = {name: replace(quantized(t.real), roundings=0) for name, t in _numbers(file).items()}
    found |= {name: quantized(reals[name].real) for name in given}
    for node in file.nodes:
        name = node.outputs[0]
        if name in found or name not in reals or any(n and n not in reals for n in node.inputs):
            continue
        rule = _RULES.get(node.op, _function)
        found[name] = rule(_Step(node, file.opset, reals, found))
    return found


def _numbers(file: OnnxFile) -> dict[str, Tensor]:
    return {name: Tensor(np.asarray(c, np.float64)) for name, c in file.constants.items()}


@dataclass(frozen=True, eq=False)
class _Step:
    """One node with what is known of its inputs."""

    node: RawNode
    opset: int
    reals: Mapping[str, Tensor]
    found: Mapping[str, Reach]

    def real(self, index: int) -> Reals:
        return np.asarray(self.reals[self.node.inputs[index]].real, np.float64)

    def reach(self, index: int) -> Reach:
        return self.found[self.node.inputs[index]]

    def has(self, index: int) -> bool:
        return index < len(self.node.inputs) and bool(self.node.inputs[index])

    def run(self, changed: Mapping[int, Reals]) -> Reals:
        """The node's output with some of its inputs replaced."""
        inputs = [
            None if not name else Tensor(changed[i]) if i in changed else self.reals[name]
            for i, name in enumerate(self.node.inputs)
        ]
        return np.asarray(apply(self.node, self.opset, inputs, False).real, np.float64)

    @property
    def output(self) -> Reals:
        return np.asarray(self.reals[self.node.outputs[0]].real, np.float64)


def _product(step: _Step) -> Reach:
    """Gemm, MatMul, Conv: n products and n - 1 additions in any order, then the bias."""
    x, weight = step.reach(0), step.reach(1)
    terms = weight.magnitude.size // weight.magnitude.shape[0]
    if step.node.op != "Conv":
        terms = x.magnitude.shape[-1]
    roundings, grid = x.roundings + weight.roundings + terms, x.grid * weight.grid
    parts = {0: x.magnitude, 1: weight.magnitude}
    if step.has(2):
        bias = step.reach(2)
        parts[2] = bias.magnitude
        roundings = max(roundings, bias.roundings + BIAS_GRID) + 1
        grid = min(grid, bias.grid)
    return Reach(roundings, step.run(parts), grid)


def _sum(step: _Step) -> Reach:
    x, y = step.reach(0), step.reach(1)
    grid = min(x.grid, y.grid)
    return Reach(max(x.roundings, y.roundings) + 1, x.magnitude + y.magnitude, grid)


def _mul(step: _Step) -> Reach:
    x, y = step.reach(0), step.reach(1)
    return Reach(x.roundings + y.roundings + 1, x.magnitude * y.magnitude, x.grid * y.grid)


def _div(step: _Step) -> Reach:
    x, y, below = step.reach(0), step.reach(1), np.abs(step.real(1))
    ratio = np.abs(step.real(0)) / below
    exact = below.size == 1 and y.roundings == 0 and is_power_of_two(below)
    return Reach(
        x.roundings + y.roundings + 1,
        x.magnitude / below if exact else (x.magnitude + ratio * y.magnitude) / below,
        x.grid / float(below.reshape(-1)[0]) if exact else 0.0,
    )


def _norm(step: _Step) -> Reach:
    x = step.reach(0)
    shape = (1, -1, *[1] * (x.magnitude.ndim - 2))
    gamma_, beta, mean, variance = (step.real(i).reshape(shape) for i in (1, 2, 3, 4))
    epsilon = float(np.asarray(step.node.attributes.get("epsilon", 1e-5)))
    factor = np.abs(gamma_) / np.sqrt(variance + epsilon)
    terms = (x.magnitude + np.abs(mean)) * factor + np.abs(beta)
    return Reach(x.roundings + NORM, terms, 0.0)


def _average(step: _Step) -> Reach:
    x = step.reach(0)
    window = np.asarray(step.node.attributes.get("kernel_shape", ()))
    terms = int(window.prod()) if window.size else x.magnitude.size // step.output.size
    whole = bool(step.node.attributes.get("count_include_pad", 0)) or not any(
        np.asarray(step.node.attributes.get("pads", (0,)))
    )
    exact = whole and is_power_of_two(np.array(terms))
    return Reach(
        x.roundings + terms + 1, step.run({0: x.magnitude}), x.grid / terms if exact else 0.0
    )


def _moved(step: _Step) -> Reach:
    """What moves, joins or chooses values rounds nothing; what else is in the input says where."""
    joined = step.node.op == "Concat"
    places = range(len(step.node.inputs)) if joined else range(1)
    parts = [step.reach(i) for i in places]
    made = step.run({i: part.magnitude for i, part in zip(places, parts, strict=True)})
    return Reach(max(p.roundings for p in parts), made, min(p.grid for p in parts))


def _padded(step: _Step) -> Reach:
    made = _moved(step)
    value = step.real(2) if step.has(2) else np.zeros(1)
    return replace(
        made,
        magnitude=np.maximum(made.magnitude, np.abs(value)),
        grid=min(made.grid, grid_of(value)),
    )


def _kept(step: _Step) -> Reach:
    """Relu, Clip: nothing comes farther from the exact value; their bounds are values as well."""
    x = step.reach(0)
    bounds = [grid_of(step.real(i)) for i in (1, 2) if step.has(i)]
    size = np.maximum(x.magnitude, np.abs(step.output))
    return Reach(x.roundings, size, min([x.grid, *bounds]))


def _quantizer(step: _Step) -> Reach:
    return quantized(step.output)


def _function(step: _Step) -> Reach:
    """Any float function: what an error of its input makes of it, and its own."""
    x, size = step.real(0), np.maximum(np.abs(step.output), 1)
    error = step.reach(0).bound()
    with np.errstate(all="ignore"):
        ends = [np.abs(step.run({0: x + sign * error}) - step.output) for sign in (1, -1)]
    spread = np.nan_to_num(np.maximum(*ends), nan=np.inf)
    return Reach(FUNCTION, size + spread / gamma(FUNCTION), 0.0)


_RULES: dict[str, Callable[[_Step], Reach]] = {
    **dict.fromkeys(("Gemm", "MatMul", "Conv"), _product),
    **dict.fromkeys(("Add", "Sub"), _sum),
    "Mul": _mul,
    "Div": _div,
    "BatchNormalization": _norm,
    **dict.fromkeys(("AveragePool", "GlobalAveragePool", "ReduceMean"), _average),
    **dict.fromkeys(("Relu", "Clip"), _kept),
    **dict.fromkeys(("MaxPool", "GlobalMaxPool", "Flatten", "Reshape", "Transpose"), _moved),
    **dict.fromkeys(("Slice", "Concat", "Resize", "Upsample", "DepthToSpace"), _moved),
    **dict.fromkeys(("Gather", "Unsqueeze", "Squeeze", "Cast", "Identity", "Dropout"), _moved),
    "Shape": lambda step: Reach(0, np.abs(step.output), 1.0),
    "Pad": _padded,
    **dict.fromkeys(("Quant", "IntQuant", "BipolarQuant", "MultiThreshold", "Trunc"), _quantizer),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), _quantizer),
}
