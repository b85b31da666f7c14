"""What AMD's devices have, from a table with its sources."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

COUNTED = ("lut", "ff", "dsp", "bram_18k")
TABLE = "parts.toml"


@dataclass(frozen=True)
class Stock:
    """How many of what the device has, and where that is from."""

    device: str
    has: Mapping[str, int]
    source: str


def find_stock(part: str) -> Stock | None:
    """That of the device which a part's name begins with; None where the table has it not."""
    found = [stock for stock in shipped() if part.lower().startswith(stock.device)]
    return max(found, key=lambda stock: len(stock.device), default=None)


@cache
def shipped() -> tuple[Stock, ...]:
    """The table's."""
    return read_stocks((resources.files("targets.hls4ml") / TABLE).read_text())


def read_stocks(text: str) -> tuple[Stock, ...]:
    """Raises ValueError where the text is no such table."""
    return tuple(_stock(name, row) for name, row in tomllib.loads(text).items())


def _stock(name: str, row: Any) -> Stock:
    where = f"device {name}"
    if not isinstance(row, dict) or row.keys() != {*COUNTED, "source"}:
        raise ValueError(f"{where}: must have {', '.join(COUNTED)} and source, and nothing else")
    for key in COUNTED:
        if type(row[key]) is not int or row[key] < 0:
            raise ValueError(f"{where}: {key} must be a whole number, not {row[key]!r}")
    if not isinstance(row["source"], str) or not row["source"]:
        raise ValueError(f"{where}: source must say where the numbers are from")
    return Stock(name, {key: row[key] for key in COUNTED}, row["source"])
