"""What a vendor's implementation leaves of what its C synthesis announced, and how far off that is
for designs that were not seen, next to simpler ways. Run with `make bench SUITE=tool_shift`; the
pairs lie in `surrogate/quickest` of $BITWRIGHT_DATA. Writes reports/baseline/tool_shift.csv and
flow/surrogate/fitted/shift.json.

Each of the designs is held out with all its variants; designs weigh the same.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from flow.surrogate.designs import QUICKEST, Pairs, read_pairs, sha256
from flow.surrogate.shift import COVERAGE, Shift, Shifts, fitted_shift, save_shifts
from flow.surrogate.store import FOLDER

DATA = Path(os.environ.get("BITWRIGHT_DATA", "../shared/data")) / "surrogate"
ROOT = Path(__file__).parents[2]
OUT = ROOT / "reports" / "baseline" / "tool_shift.csv"
LABELS = ("lut", "ff", "dsp")
HEAD = ("label", "method", "designs", "rows", "median_pct", "p90_pct", "covered_pct")


def quantiles(pairs: Pairs) -> Shift:
    """The way that ships."""
    return fitted_shift(pairs.ratio, pairs.design)


def unchanged(pairs: Pairs) -> Shift:
    """As announced, within the same interval's width on either side."""
    made = quantiles(pairs)
    wide = max(made.high, 1 / made.low)
    return Shift(1 / wide, 1.0, wide, COVERAGE)


METHODS: dict[str, Callable[[Pairs], Shift]] = {"quantiles": quantiles, "as announced": unchanged}


def row(label: str, pairs: Pairs, name: str) -> list[str]:
    """Errors of the likely value relative to what was left, and how often the interval held."""
    error, held = np.zeros(len(pairs.ratio)), np.zeros(len(pairs.ratio), dtype=bool)
    for design in np.unique(pairs.design):
        out = pairs.design == design
        shift = METHODS[name](Pairs(pairs.ratio[~out], pairs.design[~out]))
        ratio = pairs.ratio[out]
        error[out] = np.abs(shift.likely - ratio) / np.maximum(ratio, 1e-9)
        held[out] = (shift.low <= ratio) & (ratio <= shift.high)
    _, place, counts = np.unique(pairs.design, return_inverse=True, return_counts=True)
    weight = (1 / counts[place]) / len(counts)
    order = np.argsort(error, kind="stable")
    reached = np.cumsum(weight[order])
    median, most = (error[order][np.searchsorted(reached, share)] for share in (0.5, 0.9))
    shown = (f"{100 * value:.1f}" for value in (median, most, float(weight @ held)))
    return [label, name, str(len(counts)), str(len(pairs.ratio)), *shown]


def main() -> None:
    """Write table and coefficients."""
    found = read_pairs(DATA, LABELS)
    rows = [row(label, pairs, name) for label, pairs in found.items() for name in METHODS]
    with OUT.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([HEAD, *rows])
    for each in rows:
        print(", ".join(each))
    about = {
        "table": QUICKEST.name,
        "origin": QUICKEST.origin,
        "licence": QUICKEST.licence,
        "tool": QUICKEST.tool,
        "sha256": sha256(DATA, QUICKEST),
        "earlier": "Vivado HLS",
        "later": "Vivado",
        "designs": len(np.unique(found["lut"].design)),
    }
    shifts = Shifts({label: quantiles(pairs) for label, pairs in found.items()}, about)
    save_shifts(ROOT / "flow" / "surrogate" / FOLDER, shifts)


if __name__ == "__main__":
    main()
