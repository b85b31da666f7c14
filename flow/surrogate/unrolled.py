"""LUTs and flip-flops of networks that are unrolled whole, as Yosys counts them: what they go with,
where the hardware is laid out, and this project's own labels of it.

A network is the sum of its operations' terms, as a single layer is, so that one estimator tells
both; what layers take from or add to each other is learned with the rest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from flow.errors import UsageError
from flow.surrogate.kernels import Kernel, Kind
from flow.surrogate.trees import Floats

Structure = Mapping[str, float]
TABLE = "flow/surrogate/labels.csv"
DSP_BITS = 9  # of a product, from which on Yosys takes a DSP of AMD's for it (DSP_Y_MINWIDTH)


class Label(Enum):
    LUT = "lut"
    FF = "ff"


# Sums take LUTs by their bits, the rest by its functions, products by bits times bits; registers in
# rows are LUTs of some families.
_LUT_TERMS = (
    *("sum_bits", "paired_bits", "sums", "count_bits", "compared_bits", "negated_bits"),
    *("inverted_bits", "luts4", "inverted4", "leaves4", "choices4", "gated4", "gates4", "luts6"),
    *("leaves6", "choices6", "gated6", "resets", "product_bits", "products", "rows"),
)
# What is counted of a netlist, by its names in the table.
COUNTED = (*_LUT_TERMS, "held", "rowed", "latency")
FEATURES = (
    *("log2 sum bits", "log2 count bits", "log2 LUTs", "log2 tables"),
    *("log2 tables of 6", "log2 gates", "log2 held"),
    *("log2 other bits", "log2 product bits"),
    *("bits a sum", "held a sum bit", "rowed share", "inverted share", "counted share", "latency"),
)
SIZES = 9  # of the features, the first


def terms(designs: Sequence[Structure], label: Label) -> Floats:
    """(n, t): what the label goes with, of factors that are not negative."""
    if label is Label.LUT:
        return np.array([[1.0, *(float(each[name]) for name in _LUT_TERMS)] for each in designs])
    rows = ([1.0, each["held"] - each["rowed"], each["rowed"], each["rows"]] for each in designs)
    return np.array([*rows], dtype=np.float64)


def features(designs: Sequence[Structure]) -> Floats:
    """(n, FEATURES)."""
    return np.array([_feature(each) for each in designs])


def _feature(of: Structure) -> list[float]:
    other = of["compared_bits"] + of["negated_bits"]
    along = of["sum_bits"] + of["count_bits"]
    logic = along + other + of["luts4"] + of["leaves4"] + of["product_bits"]
    return [
        math.log2(1 + of["sum_bits"]),
        math.log2(1 + of["count_bits"]),
        math.log2(1 + of["luts4"]),
        math.log2(1 + of["leaves4"] + of["choices4"] + of["gated4"]),
        math.log2(1 + of["leaves6"] + of["choices6"] + of["gated6"]),
        math.log2(1 + of["gates4"]),
        math.log2(1 + of["held"]),
        math.log2(1 + other),
        math.log2(1 + of["product_bits"]),
        along / max(of["sums"], 1),
        math.log2((1 + of["held"]) / (1 + logic)),
        of["rowed"] / max(of["held"], 1),
        of["inverted_bits"] / max(logic, 1),
        of["count_bits"] / max(along, 1),
        of["latency"],
    ]


def dsps(of: Structure, family: str) -> int:
    """Multipliers that products of two values take, each of at most 18 bits; products with weights
    are sums. iCE40 HX has none."""
    count = int(of["products"])
    if family == "ice40" or not count:
        return 0
    wide = family == "ecp5" or 2 * math.sqrt(of["product_bits"] / count) >= DSP_BITS
    return count if wide else 0


def block_rams(of: Structure, family: str) -> int:
    """None: weights are constants, and tables are gates."""
    return 0


@dataclass(frozen=True, eq=False)
class Labelled:
    """Designs of one family: each with its kernel, its structure, and counts (n,) by label."""

    family: str
    kernels: tuple[Kernel, ...]
    structures: tuple[Structure, ...]
    counts: Mapping[str, Floats]

    def __len__(self) -> int:
        return len(self.kernels)

    def keys(self) -> list[tuple[int | str, ...]]:
        """What tells one configuration from another; of two equal kernels weights differ, and of
        equal networks the layers."""
        found = (
            {**vars(k), "number": k.number * (k.kind is Kind.NETWORK), "kind": k.kind.value}
            for k in self.kernels
        )
        return [tuple(each.values()) for each in found]

    def shapes(self) -> list[tuple[int, ...]]:
        return [kernel.shape for kernel in self.kernels]

    def networks(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Which of them are networks (n,)."""
        return np.array([kernel.kind is Kind.NETWORK for kernel in self.kernels], dtype=bool)


def labelled(rows: Sequence[Mapping[str, str]], counts: Sequence[str]) -> dict[str, Labelled]:
    """The rows of a table of labels by family.

    Raises:
        UsageError: a row is no label.
    """
    by: dict[str, list[tuple[Kernel, Structure, list[float]]]] = {}
    for row in rows:
        try:
            kernel = Kernel.read(row)
            structure = {name: _count(row[name]) for name in COUNTED}
            found = [_counted(row, name) for name in counts]
            by.setdefault(row["family"], []).append((kernel, structure, found))
        except (KeyError, ValueError) as error:
            raise UsageError(f"kernel {row.get('number')} has no label: {error!r}") from error
    return {
        family: Labelled(
            family,
            tuple(kernel for kernel, _, _ in designs),
            tuple(structure for _, structure, _ in designs),
            dict(zip(counts, np.array([found for _, _, found in designs]).T, strict=True)),
        )
        for family, designs in by.items()
    }


def _counted(row: Mapping[str, str], name: str) -> float:
    """As a part has them: an ECP5's carries of two bits are two of its LUTs each."""
    carries = 2 * _count(row["carry"]) if (row["family"], name) == ("ecp5", "lut") else 0.0
    return _count(row[name]) + carries


def _count(text: str) -> float:
    value = int(text)
    if not 0 <= value < 1 << 40:
        raise ValueError(f"a count must be from 0 on, not {text}")
    return float(value)
