"""The parts that a design can be made for: what each has, from TOML files with their sources."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from importlib import resources
from typing import Any

from flow.options import unknown_name
from flow.report.vendor.synthesis import Resource


class Family(Enum):
    """As Yosys' synthesis scripts call them."""

    ICE40 = "ice40"
    ECP5 = "ecp5"
    XC7 = "xc7"
    XCUP = "xcup"

    @property
    def routed(self) -> bool:
        """Whether a free tool places and routes it here; else it is synthesized only."""
        return self in (Family.ICE40, Family.ECP5)


@dataclass(frozen=True)
class Stock:
    """How many of something a part has, of how many bits each where it is memory."""

    count: int
    source: str
    bits: int | None = None


@dataclass(frozen=True)
class Draw:
    """The current of a part's core in microamperes: `static_ua`, `clock_ua_per_mhz`, and for each
    logic cell as much as the quietest and the busiest of the measured designs takes."""

    volts: float
    static_ua: float
    clock_ua_per_mhz: float
    cell_ua_per_mhz: tuple[float, float]
    source: str

    def milliwatts(self, cells: float, mhz: float) -> tuple[float, float]:
        """At the least and at the most."""
        base = self.static_ua + self.clock_ua_per_mhz * mhz
        low, high = (base + cells * each * mhz for each in self.cell_ua_per_mhz)
        return low * self.volts / 1000, high * self.volts / 1000


@dataclass(frozen=True)
class Part:
    """`name` is what users write, `device`, `package` and `speed` what the tools are told. `pins`
    are those that a design may use; `draw` is known of few parts."""

    name: str
    title: str
    family: Family
    device: str
    package: str
    speed: str | None
    has: Mapping[Resource, Stock]
    pins: Stock | None
    draw: Draw | None = None

    @property
    def ram_bits(self) -> int:
        return sum(stock.count * (stock.bits or 0) for stock in self.has.values())


_TEXTS = ("title", "family", "device", "package")
_STOCKS = ("lut", "ff", "carry", "dsp", "ram", "bram_18k", "uram")
_NEEDED = ("lut", "ff", "dsp")
_MEMORY = ("ram", "bram_18k", "uram")


def part_names() -> tuple[str, ...]:
    """The parts that there are, by the names of their files."""
    return tuple(sorted(file.name.removesuffix(".toml") for file in _files() if _is_part(file)))


def find_part(name: str) -> Part:
    """The part of that name.

    Raises:
        UsageError: there is none; the message lists those that there are.
    """
    names = part_names()
    if name not in names:
        raise unknown_name("part", name, names)
    text = (resources.files("targets.rtl.implement") / "parts" / f"{name}.toml").read_text()
    return read_part(name, text)


def read_part(name: str, text: str) -> Part:
    """The part that a TOML text describes.

    Raises:
        ValueError: a key that is not known, one that is missing, or a value of the wrong type.
    """
    body = tomllib.loads(text)
    where = f"part {name}"
    _check_keys(where, body, (*_TEXTS, *_NEEDED), ("speed", "pins", "power", *_STOCKS))
    for key in (*_TEXTS, "speed"):
        if not isinstance(body.get(key, "-"), str) or not body.get(key, "-"):
            raise ValueError(f"{where}: {key} must be a text, not {body[key]!r}")
    family = Family(body["family"])
    pins = _stock(f"{where}: pins", body["pins"], False) if "pins" in body else None
    if family.routed and pins is None:
        raise ValueError(f"{where}: pins must be given for a family that is routed")
    return Part(
        name,
        body["title"],
        family,
        body["device"],
        body["package"],
        body.get("speed"),
        {
            Resource(key): _stock(f"{where}: {key}", body[key], key in _MEMORY)
            for key in _STOCKS
            if key in body
        },
        pins,
        _draw(f"{where}: power", body["power"]) if "power" in body else None,
    )


def _draw(where: str, row: Any) -> Draw:
    if not isinstance(row, dict):
        raise ValueError(f"{where} must be a table, not {row!r}")
    _check_keys(where, row, tuple(Draw.__dataclass_fields__), ())
    cell = row["cell_ua_per_mhz"]
    numbers = [row["volts"], row["static_ua"], row["clock_ua_per_mhz"]]
    numbers += cell if isinstance(cell, list) and len(cell) == 2 else [None]
    if not all(type(number) in (int, float) and number > 0 for number in numbers):
        raise ValueError(f"{where}: must be numbers above 0, and two for a cell, not {row!r}")
    if cell[0] > cell[1]:
        raise ValueError(f"{where}: cell_ua_per_mhz must have the least first, not {cell}")
    _check_source(where, row)
    return Draw(**{**row, "cell_ua_per_mhz": (cell[0], cell[1])})


def _check_source(where: str, row: Mapping[str, Any]) -> None:
    if not isinstance(row["source"], str) or not row["source"]:
        raise ValueError(f"{where}: source must say where the number is from")


def _stock(where: str, row: Any, memory: bool) -> Stock:
    if not isinstance(row, dict):
        raise ValueError(f"{where} must be a table, not {row!r}")
    _check_keys(where, row, ("count", "source", *(["bits"] if memory else [])), ())
    for key in ("count", "bits") if memory else ("count",):
        if type(row[key]) is not int or row[key] < 0:
            raise ValueError(f"{where}: {key} must be a whole number, not {row[key]!r}")
    _check_source(where, row)
    return Stock(row["count"], row["source"], row.get("bits"))


def _check_keys(
    where: str, row: Mapping[str, Any], needed: tuple[str, ...], more: tuple[str, ...]
) -> None:
    if missing := [key for key in needed if key not in row]:
        raise ValueError(f"{where}: {', '.join(missing)} must be given")
    if unknown := [key for key in row if key not in (*needed, *more)]:
        raise ValueError(f"{where}: unknown {', '.join(unknown)}")


def _files() -> Any:
    return (resources.files("targets.rtl.implement") / "parts").iterdir()


def _is_part(file: Any) -> bool:
    return bool(file.name.endswith(".toml"))
