"""The C++ snippet of one artifact: templates/network.cpp with its numbers."""

from __future__ import annotations

import re
from importlib.resources import files
from math import prod
from typing import Any

import numpy as np

from flow.host import make_host
from flow.target import Program
from targets.tflite.model import DType
from targets.tflite.state import Lowered

_ROUNDED = {
    "ROUND": "std::nearbyint({})",  # to even, in the default rounding mode
    "FLOOR": "std::floor({})",
    "CEIL": "std::ceil({})",
    "DOWN": "std::trunc({})",
    "HALF_UP": "std::round({})",
}


def cpp(program: Program, lowered: Lowered) -> str | None:
    """The snippet's text; None where the input's quantizer is none that it has (bipolar inputs,
    rare rounding modes) or the output is no vector."""
    constants = make_host(program.head, program.tail).constants
    given, made = constants["input"], constants["output"]
    first, last = lowered.ends
    if given["bipolar"] or given["rounding"] not in _ROUNDED or len(last.layout.shape) > 1:
        return None
    zero = f"{given['zero_point']}.0f"
    inside = f"scaled + {zero}" if given["zero_inside"] else "scaled"
    rounded = _ROUNDED[given["rounding"]].format(inside)
    size = prod(last.layout.shape)
    numbers = {
        "MODEL": program.graph.name,
        "IN_SIZE": str(prod(first.layout.shape)),
        "IN_TYPE": _type(first.tensor.dtype),
        "IN_SCALE": _float32(given["scale"]),
        "IN_ZERO": f"({first.zero})",
        "IN_LOW": f"{given['low']}.0",
        "IN_HIGH": f"{given['high']}.0",
        "ROUNDED": rounded if given["zero_inside"] else f"{rounded} + {zero}",
        "OUT_SIZE": str(size),
        "OUT_TYPE": _type(last.tensor.dtype),
        "OUT_ZERO": str(last.zero),
        "OUT_SCALES": _doubles(program.tail.scale, size),
        "OUT_OFFSETS": _doubles(program.tail.offset, size),
    }
    text = (files("targets.tflite") / "templates" / "network.cpp").read_text()
    pattern = "|".join(sorted(numbers, key=len, reverse=True))
    assert made is not None
    return re.sub(rf"\b({pattern})(?=f?\b)", lambda match: numbers[match[1]], text)


def _type(held: DType) -> str:
    return f"std::int{held.bits}_t"


def _float32(value: Any) -> str:
    return f"{float(np.float32(value)).hex()}f"


def _doubles(values: Any, size: int) -> str:
    every = list(values) * size if len(values) == 1 else list(values)
    return ", ".join(float(value).hex() for value in every)
