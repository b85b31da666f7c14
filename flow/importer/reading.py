"""Reading a node's attributes and making its name."""

from __future__ import annotations

import re
from typing import Any

from numpy.typing import NDArray

from flow.errors import UsageError
from flow.importer.tensors import Reject
from flow.onnx_file import RawNode
from flow.requant import Rounding

_WRAPPERS = ("", "act_quant", "export_handler")  # path parts that say nothing about the layer


def rounding_of(node: RawNode) -> Rounding:
    mode = str(node.attributes.get("rounding_mode", "ROUND")).upper()
    aliases = {"ROUND_TO_ZERO": "DOWN", "HALF_EVEN": "ROUND"}
    try:
        return Rounding(aliases.get(mode, mode))
    except ValueError:
        valid = ", ".join(r.value for r in Rounding)
        raise Reject(f"its rounding mode is {mode!r}", f"use one of {valid}") from None


def pair(node: RawNode, name: str, default: tuple[int, int] | None) -> tuple[int, int]:
    value = node.attributes.get(name, default)
    if not isinstance(value, tuple) or len(value) != 2 or not all(_positive(v) for v in value):
        raise UsageError(f"{name} must be two positive whole numbers, not {value!r}")
    return int(value[0]), int(value[1])


def quad(node: RawNode, name: str) -> tuple[int, int, int, int]:
    """Four whole numbers of at least 0, all 0 where the attribute is absent."""
    value = node.attributes.get(name, (0, 0, 0, 0))
    numbers = [v for v in value if isinstance(v, int)] if isinstance(value, tuple) else []
    if len(numbers) != 4 or not all(0 <= v < 1 << 16 for v in numbers):
        raise UsageError(f"{name} must be four whole numbers of at least 0, not {value!r}")
    top, left, bottom, right = numbers
    return top, left, bottom, right


def _positive(value: Any) -> bool:
    return isinstance(value, int) and 0 < value < 1 << 16


def first_bad(scale: NDArray[Any]) -> Any:
    bad = scale[~((scale >= 2.0**-100) & (scale <= 2.0**100))]
    return bad.reshape(-1)[0] if bad.size else "an empty tensor"


def full_name(node: RawNode) -> str:
    return f"{node.domain}.{node.op}" if node.domain else node.op


def layer_name(node: RawNode) -> str:
    """A short C identifier from an ONNX name: `/conv1/act_quant/export_handler/Quant` is conv1."""
    parts = [part for part in re.split(r"[/.]", node.name) if part not in _WRAPPERS]
    if len(parts) > 1 and parts[-1].split("_")[0] == node.op:
        parts = parts[:-1]
    short = re.sub(r"\W+", "_", "_".join(parts), flags=re.ASCII).strip("_").lower()[:48]
    return short if short[:1].isalpha() else f"n{short}"


def unique(name: str, taken: set[str]) -> str:
    chosen, count = name, 1
    while chosen in taken:
        count += 1
        chosen = f"{name}_{count}"
    taken.add(chosen)
    return chosen
