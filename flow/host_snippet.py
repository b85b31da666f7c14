"""What the host does around the compiled network: plain numpy, nothing else needed.

    from host import Host
    host = Host.load("host.json")
    codes = host.quantize(x)        # float inputs (n, ...) to the integer codes the device takes
    y = host.dequantize(outputs)    # the device's integers (n, ...) to real numbers

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

    def quantize(self, x: NDArray[Any]) -> NDArray[np.int64]:
        """Float inputs (n, *shape) to codes of the same shape."""
        part = self.constants["input"]
        scaled = np.asarray(x, dtype=np.float32) / np.float32(part["scale"])
        if not np.isfinite(scaled).all():
            raise ValueError("the input holds NaN or infinity")
        codes = round_float(scaled + np.float32(part["zero_point"]), part["rounding"])
        return np.clip(codes, part["low"], part["high"]).astype(np.int64)

    def dequantize(self, outputs: NDArray[Any]) -> NDArray[np.float64]:
        """The device's integers (n, *shape) to float64, a final softmax included."""
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
        if part["softmax"]:
            shifted = np.exp(real - real.max(axis=1, keepdims=True))
            real = shifted / shifted.sum(axis=1, keepdims=True)
        return real
