"""Reading a node's attributes and making its name."""

from __future__ import annotations

import re
from math import isfinite
from typing import Any

from numpy.typing import NDArray

from flow.errors import UsageError
from flow.importer.tensors import Reject
from flow.onnx_file import RawNode
from flow.qtype import QType
from flow.requant import Rounding

# Parts of exporters' paths that say nothing about the layer.
_WRAPPERS = ("", "act_quant", "export_handler", "activation_impl")
LEAST_SCALE = 2.0**-100  # and its inverse the greatest: beyond them float32 loses digits
_MAX_EXTENT = 1 << 16


def rounding_of(node: RawNode, default: str = "ROUND") -> Rounding:
    """The node's rounding_mode. Raises Reject for an unknown one."""
    mode = str(node.attributes.get("rounding_mode", default)).upper()
    aliases = {"ROUND_TO_ZERO": "DOWN", "HALF_EVEN": "ROUND"}
    try:
        return Rounding(aliases.get(mode, mode))
    except ValueError:
        valid = ", ".join(r.value for r in Rounding)
        raise Reject(f"its rounding mode is {mode!r}", f"use one of {valid}") from None


def whole(node: RawNode, name: str, default: int) -> int:
    """One whole number. Raises UsageError."""
    value = node.attributes.get(name, default)
    if not isinstance(value, int):
        raise UsageError(f"{name} must be a whole number, not {value!r}")
    return value


def number(node: RawNode, name: str, default: float) -> float:
    """One finite number. Raises UsageError."""
    value = node.attributes.get(name, default)
    if not isinstance(value, int | float) or not isfinite(value) or abs(value) > 1e38:
        raise UsageError(f"{name} must be a number, not {value!r}")
    return float(value)


def wholes(
    node: RawNode, name: str, default: tuple[int, ...] | None, least: int = 1
) -> tuple[int, ...]:
    """Whole numbers from `least` to 65,535; `default` where the attribute is absent (None: it must
    be there). Raises UsageError."""
    value = node.attributes.get(name, default)
    numbers = tuple(v for v in value if isinstance(v, int)) if isinstance(value, tuple) else ()
    if not isinstance(value, tuple) or len(numbers) != len(value) or not value:
        raise UsageError(f"{name} must be whole numbers, not {value!r}")
    if not all(least <= v < _MAX_EXTENT for v in numbers):
        raise UsageError(f"{name} must be from {least} to {_MAX_EXTENT - 1}, not {value!r}")
    return numbers


def window_of(
    node: RawNode, extents: tuple[int, ...], kernel: tuple[int, ...], dilation: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(strides, pads) of a convolution or pool over `extents`, `auto_pad` resolved; pads are all
    befores, then all afters. Raises UsageError, Reject."""
    rank = len(extents)
    strides = wholes(node, "strides", (1,) * rank)
    pads = wholes(node, "pads", (0,) * (2 * rank), least=0)
    auto = str(node.attributes.get("auto_pad", "NOTSET"))
    if len(strides) != rank or len(pads) != 2 * rank:
        raise UsageError(f"strides {strides} and pads {pads} do not fit {rank} axes")
    if auto in ("NOTSET", ""):
        return strides, pads
    if auto == "VALID":
        return strides, (0,) * (2 * rank)
    if auto not in ("SAME_UPPER", "SAME_LOWER"):
        raise UsageError(f"auto_pad must be a mode that ONNX knows, not {auto!r}")
    before, after = [], []
    for extent, size, stride, step in zip(extents, kernel, strides, dilation, strict=True):
        span = (size - 1) * step + 1
        total = max((-(-extent // stride) - 1) * stride + span - extent, 0)
        small, large = total // 2, total - total // 2
        before.append(small if auto == "SAME_UPPER" else large)
        after.append(large if auto == "SAME_UPPER" else small)
    return strides, (*before, *after)


def first_bad(scale: NDArray[Any]) -> Any:
    """The first entry that is not a positive finite number."""
    bad = scale[~((scale >= LEAST_SCALE) & (scale <= 1 / LEAST_SCALE))]
    return bad.reshape(-1)[0] if bad.size else "an empty tensor"


def integer_type(name: str) -> QType | None:
    """The type of numpy's or ONNX's name (`uint8`, `int4`), None for any other."""
    found = re.fullmatch(r"(u?)int(4|8|16|32)", name)
    return QType(int(found[2]), not found[1]) if found else None


def full_name(node: RawNode) -> str:
    """The operation with its domain."""
    return f"{node.domain}.{node.op}" if node.domain else node.op


def layer_name(node: RawNode) -> str:
    """A short C identifier from an ONNX name: `/conv1/act_quant/export_handler/Quant` is conv1."""
    parts = [part for part in re.split(r"[/.]", node.name) if part not in _WRAPPERS]
    if len(parts) > 1 and parts[-1].split("_")[0] == node.op:
        parts = parts[:-1]
    short = re.sub(r"\W+", "_", "_".join(parts), flags=re.ASCII).strip("_").lower()[:48]
    return short if short[:1].isalpha() else f"n{short}"


def unique(name: str, taken: set[str]) -> str:
    """The name, with a number behind it where it is taken; it is taken from now on."""
    chosen, count = name, 1
    while chosen in taken:
        count += 1
        chosen = f"{name}_{count}"
    taken.add(chosen)
    return chosen
