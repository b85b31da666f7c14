"""How far estimates are from what tools made of designs whose shapes they were not fitted on, next
to simpler ways in the same run; and the coefficients that ship, fitted anew. Run with `make bench
SUITE=estimators` (some minutes); the tables lie in `surrogate/` of $BITWRIGHT_DATA. Writes
reports/baseline/estimators.csv and flow/surrogate/fitted/, and what `own_estimators` does.

Splits: `shape` holds out whole shapes (inputs x outputs), the main number; `configuration` whole
configurations; `precision` bits of weights; `size` all layers of 192 outputs or more; `random` any
rows, which flatters. Within each, what is held out is neither fitted on nor calibrated with, and
the run stops where a configuration is on both sides.
"""

from __future__ import annotations

import csv
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flow.surrogate.designs import Designs, read_ntorc, read_search, sha256
from flow.surrogate.estimator import Estimates
from flow.surrogate.evaluate import Scores, require_apart, score
from flow.surrogate.fit import Rows, fit, fitted_formula, folds, forest, linear
from flow.surrogate.hls4ml import FEATURES, SIZES, WIDE, Way, features, terms
from flow.surrogate.store import FOLDER, Fitted, save, shipped
from flow.surrogate.trees import Floats
from tests.bench import own_estimators

DATA = Path(os.environ.get("BITWRIGHT_DATA", "../shared/data")) / "surrogate"
ROOT = Path(__file__).parents[2]
OUT = ROOT / "reports" / "baseline" / "estimators.csv"
LABELS = ("lut", "ff", "bram_18k")
OUTER = 8
LARGE = 192  # outputs
Mask = NDArray[np.bool_]
# Rows to fit on, rows to tell: (values, low, high).
Method = Callable[["Case", Mask], tuple[Floats, Floats | None, Floats | None]]


@dataclass(frozen=True, eq=False)
class Case:
    """A label of some designs."""

    designs: tuple[Designs, ...]
    label: str

    @property
    def name(self) -> str:
        return self.designs[0].source.name

    @property
    def values(self) -> Floats:
        return np.concatenate([each.labels[self.label] for each in self.designs])

    @property
    def keys(self) -> list[tuple[int, ...]]:
        """A configuration, and how it is done: an unrolled layer's reuse factor is 1."""
        return [key for each in self.designs for key in each.keys()]

    @property
    def raw(self) -> Floats:
        """(n, 4): inputs, outputs, reuse factor and bits, of no meaning."""
        return np.array(self.keys, dtype=np.float64)

    def groups(self, of: Callable[[tuple[int, ...]], tuple[int, ...]]) -> NDArray[np.int64]:
        return numbered([of(key) for key in self.keys])

    def parts(self, held: Mask) -> Iterator[tuple[Designs, Mask, Mask]]:
        """Each part's designs, which of them are held out, and where these are in the whole."""
        start = 0
        for each in self.designs:
            own = np.zeros(len(held), dtype=bool)
            own[start : start + len(each.made)] = True
            yield each, held[own], own & held
            start += len(each.made)


def numbered(names: Sequence[tuple[int, ...]]) -> NDArray[np.int64]:
    """Equal names get equal numbers."""
    order = {name: number for number, name in enumerate(sorted(set(names)))}
    return np.array([order[name] for name in names], dtype=np.int64)


def rows_of(designs: Designs, label: str) -> Rows:
    """Groups are shapes, or, of N-TORC, where few shapes come in many ways, configurations."""
    by = 2 if designs.source.name == "wa-hls4ml-search" else 3
    group = numbered([key[:by] for key in designs.keys()])
    made = features(designs.made), terms(designs.made, designs.way)
    return Rows(*made, designs.labels[label], group, SIZES, (0,) * len(FEATURES))


def ours(case: Case, held: Mask) -> tuple[Floats, Floats, Floats]:
    """Each way by an estimator of its own."""
    found = [np.zeros(len(held)) for _ in range(3)]
    for designs, out, place in case.parts(held):
        if not out.any():
            continue
        rows = rows_of(designs, case.label)
        made: Estimates = fit(rows.take(~out)).estimate(rows.features[out], rows.terms[out])
        for into, values in zip(found, (made.value, made.low, made.high), strict=True):
            into[place] = values
    value, low, high = found
    return value[held], low[held], high[held]


def formula_only(case: Case, held: Mask) -> tuple[Floats, None, None]:
    found = np.zeros(len(held))
    for designs, out, place in case.parts(held):
        rows = rows_of(designs, case.label)
        found[place] = rows.terms[out] @ fitted_formula(rows.terms[~out], rows.label[~out])
    return found[held], None, None


def mean(case: Case, held: Mask) -> tuple[Floats, None, None]:
    return np.full(int(held.sum()), case.values[~held].mean()), None, None


def ridge(case: Case, held: Mask) -> tuple[Floats, None, None]:
    """Linear in the logarithms of what the user sets."""
    raw = np.log2(case.raw)
    centre, unit = raw[~held].mean(axis=0), raw[~held].std(axis=0)
    scaled = (raw - centre) / np.where(unit > 0, unit, 1)
    slope = linear(scaled[~held], np.log1p(case.values[~held]))
    return np.expm1(slope[0] + scaled[held] @ slope[1:]), None, None


def raw_trees(case: Case, held: Mask) -> tuple[Floats, None, None]:
    """The same trees on what the user sets, without any formula."""
    raw = case.raw
    made = forest(raw[~held], np.log1p(case.values[~held]), (0,) * raw.shape[1])
    return np.expm1(made.predict(raw[held])), None, None


