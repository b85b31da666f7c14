"""Clips, float functions of few codes, and what is left to the host at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from math import ceil, floor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.errors import UsageError
from flow.importer.lowering import Handler, Lowering
from flow.importer.meaning import HostFunction
from flow.importer.quantizers import codes_at_end
from flow.importer.reading import number, whole
from flow.importer.tensors import Act, Quantized, Reject, Tabulated, Tensor
from flow.onnx_file import RawNode

Reals = NDArray[np.float64]
_OPEN = 1e30


def relu(lowering: Lowering, node: RawNode) -> Tensor:
    return _clip(lowering, node, lowering.need(node, 0), Fraction(0), None)


def clip(lowering: Lowering, node: RawNode) -> Tensor:
    """Clip with constant bounds: ReLU6, HardTanh, or the narrowing between Q and DQ."""
    bounds = []
    for index, name in ((1, "min"), (2, "max")):
        bound = node.attributes.get(name)
        if lowering.tensor(node, index) is not None:
            array = lowering.constant(node, index, name)
            if array.size != 1:
                raise UsageError(f"its {name} must be one number, not {array.shape}")
            bound = float(array.reshape(-1)[0])
        if bound is not None and not isinstance(bound, int | float):
            raise UsageError(f"its {name} must be a number, not {bound!r}")
        bounds.append(None if bound is None else float(bound))
    # Exporters write float32's ends for a side that is open.
    low = None if bounds[0] is None or bounds[0] < -_OPEN else Fraction(bounds[0])
    high = None if bounds[1] is None or bounds[1] > _OPEN else Fraction(bounds[1])
    if low is not None and high is not None and low > high:
        raise UsageError(f"it clips to {float(low)}..{float(high)}, which is empty")
    source = lowering.need(node, 0)
    if isinstance(source, Quantized):
        clipped = replace(
            source,
            low=source.low if low is None else max(source.low, ceil(low)),
            high=source.high if high is None else min(source.high, floor(high)),
        )
        if clipped.low > clipped.high:
            raise Reject("it leaves none of its quantizer's codes", "clip inside their range")
        return codes_at_end(lowering, node, clipped)
    return _clip(lowering, node, source, low, high)


def _clip(
    lowering: Lowering, node: RawNode, source: Tensor, low: Fraction | None, high: Fraction | None
) -> Tensor:
    bottom = -np.inf if low is None else float(low)
    top = np.inf if high is None else float(high)
    if isinstance(source, np.ndarray):  # Brevitas' QCDQ narrows stored weights so
        return np.clip(source.astype(np.float64), bottom, top).astype(source.dtype)
    if isinstance(source, Tabulated):
        return Tabulated(source.value, source.first, np.clip(source.reals, bottom, top), None)
    act = lowering.activation(node)
    # clip(clip(x, p, q), low, high): each new bound is itself clipped by the old ones.
    lows = [b for b in (act.low, low) if b is not None]
    highs = [b for b in (act.high, high) if b is not None]
    bottom_, top_ = max(lows, default=None), min(highs, default=None)
    if bottom_ is not None and top_ is not None and bottom_ > top_:
        raise Reject("two clips leave one value", "remove one of them")
    return replace(act, low=bottom_, high=top_)


def _sigmoid(x: Reals) -> Reals:
    result: Reals = 1 / (1 + np.exp(-x))
    return result


def _erf(x: Reals) -> Reals:
    from math import erf

    return np.array([erf(v) for v in x])


_UNARY: dict[str, Callable[[Reals], Any]] = {
    "Sigmoid": _sigmoid,
    "Tanh": np.tanh,
    "Exp": np.exp,
    "Log": np.log,
    "Sqrt": np.sqrt,
    "Reciprocal": lambda x: 1 / x,
    "Abs": np.abs,
    "Neg": np.negative,
    "Erf": _erf,
    "Softplus": lambda x: np.logaddexp(0, x),
    "Softsign": lambda x: x / (1 + np.abs(x)),
    "HardSwish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "Sin": np.sin,
    "Cos": np.cos,
    "Floor": np.floor,
    "Ceil": np.ceil,
    "Round": np.round,
}
_WITH_ALPHA: dict[str, tuple[Callable[[Reals, float], Any], float]] = {
    "Elu": (lambda x, alpha: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))), 1.0),
    "LeakyRelu": (lambda x, alpha: np.where(x > 0, x, alpha * x), 0.01),
    "Celu": (lambda x, alpha: np.maximum(x, 0) + np.minimum(0, alpha * np.expm1(x / alpha)), 1.0),
}
_HOST = {"Sigmoid": HostFunction.SIGMOID, "Tanh": HostFunction.TANH}


def hard_sigmoid(lowering: Lowering, node: RawNode) -> Tensor:
    alpha, beta = (
        float(np.float32(number(node, name, default)))
        for name, default in (("alpha", 0.2), ("beta", 0.5))
    )
    return _function(lowering, node, lambda x: np.clip(alpha * x + beta, 0, 1))


def unary(name: str) -> Handler:
    """The handler of a float function of one value."""

    def handle(lowering: Lowering, node: RawNode) -> Tensor:
        if name in _WITH_ALPHA:
            function, default = _WITH_ALPHA[name]
            alpha = float(np.float32(number(node, "alpha", default)))
            return _function(lowering, node, lambda x: function(x, alpha))
        return _function(lowering, node, _UNARY[name])

    return handle


UNARY = (*_UNARY, *_WITH_ALPHA)


def _function(lowering: Lowering, node: RawNode, function: Callable[[Reals], Any]) -> Tensor:
    source = lowering.need(node, 0)
    if isinstance(source, np.ndarray):
        with np.errstate(all="ignore"):
            result = np.asarray(function(source.astype(np.float64)))
        if not np.isfinite(result).all():
            raise UsageError("its constant gives NaN or infinity")
        return result
    table = lowering.tabulate(node, source)
    host = None
    if node.op in _HOST and node.outputs[0] == lowering.file.outputs[0] and table.host:
        host = replace(table.host, functions=(*table.host.functions, _HOST[node.op]))
    if not table.reals.size and host is None:
        raise Reject(
            "a float function of too many codes", "quantize the function's input to at most 16 bits"
        )
    with np.errstate(all="ignore"):
        result = np.asarray(function(table.reals), dtype=np.float64)
    if not np.isfinite(result).all():
        raise UsageError("it gives NaN or infinity for a code that can be reached")
    return Tabulated(table.value, table.first, result, host)


def softmax(lowering: Lowering, node: RawNode) -> Tensor:
    function = HostFunction.SOFTMAX if node.op == "Softmax" else HostFunction.LOG_SOFTMAX
    return _at_the_end(lowering, node, function)


def argmax(lowering: Lowering, node: RawNode) -> Tensor:
    if whole(node, "select_last_index", 0):
        raise Reject("it takes the last of equal entries", "use the first (the default)")
    return _at_the_end(lowering, node, HostFunction.ARGMAX)


def top_k(lowering: Lowering, node: RawNode) -> Tensor:
    """TopK with k = 1: only its indices, an argmax, are left to the host."""
    k = lowering.constant(node, 1, "k").reshape(-1)
    if k.size != 1 or int(k[0]) != 1 or not whole(node, "largest", 1):
        raise Reject("it takes more than the largest entry", "use k=1")
    if lowering.file.outputs[0] != node.outputs[-1]:
        raise Reject("its values are used", "use its indices, as the network's output")
    return _at_the_end(lowering, node, HostFunction.ARGMAX)


def _at_the_end(lowering: Lowering, node: RawNode, function: HostFunction) -> Act:
    source = lowering.need(node, 0)
    last = lowering.file.outputs[0] in node.outputs
    act = source if isinstance(source, Act) else lowering.activation(node)
    if not last and function is not HostFunction.SOFTMAX:
        raise Reject(f"a {function.value} inside the network", "leave it to the end")
    rank = len(lowering.values[act.value].shape) + 1
    axis = whole(node, "axis", -1 if function is not HostFunction.ARGMAX else 0)
    if rank != 2 or axis % rank != 1:
        raise Reject(
            f"a {function.value} over axis {axis} of {rank} dimensions", "use it over the classes"
        )
    return replace(act, functions=(*act.functions, function))
