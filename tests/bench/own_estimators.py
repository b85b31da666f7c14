"""How far estimates of LUTs and flip-flops are from what Yosys made of drawn kernels whose shapes
they were not fitted on, and of whole networks; next to simpler ways in the same run. A part of
`make bench SUITE=estimators`, with the labels of `make labels` in flow/surrogate/labels.csv. Writes
reports/baseline/estimators_own.csv.

Splits of kernels: `shape` holds out whole shapes, the main number, and whole networks with them,
which `networks` tells of; `precision` holds out bits of weights, or of inputs where there are none;
`size` the largest quarter; `random` any rows, which flatters. `kernels to networks` tells networks
from kernels alone. Counts of DSPs and block RAMs
are a formula's, and the share that is exact is told.
"""

from __future__ import annotations

import csv
import hashlib
import math
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flow.binomial import exact_share
from flow.labels import read_labels
from flow.outline import WEIGHTED as WEIGHTED_ROLES
from flow.outline import outline
from flow.surrogate.estimator import Estimator
from flow.surrogate.evaluate import require_apart, score
from flow.surrogate.fit import Rows, fit, fit_values, fitted_formula, folds, forest, linear
from flow.surrogate.kernels import Kernel, Kind
from flow.surrogate.store import Fitted
from flow.surrogate.trees import Floats
from flow.surrogate.unrolled import (
    FEATURES,
    SIZES,
    TABLE,
    Label,
    Labelled,
    block_rams,
    dsps,
    features,
    labelled,
    terms,
)
from flow.tools import processors

ROOT = Path(__file__).parents[2]
LABELS = ROOT / TABLE
OUT = ROOT / "reports" / "baseline" / "estimators_own.csv"
EXACT = ("dsp", "bram_18k", "ram")
COUNTS = (*(label.value for label in Label), *EXACT)
LEAST = 60  # designs to fit on, below which nothing is told
OUTER = 6
PLAIN = "precision", "random"  # splits of which no intervals are told
LAYERS = (Kind.DENSE, Kind.CONV, Kind.DEPTHWISE)
QUARTER = 0.75
Mask = NDArray[np.bool_]
Told = tuple[Floats, Floats | None, Floats | None]
Method = Callable[["Case", Mask, Mask], Told]  # designs, rows to fit on, rows to tell


@dataclass(frozen=True, eq=False)
class Case:
    """A label of a family's designs."""

    designs: Labelled
    label: Label

    @property
    def values(self) -> Floats:
        return self.designs.counts[self.label.value]

    @cached_property
    def raw(self) -> Floats:
        """(n, fields): what a kernel is drawn by."""
        rows = [{**vars(kernel), "number": 0} for kernel in self.designs.kernels]
        order = list(Kind)
        return np.array(
            [
                [float(order.index(v) if isinstance(v, Kind) else v) for v in r.values()]
                for r in rows
            ]
        )

    @cached_property
    def rows(self) -> Rows:
        structures = self.designs.structures
        group = numbered([repr(shape) for shape in self.designs.shapes()])
        made = features(structures), terms(structures, self.label)
        return Rows(*made, self.values, group, SIZES, (0,) * len(FEATURES))

    @cached_property
    def _fits(self) -> dict[bytes, Estimator]:
        return {}

    def fitted(self, known: Mask) -> Estimator:
        """With intervals, on those rows; once, as several splits may hold out the same."""
        key = known.tobytes()
        if key not in self._fits:
            self._fits[key] = fit(self.rows.take(known))
        return self._fits[key]


def numbered(names: list[str]) -> NDArray[np.int64]:
    order = {name: number for number, name in enumerate(sorted(set(names)))}
    return np.array([order[name] for name in names], dtype=np.int64)


def ours(case: Case, known: Mask, told: Mask) -> Told:
    made = case.fitted(known).estimate(case.rows.features[told], case.rows.terms[told])
    return made.value, made.low, made.high


def values_only(case: Case, known: Mask, told: Mask) -> Told:
    """The same without intervals, which take most of the time."""
    rows = case.rows
    made = fit_values(rows.take(known)).estimate(rows.features[told], rows.terms[told])
    return made.value, None, None


def formula_only(case: Case, known: Mask, told: Mask) -> Told:
    rows = case.rows
    return rows.terms[told] @ fitted_formula(rows.terms[known], rows.label[known]), None, None


def raw_trees(case: Case, known: Mask, told: Mask) -> Told:
    """The same trees on what the kernel is drawn by, without any formula."""
    raw = case.raw
    made = forest(raw[known], np.log1p(case.values[known]), (0,) * raw.shape[1])
    return np.expm1(made.predict(raw[told])), None, None