def finn(case: Case, held: Mask) -> tuple[Floats, None, None]:
    """FINN's estimate of its matrix-vector unit (HLS) with as many multipliers, its weights in
    block RAM, activations of 16 bits, and DSPs where hls4ml has them. Nothing is fitted.

    Source: Xilinx/finn @39f0c9a, matrixvectoractivation_hls.py, lut_estimation.
    """
    found = []
    for (inputs, outputs, reuse, bits), out in zip(case.keys, held, strict=True):
        if not out:
            continue
        count = -(-inputs * outputs // reuse)
        simd = math.gcd(count, inputs)
        rows, width = -(-count // simd), bits + WIDE
        products = 0 if bits >= 8 else simd * (2 * -(-width // 6) - 1) * width
        sums = width + math.ceil(math.log2(inputs))
        found.append(300 + 1.1 * rows * (products + width * (2 * simd - 1) + sums))
    return np.array(found), None, None


METHODS: dict[str, Method] = {
    "formula and residual": ours,
    "formula only": formula_only,
    "trees on raw features": raw_trees,
    "ridge": ridge,
    "FINN's formula": finn,
    "mean": mean,
}


def splits(case: Case) -> Iterator[tuple[str, list[Mask]]]:
    """Names of splits and what each of their folds holds out."""
    if case.name == "N-TORC":
        yield "configuration", list(folds(case.groups(lambda key: key), OUTER))
        return
    yield "shape", list(folds(case.groups(lambda key: key[:2]), OUTER))
    yield "precision", list(folds(case.groups(lambda key: key[3:]), OUTER))
    yield "size", [case.raw[:, 1] >= LARGE]
    yield "random", list(folds(case.groups(lambda key: key), OUTER))


def scored(case: Case, method: Method, held: list[Mask]) -> Scores:
    """Over all folds together."""
    label, value, low, high, group = [], [], [], [], []
    shapes = case.groups(lambda key: key[:2])
    for out in held:
        require_apart(case.keys, out)
        told = method(case, out)
        label.append(case.values[out])
        value.append(told[0])
        if told[1] is not None and told[2] is not None:
            low.append(told[1])
            high.append(told[2])
            group.append(shapes[out])
    if not low:
        return score(np.concatenate(label), np.concatenate(value))
    ends = np.concatenate(low), np.concatenate(high), np.concatenate(group)
    return score(np.concatenate(label), np.concatenate(value), *ends)


def cases() -> Iterator[Case]:
    search, ntorc = read_search(DATA), read_ntorc(DATA)
    for label in LABELS:
        yield Case(search, label)
        yield Case((ntorc,), label)


def row(case: Case, split: str, method: str, found: Scores) -> list[str]:
    def shown(value: float | None, digits: int = 1) -> str:
        return "" if value is None or math.isnan(value) else f"{value:.{digits}f}"

    within, grouped = found.covered_within, found.covered_by_group
    return [
        *(case.name, case.label, split, method, str(found.designs)),
        *(shown(found.r2, 4), shown(found.smape, 2), shown(found.median, 2), shown(found.p90, 2)),
        *(shown(found.tau, 3), shown(found.false_feasible, 2)),
        *(shown(found.covered), shown(within and within.low), shown(within and within.high)),
        *(shown(found.width), shown(grouped and grouped.low), shown(grouped and grouped.high)),
    ]


HEAD = (
    *("table", "label", "split", "method", "designs", "r2", "smape_pct", "median_pct", "p90_pct"),
    *("kendall_tau", "false_feasible_pct", "covered_pct", "covered_low", "covered_high"),
    *("width_pct", "covered_by_shape_low", "covered_by_shape_high"),
)


def ship(own: Mapping[str, Fitted]) -> None:
    """Fit on everything, and write the coefficients, with those of `own` labels."""
    reused, unrolled = read_search(DATA)
    ntorc = read_ntorc(DATA)
    fitted = {}
    for designs in (reused, unrolled, ntorc):
        source = designs.source
        for label in LABELS:
            if designs.way is Way.UNROLLED and label == "bram_18k":
                continue  # constants need none
            rows = rows_of(designs, label)
            about = {
                "table": source.name,
                "origin": source.origin,
                "licence": source.licence,
                "tool": source.tool,
                "sha256": sha256(DATA, source),
                "way": designs.way.value,
                "label": label,
                "features": list(FEATURES),
                "designs": len(rows),
                "groups": len(np.unique(rows.group)),
                "fitted_by": f"scikit-learn {metadata.version('scikit-learn')}",
            }
            name = f"{source.name}/{designs.way.value}/{label}"
            fitted[name] = Fitted(fit(rows), about)
    save(ROOT / "flow" / "surrogate" / FOLDER, {**fitted, **own})


def speed() -> float:
    """Processor seconds of 1,000 estimates of single layers of every shipped estimator in turn."""
    made = read_search(DATA)[0].made
    each = [each.estimator for each in shipped().values() if each.about["way"] == "reused"]
    begun = time.process_time()
    for number in range(1000):
        one = [made[number % len(made)]]
        each[number % len(each)].estimate(features(one), terms(one, Way.REUSED))
    return time.process_time() - begun


def main() -> None:
    """Write table and coefficients."""
    rows = []
    for case in cases():
        for split, held in splits(case):
            for name, method in METHODS.items():
                if method is finn and case.label != "lut":
                    continue
                rows.append(row(case, split, name, scored(case, method, held)))
                print(", ".join(rows[-1]), file=sys.stderr)
    with OUT.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([HEAD, *rows])
    ship(own_estimators.main())
    print(f"1,000 estimates one by one: {speed():.2f} s of a processor", file=sys.stderr)


if __name__ == "__main__":
    main()
