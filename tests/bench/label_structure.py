"""The structure that stands beside every label, counted again: `make bench SUITE=label_structure`,
after `targets/rtl/structure.py` has changed. The tools' counts stay as they are."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from flow.artifact import locked, replace_bytes
from flow.labels import read_labels, text_of
from flow.surrogate.kernels import Kernel
from flow.surrogate.unrolled import TABLE
from flow.tools import processors
from targets.rtl.labels import TOLD, Laid

PATH = Path(__file__).parents[2] / TABLE


def structure(row: Mapping[str, str]) -> dict[str, str]:
    """A kernel and its structure, as cells."""
    return Laid(Kernel.read(row)).row()


def main() -> None:
    """Write the table."""
    with locked(PATH):
        rows = read_labels(PATH)
        first = {row["number"]: row for row in rows}
        with ProcessPoolExecutor(processors()) as pool:
            made = dict(zip(first, pool.map(structure, first.values(), chunksize=16), strict=True))
        changed = sum(made[number].items() - row.items() != set() for number, row in first.items())
        told = [{**made[row["number"]], **{name: row[name] for name in TOLD}} for row in rows]
        replace_bytes(PATH, text_of(list(told[0]), told).encode())
    print(f"{len(first)} kernels, {changed} changed", file=sys.stderr)


if __name__ == "__main__":
    main()
