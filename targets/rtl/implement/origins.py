"""Which part of a design every cell of its netlist is of, by the lines of Verilog that Yosys names.

Sums and registers keep the line that they are from. Other logic is minimized as a whole and keeps
none; but what it computes lies behind the values that it reads, and before those that are made of
it. Where one part of the design only lies there, it is of that part; where several do, it is said
to be of several, and of none of them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, reduce
from operator import or_
from pathlib import Path
from typing import Any

from flow.report.vendor.reading import Damaged, decode, read_json
from flow.report.vendor.synthesis import Resource
from flow.report.vendor.yosys import resource_of

_LARGEST = 1 << 29  # bytes of a netlist; a cell takes about a thousand
_FLIP_FLOP = re.compile(r"SB_DFF\w*|TRELLIS_FF|FD[RSCP]E(_1)?")
_CONTROL = frozenset({"C", "CLK", "CE", "E"})  # of a flip-flop: its clock, and the enable of all
_CARRY = frozenset({"CO", "COUT"})  # of a sum that is not done yet
_LINE = re.compile(r"(?:^|\|)(?:[^|:]*/)?([^|/:]+):(\d+)\.")


@dataclass(frozen=True)
class Origin:
    """What a line of Verilog is: the part that it is of, those whose values it reads, and those
    that read its value; of a `port`'s register, which computes nothing."""

    part: str
    operands: frozenset[str] = frozenset()
    readers: frozenset[str] = frozenset()
    port: bool = False


@dataclass(frozen=True)
class Origins:
    """Of the lines, numbered from 1 on, of the Verilog file called `file`. What is from the `other`
    files, and the design's ports, are of the part `rest`; `bare` parts have no logic."""

    file: str
    lines: Mapping[int, Origin]
    other: frozenset[str]
    rest: str
    bare: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Parts:
    """What each part takes, and what is of several, by their names in order. `of_net` tells the
    parts of what drives a net, `of_cell` those of a cell, by the names that nextpnr gives them;
    they are empty for those that the netlist has not."""

    resources: Mapping[str, Mapping[Resource, int]]
    shared: Mapping[tuple[str, ...], Mapping[Resource, int]]
    nets: Mapping[str, tuple[str, ...]] = field(repr=False)
    cells: Mapping[str, tuple[str, ...]] = field(repr=False)

    def of_net(self, name: str) -> tuple[str, ...]:
        return self.nets.get(name) or self.of_cell(name)

    def of_cell(self, name: str) -> tuple[str, ...]:
        # nextpnr adds to a cell's name what it packed with it, or which half of it this is.
        return self.cells.get(re.sub(r"(_LC|_DFFLC|\$CCU2_\w+)$", "", name), ())


def read_parts(design: Path, top: str, origins: Origins) -> Parts:
    """The parts of the netlist that Yosys wrote as JSON. Raises Damaged."""
    if design.stat().st_size > _LARGEST:
        raise Damaged(f"{design}: is larger than {_LARGEST >> 20} MiB")
    body = read_json(decode(design.read_bytes(), design.name), design.name)
    try:
        return _Netlist(body["modules"][top], origins).parts()
    except (KeyError, TypeError, AttributeError) as error:
        raise Damaged(f"{design.name}: is not as Yosys writes it: {error!r}") from error


@dataclass(frozen=True)
class _Cell:
    """`reads` are the bits that it computes with, `gives` those that it drives, by port. `origins`
    is empty where it does not say where it is from."""

    type: str
    reads: tuple[int, ...]
    gives: tuple[tuple[str, int], ...]
    origins: tuple[Origin, ...]