def ridge(case: Case, known: Mask, told: Mask) -> Told:
    """Linear in the logarithms of what the kernel is drawn by."""
    raw = np.log2(1 + case.raw)
    centre, unit = raw[known].mean(axis=0), raw[known].std(axis=0)
    scaled = (raw - centre) / np.where(unit > 0, unit, 1)
    slope = linear(scaled[known], np.log1p(case.values[known]))
    return np.expm1(slope[0] + scaled[told] @ slope[1:]), None, None


def mean(case: Case, known: Mask, told: Mask) -> Told:
    return np.full(int(told.sum()), case.values[known].mean()), None, None


def finn(case: Case, known: Mask, told: Mask) -> Told:
    """FINN's estimate of its matrix-vector unit (HLS), with a multiplier for each product of every
    position, and constants instead of memories. Nothing is fitted.

    Source: Xilinx/finn @39f0c9a, matrixvectoractivation_hls.py, lut_estimation.
    """
    return np.array([_finn(case.designs.kernels[at]) for at in np.flatnonzero(told)]), None, None


def _finn(kernel: Kernel) -> float:
    (step,) = (step for step in outline(kernel.graph()).steps if step.role in WEIGHTED_ROLES)
    width = kernel.given_bits + kernel.weight_bits
    products = step.taken * (2 * -(-width // 6) - 1) * width
    sums = width * (2 * step.taken - 1) + width + math.ceil(math.log2(step.taken))
    return step.positions * (300 + 1.1 * step.channels * (products + sums))


METHODS: dict[str, Method] = {
    "formula and residual": ours,
    "formula only": formula_only,
    "trees on raw features": raw_trees,
    "ridge": ridge,
    "mean": mean,
}


def bits_of(kernel: Kernel) -> int:
    return kernel.weight_bits or 100 + kernel.given_bits


def splits(designs: Labelled) -> Iterator[tuple[str, list[tuple[Mask, Mask]]]]:
    """Names of splits, and of each fold the rows to fit on and to tell."""
    network = designs.networks()
    kernel = ~network
    group = numbered([repr(shape) for shape in designs.shapes()])
    bits = numbered([f"{bits_of(each):04}" for each in designs.kernels])
    size = np.array([each.work() for each in designs.kernels])
    key = numbered([repr(key) for key in designs.keys()])

    def of_kernels(by: NDArray[np.int64]) -> list[tuple[Mask, Mask]]:
        return [(kernel & ~held, kernel & held) for held in folds(by, OUTER)]

    shape = list(folds(group, OUTER))
    yield "shape", [(~held, kernel & held) for held in shape]
    yield "precision", of_kernels(bits)
    large = size > np.quantile(size[kernel], QUARTER) if kernel.any() else kernel
    yield "size", [(kernel & ~large, kernel & large)]
    yield "random", of_kernels(key)
    yield "kernels to networks", [(kernel, network)]
    yield "networks", [(~held, network & held) for held in shape]


def scored(case: Case, method: Method, split: list[tuple[Mask, Mask]]) -> list[str]:
    """Cells of the table, over all folds together."""
    label, value, low, high, least = [], [], [], [], 10**9
    for known, told in split:
        if not told.any():
            continue
        both = known | told
        keys = [key for key, taken in zip(case.designs.keys(), both, strict=True) if taken]
        require_apart(keys, told[both])
        least = min(least, int(known.sum()))
        if least < LEAST:
            break
        found = method(case, known, told)
        label.append(case.values[told])
        value.append(found[0])
        if found[1] is not None and found[2] is not None:
            low.append(found[1])
            high.append(found[2])
    count = sum(int(told.sum()) for _, told in split)
    if not label or least < LEAST:
        return [str(count), "" if least == 10**9 else str(least), *[""] * 10]
    ends = (np.concatenate(low), np.concatenate(high)) if low else (None, None)
    got = score(np.concatenate(label), np.concatenate(value), *ends)
    within = got.covered_within
    numbers = [
        *((got.r2, 4), (got.smape, 2), (got.median, 2), (got.p90, 2), (got.tau, 3)),
        *((got.false_feasible, 2), (got.covered, 1), (within and within.low, 1)),
        *((within and within.high, 1), (got.width, 1)),
    ]
    return [str(got.designs), str(least), *(_shown(value, digits) for value, digits in numbers)]


def _shown(value: float | None, digits: int) -> str:
    return "" if value is None or not np.isfinite(value) else f"{value:.{digits}f}"


def compared(case: Case) -> Iterator[tuple[str, str, list[str]]]:
    """(split, way, cells) of all splits and ways."""
    weighted = np.array([kernel.kind in LAYERS for kernel in case.designs.kernels])
    for split, parts in splits(case.designs):
        for name, method in METHODS.items():
            plain = method is ours and split in PLAIN
            yield split, name, scored(case, values_only if plain else method, parts)
        if case.label is Label.LUT and case.designs.family == "xc7" and "networks" not in split:
            layers = [(known, told & weighted) for known, told in parts]
            yield split, "FINN's formula, of layers with weights", scored(case, finn, layers)


HEAD = (
    *("family", "label", "split", "method", "designs", "fitted_on", "r2", "smape_pct"),
    *("median_pct", "p90_pct", "kendall_tau", "false_feasible_pct", "covered_pct", "covered_low"),
    *("covered_high", "width_pct"),
)


def exact(designs: Labelled, label: str) -> list[str]:
    """The share of designs of which the formula tells the count, with its 95 % interval, among
    those of which either says that there are any, too, in `split`."""
    formula = dsps if label == "dsp" else block_rams
    counts = designs.counts[label]
    told = np.array([formula(each, designs.family) for each in designs.structures])
    right = told == counts
    some = (told > 0) | (counts > 0)
    share = exact_share(int(right.sum()), len(right))
    split = (
        f"exact in {int(right.sum())}; of {int(some.sum())} with any in {int(right[some].sum())}"
    )
    cells = f"{100 * right.mean():.1f}", f"{100 * share.low:.1f}", f"{100 * share.high:.1f}"
    return [designs.family, label, split, "formula", str(len(right)), "0", *[""] * 6, *cells, ""]


def same(first: Labelled, second: Labelled) -> list[str]:
    """Of how many kernels that two families have counts of all are the same."""
    numbers = {kernel.number: place for place, kernel in enumerate(first.kernels)}
    pairs = [(numbers[k.number], p) for p, k in enumerate(second.kernels) if k.number in numbers]
    equal = sum(
        all(first.counts[name][one] == second.counts[name][other] for name in COUNTS)
        for one, other in pairs
    )
    split = f"counted like {first.family} in {equal}"
    return [second.family, "all", split, "same counts", str(len(pairs)), *[""] * 11]


def _rows(case: Case) -> list[list[str]]:
    names = case.designs.family, case.label.value
    return [[*names, split, way, *cells] for split, way, cells in compared(case)]


def main() -> dict[str, Fitted]:
    """Write the table, and give what is fitted on all labels."""
    families = labelled(read_labels(LABELS), COUNTS)
    if not families:
        print(f"{TABLE} holds no labels: `make labels` makes them", file=sys.stderr)
        return {}
    rows: list[list[str]] = []
    cases: list[Case] = []
    for designs in families.values():
        rows += [exact(designs, label) for label in EXACT]
        if designs.family == "xcup" and "xc7" in families:
            rows.append(same(families["xc7"], designs))
            continue
        for label in Label:
            cases.append(Case(designs, label))
    with ProcessPoolExecutor(processors()) as pool:
        for found in pool.map(_rows, cases):
            rows += found
            print(*(", ".join(row) for row in found), sep="\n", file=sys.stderr)
    with OUT.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([HEAD, *rows])
    return fitted(families)


def fitted(families: dict[str, Labelled]) -> dict[str, Fitted]:
    """An estimator for each family and label, on kernels and networks; none of few designs."""
    cases = {
        f"own/{family}/{label.value}": Case(designs, label)
        for family, designs in families.items()
        if len(designs) >= LEAST and family != "xcup"
        for label in Label
    }
    with ProcessPoolExecutor(processors()) as pool:
        return dict(zip(cases, pool.map(_fitted, cases.values()), strict=True))


def _fitted(case: Case) -> Fitted:
    rows = case.rows
    about = {
        "table": TABLE,
        "origin": "make labels",
        "licence": "this project's",
        "tool": "Yosys",
        "sha256": {TABLE: hashlib.sha256(LABELS.read_bytes()).hexdigest()},
        "family": case.designs.family,
        "label": case.label.value,
        "way": "unrolled whole",
        "features": list(FEATURES),
        "designs": len(rows),
        "networks": int(case.designs.networks().sum()),
        "groups": len(np.unique(rows.group)),
        "fitted_by": f"scikit-learn {metadata.version('scikit-learn')}",
    }
    return Fitted(fit(rows), about)


if __name__ == "__main__":
    main()
