"""What the host does around the compiled network: plain numpy, nothing else needed.

    from host import Host
    host = Host.load("host.json")
    codes = host.quantize(x)        # float inputs (n, ...) to the integer codes the device takes
    y = host.dequantize(outputs)    # the device's integers (n, ...) to real numbers
    e = host.errors(codes, outputs) # of a network that gives its input again: how far it is off

Quantization is in float32 and rounds as the trained model does; the constants are in host.json.
A copy of this file lies in every artifact.
"""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def round_float(x: NDArray[Any], mode: str) -> NDArray[Any]:
    """Floats rounded in their own precision; `mode` is QONNX's rounding_mode."""
    if mode not in _ROUNDINGS:
        raise ValueError(f"unknown rounding mode {mode!r}")
    rounded: NDArray[Any] = _ROUNDINGS[mode](x)
    return rounded


def _half(x: NDArray[Any]) -> Any:
    return x.dtype.type(0.5)


_ROUNDINGS: dict[str, Any] = {
    "ROUND": np.rint,
    "FLOOR": np.floor,
    "CEIL": np.ceil,
    "DOWN": np.trunc,
    "UP": lambda x: np.copysign(np.ceil(np.abs(x)), x),
    "HALF_UP": lambda x: np.copysign(np.floor(np.abs(x) + _half(x)), x),
    "HALF_DOWN": lambda x: np.copysign(np.ceil(np.abs(x) - _half(x)), x),
}


class Host:
    """Quantizes inputs and dequantizes outputs with the constants of one artifact."""

    def __init__(self, constants: dict[str, Any]):
        self.constants = constants

    @classmethod
    def load(cls, path: str | Path) -> Host:
        """The constants from an artifact's host.json."""
        return cls(json.loads(Path(path).read_text()))

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one float input."""
        return tuple(self.constants["input"]["shape"])

    def quantize(self, x: NDArray[Any]) -> NDArray[np.int64]:
        """Float inputs (n, *shape) to the codes that the device takes."""
        part = self.constants["input"]
        real = np.asarray(x, dtype=np.float32)
        if not np.isfinite(real).all():
            raise ValueError("the input holds NaN or infinity")
        for step in part["steps"]:
            real = _prepare(real, step)
        if part["bipolar"]:
            return np.where(real >= 0, 1, -1).astype(np.int64)
        scaled, zero = real / np.float32(part["scale"]), np.float32(part["zero_point"])
        if not np.isfinite(scaled).all():
            raise ValueError("the input is too large for float32")
        if part["zero_inside"]:
            codes = round_float(scaled + zero, part["rounding"])
        else:
            codes = round_float(scaled, part["rounding"]) + zero
        return np.clip(codes, part["low"], part["high"]).astype(np.int64)

    def dequantize(self, outputs: NDArray[Any]) -> NDArray[np.float64]:
        """The device's integers (n, *shape) to float64, host functions at the end included."""
        part = self.constants["output"]
        real = self.scores(outputs)
        for name in part["functions"]:
            real = _FUNCTIONS[name](real)
        return real

    @property
    def reconstructs(self) -> bool:
        """Whether the network's outputs are its inputs again."""
        return bool(self.constants.get("reconstructs", False))

    def errors(self, codes: NDArray[Any], outputs: NDArray[Any]) -> NDArray[np.float64]:
        """Mean squared difference (n,) of what the outputs and the input codes (n, *shape) stand
        for: of a recording its mean over all n is the score by which anomalies are told.

        Raises:
            ValueError: the network's outputs are not its inputs again.
        """
        return self.differences(codes, self.scores(outputs))

    def differences(self, codes: NDArray[Any], real: NDArray[np.float64]) -> NDArray[np.float64]:
        """Like `errors`, of real outputs."""
        if not self.reconstructs:
            raise ValueError("this network's outputs are not its inputs again")
        part = self.constants["input"]
        given = (np.asarray(codes) - part["zero_point"]) * float(part["scale"])
        squares = (real.reshape(len(real), -1) - given.reshape(len(given), -1)) ** 2
        found: NDArray[np.float64] = squares.mean(axis=1)
        return found

    def scores(self, outputs: NDArray[Any]) -> NDArray[np.float64]:
        """Like `dequantize`, before the host functions: what an argmax is taken of."""
        part = self.constants["output"]
        outputs = np.asarray(outputs)
        per_channel = (-1,) + (1,) * (outputs.ndim - 2)
        scale = np.array([float(Fraction(s)) for s in part["scale"]]).reshape(per_channel)
        offset = np.array([float(Fraction(s)) for s in part["offset"]]).reshape(per_channel)
        real: NDArray[np.float64] = outputs * scale + offset
        if part["low"] is not None:
            real = np.maximum(real, float(Fraction(part["low"])))
        if part["high"] is not None:
            real = np.minimum(real, float(Fraction(part["high"])))
        return real


def _prepare(real: NDArray[np.float32], step: dict[str, Any]) -> NDArray[np.float32]:
    """One float32 operation of the file, before its first quantizer."""
    kind, values = step["kind"], step["values"]
    if kind == "reshape":
        return real.reshape(len(real), *(int(v) for v in values))
    if kind == "transpose":
        return real.transpose([int(v) for v in values])
    constant = np.array(values, dtype=np.float32).reshape(step["shape"])
    made: NDArray[np.float32] = _ARITHMETIC[kind](real, constant).astype(np.float32)
    return made


def _softmax(real: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(real - real.max(axis=1, keepdims=True))
    normal: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return normal


_ARITHMETIC: dict[str, Any] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
}
_FUNCTIONS: dict[str, Any] = {
    "softmax": _softmax,
    "log_softmax": lambda real: np.log(_softmax(real)),
    "sigmoid": lambda real: 1 / (1 + np.exp(-real)),
    "tanh": np.tanh,
    "argmax": lambda real: real.argmax(axis=1, keepdims=True),
}
