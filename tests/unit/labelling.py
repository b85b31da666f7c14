"""A labeller for tests, which processes that work can import: no tool, but as slow as is asked."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from flow.errors import UsageError
from flow.labels import Rows
from flow.surrogate.kernels import Kernel


def quick(kernels: Sequence[Kernel]) -> list[Rows | str]:
    """Two families; kernel 5 cannot be done."""
    return ["five is out" if kernel.number == 5 else _rows(kernel) for kernel in kernels]


def refusing(kernels: Sequence[Kernel]) -> list[Rows | str]:
    """As one that lacks a tool."""
    raise UsageError("no tool")


def slow(kernels: Sequence[Kernel]) -> list[Rows | str]:
    """Leaves notes of the process that had them in hand in the folder LABELLING."""
    for kernel in kernels:
        note = Path(os.environ["LABELLING"]) / f"{kernel.number}-{os.getpid()}"
        note.write_text("")
    time.sleep(0.3)
    return quick(kernels)


def _rows(kernel: Kernel) -> Rows:
    labels = {"lut": str(kernel.inputs)}
    return [{**kernel.row(), "family": family, **labels} for family in ("ice40", "ecp5")]
