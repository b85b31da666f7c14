"""A labeller for tests, which processes that work can import: no tool, but as slow as is asked."""

from __future__ import annotations

import os
import time
from pathlib import Path

from flow.errors import UsageError
from flow.surrogate.kernels import Kernel


def quick(kernel: Kernel, routed: bool) -> list[dict[str, str]]:
    """Two families; kernel 5 cannot be done."""
    if kernel.number == 5:
        raise UsageError("five is out")
    labels = {"lut": str(kernel.inputs), "fmax_mhz": "100" if routed else ""}
    return [{**kernel.row(), "family": family, **labels} for family in ("ice40", "ecp5")]


def slow(kernel: Kernel, routed: bool) -> list[dict[str, str]]:
    """Leaves a note of the process that had it in hand in the folder LABELLING."""
    note = Path(os.environ["LABELLING"]) / f"{kernel.number}-{os.getpid()}"
    note.write_text("")
    time.sleep(0.3)
    return quick(kernel, routed)