class _Netlist:
    """A set of parts is a whole number here, with a bit for each part."""

    def __init__(self, module: Mapping[str, Any], origins: Origins):
        self._module, self._origins = module, origins
        used = [*origins.lines.values(), Origin(origins.rest)]
        named = {part for o in used for part in (o.part, *o.operands, *o.readers)}
        self._names = sorted(named | origins.bare)
        self._bits = {name: 1 << place for place, name in enumerate(self._names)}
        self._behind = self._order(used)
        self._cells = {name: self._cell(row) for name, row in module["cells"].items()}
        self._driver = {bit: (n, p) for n, cell in self._cells.items() for p, bit in cell.gives}
        ports = module["ports"].values()
        self._leaving = {
            bit for port in ports if port["direction"] == "output" for bit in port["bits"]
        }

    def parts(self) -> Parts:
        of_cell = {
            name: self._listed(self._set(o.part for o in cell.origins))
            for name, cell in self._cells.items()
            if cell.origins
        }
        of_cell |= {name: self._listed(self._logic(name)) for name in self._unknown}
        whole: dict[tuple[str, ...], Counter[Resource]] = {}
        for name, found in of_cell.items():
            if kind := resource_of(self._cells[name].type):
                whole.setdefault(found, Counter())[kind[0]] += kind[1]
        nets = {}
        for name, row in self._module["netnames"].items():
            bits, low = row["bits"], row.get("offset", 0)
            for place, bit in enumerate(bits):
                if bit in self._driver:
                    own = name if len(bits) == 1 else f"{name}[{place + low}]"
                    nets[own] = of_cell[self._driver[bit][0]]
                    nets[f"{name}[{place + low}]"] = nets[own]
        single = {found[0]: counts for found, counts in whole.items() if len(found) == 1}
        shared = {found: counts for found, counts in whole.items() if len(found) != 1}
        return Parts(single, shared, nets, of_cell)

    def _cell(self, row: Mapping[str, Any]) -> _Cell:
        reads: list[int] = []
        gives: list[tuple[str, int]] = []
        control = _CONTROL if _FLIP_FLOP.fullmatch(row["type"]) else frozenset()
        for port, bits in row["connections"].items():
            wires = [bit for bit in bits if isinstance(bit, int)]  # others are constants
            if row["port_directions"][port] == "output":
                gives += [(port, bit) for bit in wires]
            elif port not in control:
                reads += wires
        return _Cell(row["type"], tuple(reads), tuple(gives), tuple(self._lines(row)))

    def _lines(self, row: Mapping[str, Any]) -> Iterator[Origin]:
        """Where a cell says that it is from; not which of Yosys' libraries has it."""
        for file, line in _LINE.findall(row.get("attributes", {}).get("src", "")):
            if file == self._origins.file and int(line) in self._origins.lines:
                yield self._origins.lines[int(line)]
            elif file in self._origins.other:
                yield Origin(self._origins.rest)

    def _order(self, used: Iterable[Origin]) -> dict[int, int]:
        """What lies behind each part, itself too."""
        behind = {bit: bit for bit in self._bits.values()}
        for origin in used:
            for operand in origin.operands:
                behind[self._bits[operand]] |= self._bits[origin.part]
        while True:
            wider = {bit: self._all_behind(found, behind) for bit, found in behind.items()}
            if wider == behind:
                return behind
            behind = wider

    def _set(self, parts: Iterable[str]) -> int:
        return reduce(or_, (self._bits[part] for part in parts), 0)

    def _listed(self, parts: int) -> tuple[str, ...]:
        return tuple(name for name in self._names if parts & self._bits[name])

    @staticmethod
    def _all_behind(parts: int, behind: Mapping[int, int]) -> int:
        return reduce(or_, (found for bit, found in behind.items() if parts & bit), 0)

    @cached_property
    def _unknown(self) -> list[str]:
        """The cells that do not say where they are from, each after those that it reads."""
        waits = {}
        readers: dict[str, list[str]] = {}
        for name, cell in self._cells.items():
            if not cell.origins:
                of = {self._driver[bit][0] for bit in cell.reads if bit in self._driver}
                before = {other for other in of if not self._cells[other].origins}
                waits[name] = len(before)
                for other in before:
                    readers.setdefault(other, []).append(name)
        ready = [name for name, count in waits.items() if not count]
        for name in ready:  # which grows meanwhile
            for reader in readers.get(name, ()):
                waits[reader] -= 1
                if not waits[reader]:
                    ready.append(reader)
        if len(ready) != len(waits):
            raise Damaged("the netlist has logic that reads itself")
        return ready

    @cached_property
    def _from(self) -> dict[str, int]:
        """Of each unknown cell the parts whose work may begin at the values that it reads."""
        found: dict[str, int] = {}
        for name in self._unknown:
            found[name] = 0
            for bit in self._cells[name].reads:
                if bit not in self._driver:
                    found[name] |= self._bits[self._origins.rest]
                    continue
                driver, port = self._driver[bit]
                for origin in self._cells[driver].origins:
                    done = port not in _CARRY and origin.readers
                    found[name] |= self._set(origin.readers if done else (origin.part,))
                if driver in found:
                    found[name] |= found[driver]
        return found

    @cached_property
    def _into(self) -> dict[str, tuple[int, int]]:
        """Of each unknown cell the parts whose work may end at the values that are made of it, and
        the parts of these values."""
        users: dict[int, list[str]] = {}
        for name, cell in self._cells.items():
            for bit in cell.reads:
                users.setdefault(bit, []).append(name)
        found: dict[str, tuple[int, int]] = {}
        for name in reversed(self._unknown):
            ends = own = 0
            for _, bit in self._cells[name].gives:
                if bit in self._leaving:
                    ends |= self._bits[self._origins.rest]
                    own |= self._bits[self._origins.rest]
                for user in users.get(bit, ()):
                    cell = self._cells[user]
                    if user in found:
                        ends, own = ends | found[user][0], own | found[user][1]
                    register = _FLIP_FLOP.fullmatch(cell.type) is not None
                    for origin in cell.origins:
                        own |= self._bits[origin.part]
                        # What a sum reads is done; what a register reads is its value.
                        done = origin.operands and (origin.port or not register)
                        ends |= self._set(origin.operands if done else (origin.part,))
            found[name] = ends, own
        return found

    def _logic(self, name: str) -> int:
        """The parts of a cell that does not say where it is from."""
        begins = self._all_behind(self._from[name], self._behind)
        ends, own = self._into[name]
        before = reduce(or_, (b for b, found in self._behind.items() if found & ends), 0)
        bare = self._set(self._origins.bare)
        between = (begins if self._from[name] else ~0) & (before if ends else ~0) & ~bare
        between &= (1 << len(self._names)) - 1
        # Nothing lies between a value that is done and its reader, but the turning of its sign.
        if not between or self._turns(name):
            between |= own
        return between or self._from[name]

    def _turns(self, name: str) -> bool:
        """Whether a cell may do no more than turn a sign."""
        reads = self._cells[name].reads
        return len(reads) == 1 and self._driver.get(reads[0], ("", ""))[1] not in _CARRY
