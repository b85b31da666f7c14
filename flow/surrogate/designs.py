"""Real designs that others synthesized, as tables: what estimators of vendor tools are fitted on.

The tables are not part of this project; `surrogate/` of the folder `BITWRIGHT_DATA` has them.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from flow.csv_table import CsvTable
from flow.errors import UsageError
from flow.surrogate.hls4ml import Reused, Way
from flow.surrogate.trees import Floats

MAX_BYTES = 64 << 20
T = TypeVar("T")


@dataclass(frozen=True)
class Source:
    """Where a table is from; `tool` is whose numbers its labels are."""

    name: str
    origin: str
    licence: str
    tool: str
    files: tuple[str, ...]


SEARCH = Source(
    "wa-hls4ml-search",
    "Dendendelen/wa-hls4ml-search @8e70542, results/",
    "Apache-2.0",
    "Vitis HLS C synthesis of hls4ml, U250, 5 ns, activations of 16 bits",
    (
        "wa_hls4ml_search_1layer/results_resource.csv",
        "wa_hls4ml_search_1layer/results_latency.csv",
    ),
)
NTORC = Source(
    "N-TORC",
    "HeRCLab/N-TORC @bdd6413, training_data_optimizer/",
    "MIT",
    "Vivado HLS 2019.1 C synthesis of hls4ml, ZU7EV, 4 ns, ap_fixed<16,8>",
    ("ntorc/dense_resources_collapsed.csv",),
)
NTORC_BITS = 16
_SEARCH_COLUMNS = (
    *("hls_synth_success", "strategy", "rf", "d_in", "d_out", "prec"),
    *("LUT_hls", "FF_hls", "BRAM_18K_hls"),
)
_NTORC_COLUMNS = (
    *("correct_reuse_factor_dense_resource", "n_inputs_resources", "dense_size_resource"),
    *("lut", "ff", "bram_18k"),
)
_Made = tuple[Reused, dict[str, float]]  # with its labels
QUICKEST = Source(
    "quickest",
    "cornell-zhang/quickest @3d48265, hls/data/samples/",
    "BSD-3-Clause",
    "Vivado HLS, and Vivado after implementation, of generic designs on four devices",
    ("quickest/data1.csv",),
)


@dataclass(frozen=True, eq=False)
class Designs:
    """Single dense layers as hls4ml made them in one `way`; `labels` are (n,) by name."""

    source: Source
    way: Way
    made: tuple[Reused, ...]
    labels: dict[str, Floats]

    def keys(self) -> list[tuple[int, ...]]:
        """What tells one configuration from another."""
        return [(m.inputs, m.outputs, m.reuse, m.weight_bits) for m in self.made]


def read_search(folder: Path) -> tuple[Designs, Designs]:
    """Layers whose weights lie in a memory, and those that are unrolled: by the latency strategy,
    of which the reuse factor changes little of the logic, or by a reuse factor of 1."""
    found: dict[Way, list[_Made]] = {way: [] for way in Way}
    for name in SEARCH.files:
        for made, labels in _read(folder / name, _SEARCH_COLUMNS, _searched):
            found[Way.REUSED if made.reuse > 1 else Way.UNROLLED].append((made, labels))
    reused, unrolled = (_designs(SEARCH, way, found[way]) for way in Way)
    return reused, unrolled


def _searched(row: _Row) -> _Made | None:
    if row.cells["hls_synth_success"] != "True":
        return None
    reuse = 1 if row.cells["strategy"] == "latency" else row.whole("rf")
    made = Reused(row.whole("d_in"), row.whole("d_out"), reuse, row.whole("prec"))
    return made, {
        "lut": row.number("LUT_hls"),
        "ff": row.number("FF_hls"),
        "bram_18k": row.number("BRAM_18K_hls"),
    }


def read_ntorc(folder: Path) -> Designs:
    """One row a configuration, the median of the networks that it was found in; with a reuse factor
    of 1 there are four, which are left out."""
    seen: dict[Reused, list[dict[str, float]]] = defaultdict(list)
    for made, labels in _read(folder / NTORC.files[0], _NTORC_COLUMNS, _reused):
        seen[made].append(labels)
    rows = [
        (made, {name: float(np.median([each[name] for each in of])) for name in of[0]})
        for made, of in seen.items()
    ]
    return _designs(NTORC, Way.REUSED, rows)


def _reused(row: _Row) -> _Made | None:
    reuse = row.whole("correct_reuse_factor_dense_resource")
    sizes = row.whole("n_inputs_resources"), row.whole("dense_size_resource")
    if reuse == 1:
        return None
    return Reused(*sizes, reuse, NTORC_BITS), {
        "lut": row.number("lut"),
        "ff": row.number("ff"),
        "bram_18k": row.number("bram_18k"),
    }


@dataclass(frozen=True, eq=False)
class Pairs:
    """A label of designs by two tools: what the later one left of what the earlier one announced
    (n,), and of which design each row is a variant (n,)."""

    ratio: Floats
    design: NDArray[np.int64]


def read_pairs(folder: Path, labels: Sequence[str]) -> dict[str, Pairs]:
    """By label; rows of which nothing was announced are left out."""
    columns = {label: (label.upper(), f"{label.upper()}_impl") for label in labels}
    needed = ("Design_Index", *(name for pair in columns.values() for name in pair))

    def read(row: _Row) -> tuple[int, dict[str, tuple[float, float]]]:
        counts = {
            label: (row.number(first), row.number(then)) for label, (first, then) in columns.items()
        }
        return row.whole("Design_Index"), counts

    rows = [told for name in QUICKEST.files for told in _read(folder / name, needed, read)]
    found = {}
    for label in labels:
        told = [(of[label][1] / of[label][0], design) for design, of in rows if of[label][0] > 0]
        if not told:
            raise UsageError(f"{QUICKEST.name}: its tables hold no design that has any {label}")
        ratio, which = zip(*told, strict=True)
        found[label] = Pairs(np.array(ratio), np.array(which, dtype=np.int64))
    return found


def _designs(source: Source, way: Way, rows: Sequence[_Made]) -> Designs:
    if not rows:
        raise UsageError(f"{source.name}: its tables hold no design that is {way.value}")
    labels = {name: np.array([told[name] for _, told in rows]) for name in rows[0][1]}
    return Designs(source, way, tuple(made for made, _ in rows), labels)


@dataclass(frozen=True)
class _Row:
    cells: dict[str, str]

    def number(self, column: str) -> float:
        """At least 0."""
        text = self.cells[column]
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0 <= value < 1e12:
            raise UsageError(f"{column} must be a number from 0 on, not {text!r}")
        return value

    def whole(self, column: str) -> int:
        """At least 1."""
        value = self.number(column)
        if value < 1 or value != int(value):
            raise UsageError(f"{column} must be a whole number from 1 on")
        return int(value)


def _read(path: Path, columns: tuple[str, ...], row: Callable[[_Row], T | None]) -> list[T]:
    """What `row` makes of the rows, but None."""
    table = CsvTable(path, columns, MAX_BYTES, "design", f"see {folder_hint()}")
    found = table.rows(table.text(), lambda cells: row(_Row(cells)))
    if not found:
        raise UsageError(f"{path} is empty")
    return [made for made in found if made is not None]


def folder_hint() -> str:
    """Where the tables are looked for."""
    return "the folder surrogate/ of $BITWRIGHT_DATA"


def sha256(folder: Path, source: Source) -> dict[str, str]:
    """Of each of a source's files, hex."""
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in source.files}
