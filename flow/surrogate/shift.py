"""From one tool's numbers to the next one's: what a vendor's synthesis leaves of what its C
synthesis announced.

A pair of tools is told of only where both were run on the same designs. That is so of Vivado HLS
and Vivado (quickest); of Yosys and a vendor's tool it is not, and nothing stands in for it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.errors import FlowError
from flow.spans import Spans
from flow.surrogate.store import FOLDER
from flow.surrogate.trees import Floats

FILE = "shift.json"
COVERAGE = 0.9  # nominal
NO_YOSYS = "no design at hand was counted by both Yosys and Vivado: that the two differ is known"
NO_BRAM = "the pairs at hand do not say whether they count blocks of 18 or of 36 Kbit"


@dataclass(frozen=True)
class Shift:
    """The later tool's count as a share of the earlier one's: from `low` to `high` with probability
    `coverage` for a design of its own kind; half of the designs lie below `likely`."""

    low: float
    likely: float
    high: float
    coverage: float

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.likely <= self.high < math.inf:
            raise ValueError(f"shares must ascend from above 0, not {self}")
        if not 0 < self.coverage < 1:
            raise ValueError(f"coverage must be between 0 and 1, not {self.coverage}")

    @property
    def spans(self) -> Spans:
        """To multiply what was announced by, which may itself lie between two ends."""
        return Spans.between(self.low, self.likely, self.high)


def fitted_shift(ratio: Floats, design: NDArray[Any], coverage: float = COVERAGE) -> Shift:
    """Of ratios (n,) of variants of designs, which are told apart by `design` (n,): the quantiles
    of the ratio, every design with the same weight.

    Raises:
        ValueError: no ratio, or one that is not above 0.
    """
    if len(ratio) == 0 or not (np.isfinite(ratio) & (ratio >= 0)).all():
        raise ValueError("ratios must be numbers from 0 on, and at least one")
    _, place, counts = np.unique(design, return_inverse=True, return_counts=True)
    order = np.argsort(ratio, kind="stable")
    reached = np.cumsum((1 / counts[place])[order]) / len(counts)
    tail = (1 - coverage) / 2
    low, likely, high = (
        float(ratio[order][min(int(np.searchsorted(reached, share)), len(ratio) - 1)])
        for share in (tail, 0.5, 1 - tail)
    )
    return Shift(low, likely, high, coverage)


@dataclass(frozen=True)
class Shifts:
    """Those of one pair of tools, by label, and where they are from."""

    of: Mapping[str, Shift]
    about: Mapping[str, Any]

    @property
    def source(self) -> str:
        """For figures."""
        about = self.about
        return (
            f"times what {about['later']} left of what {about['earlier']} announced, in "
            f"{about['designs']} generic designs ({about['table']}, {about['licence']}), none of "
            f"hls4ml"
        )


def save_shifts(folder: Path, shifts: Shifts) -> None:
    """Equal ones give equal files."""
    body = {
        "about": dict(shifts.about),
        "of": {name: asdict(shift) for name, shift in sorted(shifts.of.items())},
    }
    (folder / FILE).write_text(json.dumps(body, indent=1, sort_keys=True) + "\n")


def read_shifts(text: str) -> Shifts:
    """What `save_shifts` wrote.

    Raises:
        FlowError: it is damaged.
    """
    try:
        body = json.loads(text)
        about = dict(body["about"])
        shifts = Shifts({name: Shift(**row) for name, row in body["of"].items()}, about)
        _ = shifts.source  # has all that it tells
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FlowError(f"{FILE} cannot be read: {error!r}; fit it again") from error
    return shifts


@cache
def shipped_shifts() -> Shifts:
    """From a vendor's C synthesis to its logic synthesis."""
    return read_shifts((resources.files("flow.surrogate") / FOLDER / FILE).read_text())
