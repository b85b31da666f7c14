"""da4ml's own Verilog of an integer graph, as a user of da4ml would write it, and nothing of ours.

Requantizations are what da4ml has for them: times the multiplier, plus the offset, times a power of
two, `quantize` with saturation; numbers are those of the proven form, so that the rounding is the
same. Run by `tests.bench.rtl` in a process of its own, as da4ml compiles itself
there: `python -m tests.bench.rtl_plain graph.json vectors.npz folder cutoff`.
"""

from __future__ import annotations

import json
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from flow.graph import Graph, Node
from flow.interp import Interpreter
from flow.ops import Conv, Dense, Flatten, MaxPool, Requant
from flow.ops.windows import windows_of
from flow.requant import Rounding, exact_form, fit

SUPPORTED = (Conv, Dense, Flatten, MaxPool, Requant)


def traced(graph: Graph) -> tuple[Any, Any]:
    """da4ml's inputs and outputs."""
    from da4ml.trace import FixedVariableArray, FixedVariableArrayInput, HWConfig

    given = graph.input.qtype
    inputs = FixedVariableArrayInput(graph.input.shape, HWConfig(-1, -1, -1))
    signed = int(given.signed)
    made = {graph.input.name: inputs.quantize(signed, given.bits - signed, 0)}
    for node in graph.nodes:
        made[node.output.name] = _apply(graph, node, made[node.inputs[0]], FixedVariableArray)
    return inputs, made[graph.output.name]


def _apply(graph: Graph, node: Node, x: Any, array: Any) -> Any:
    op = node.op
    if isinstance(op, Dense):
        return x @ op.weight.T.astype(float) + op.bias.astype(float)
    if isinstance(op, Conv):
        return _convolved(op, x, array)
    if isinstance(op, Flatten):
        return x.flatten()
    if isinstance(op, MaxPool):
        return _pooled(op, x, array)
    assert isinstance(op, Requant)
    bounds, channels = graph.bounds[node.inputs[0]], x.shape[0]
    out = np.empty(x.shape, dtype=object)
    steps, rules = op.steps(channels, bounds), op.rules(channels)
    signed = int(op.low < 0)
    bits = max(int(op.high).bit_length(), int(-op.low - 1).bit_length() if signed else 0)
    for channel, (step, rule) in enumerate(zip(steps, rules, strict=True)):
        form = exact_form(rule) or fit(step, rule.scale)
        if form is None or not form.proven(step):
            raise SystemExit(f"{node.name}: no form of it can be written")
        for place in product(*(range(n) for n in x.shape[1:])):
            value = x._vars[(channel, *place)] * form.multiplier + form.offset
            if form.rounding is Rounding.HALF_EVEN and form.shift:
                value = _half_even(value, form.shift)
            value = (value * 2.0**-form.shift).quantize(signed, bits, 0, "SAT", "TRN")
            out[(channel, *place)] = value.max_of(op.low).min_of(op.high)
    return array(out)


def _half_even(value: Any, shift: int) -> Any:
    """What is floored afterwards: da4ml has no such rounding, so the bit that makes a result odd is
    added below it, with all but one half."""
    odd = (value * 2.0**-shift).quantize(0, 1, 0, "WRAP", "TRN")
    return value + odd + float(2 ** (shift - 1) - 1)


def _convolved(op: Conv, x: Any, array: Any) -> Any:
    if op.groups != 1:
        raise SystemExit("grouped convolutions are not traced")
    hardware = x._vars.reshape(-1)[0].hwconf
    padding = type(x._vars.reshape(-1)[0]).from_const(op.pad_value, hardware)
    top, left, bottom, right = op.pads
    pads = ((0, 0), (top, bottom), (left, right))
    padded = np.pad(x._vars, pads, constant_values=padding)
    numbers = np.arange(padded.size).reshape(padded.shape)
    places = windows_of(numbers[None], op.weight.shape[2:], op.stride, op.dilation)[0]
    weight = op.weight.reshape(len(op.weight), -1).T.astype(float)
    flat = padded.reshape(-1)
    rows = np.moveaxis(places, 0, 2).reshape(*places.shape[1:3], -1)
    out = array(flat[rows.reshape(-1, rows.shape[-1])]) @ weight + op.bias.astype(float)
    return out.reshape(*rows.shape[:2], len(op.weight)).transpose((2, 0, 1))


def _pooled(op: MaxPool, x: Any, array: Any) -> Any:
    if any(op.pads):
        raise SystemExit("padded pools are not traced")
    numbers = np.arange(x.size).reshape(x.shape)
    places = windows_of(numbers[None], op.window, op.stride, (1, 1))[0]
    flat, out = x._vars.reshape(-1), np.empty(places.shape[:3], dtype=object)
    for index in np.ndindex(*out.shape):
        first, *others = flat[places[index].reshape(-1)]
        for other in others:
            first = first.max_of(other)
        out[index] = first
    return array(out)


def main(graph_file: str, vectors_file: str, folder: str, cutoff: str) -> int:
    from da4ml.codegen import VerilogModel
    from da4ml.trace import comb_trace

    graph = Graph.from_json(Path(graph_file).read_text())
    vectors = np.load(vectors_file)["x"]
    sys.setrecursionlimit(100_000)
    logic = comb_trace(*traced(graph))
    expected = Interpreter(graph).run(vectors).reshape(len(vectors), -1)
    flat = vectors.reshape(len(vectors), -1).astype(float)
    found = np.stack([np.asarray(logic(row), dtype=float) for row in flat])
    if not np.array_equal(found, expected):
        raise SystemExit("da4ml's trace is not the reference")
    VerilogModel(logic, "plain", folder, latency_cutoff=float(cutoff)).write()
    print(json.dumps({"adders": sum(op.opcode in (0, 1) for op in logic.ops)}))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
