"""Which layer every line of the network's Verilog is of, for what counts and times its cells."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from flow.errors import FlowError
from targets.rtl.implement.origins import Origin, Origins
from targets.rtl.netlist import Kind, Netlist

PORTS = "input and output registers"
STREAM = "byte stream"
_NO_LOGIC = (Kind.INPUT, Kind.CONSTANT)
_DECLARED = re.compile(r"\s*(?:wire|reg) (?:\[\d+:0\] )?(\w+)")


def origins(
    made: Netlist, layers: Mapping[str, str], network: Path, others: frozenset[str]
) -> Origins:
    """Of the lines of the file that `verilog.emit` wrote; `layers` has the layer of each node.

    Raises:
        FlowError: the file is not of this netlist.
    """
    part = [
        f"({o.kind.value})" if o.kind in _NO_LOGIC else layers.get(o.owner, o.owner)
        for o in made.operations
    ]
    readers: list[set[str]] = [set() for _ in part]
    for number, operation in enumerate(made.operations):
        for operand in operation.operands:
            readers[operand].add(part[number])
    for output in made.outputs:
        readers[output.operation].add(PORTS)
    bare = frozenset(f"({kind.value})" for kind in _NO_LOGIC)
    found = {
        operation.name: Origin(
            # An input that is read in a later stage is a register like those at the ports.
            PORTS if operation.kind is Kind.INPUT else part[number],
            frozenset(part[i] for i in operation.operands),
            frozenset(readers[number]),
            port=operation.kind is Kind.INPUT,
        )
        for number, operation in enumerate(made.operations)
    }
    first = Origin(
        PORTS,
        readers=frozenset(
            reader
            for o, own in zip(made.operations, readers, strict=True)
            if o.kind is Kind.INPUT
            for reader in own
        ),
        port=True,
    )
    last = Origin(PORTS, frozenset(part[o.operation] for o in made.outputs), port=True)
    lines: dict[int, Origin] = {}
    missing = {o.name for o in made.operations if o.width and o.kind is not Kind.CONSTANT}
    current = first
    for number, line in enumerate(network.read_text().splitlines(), start=1):
        if (name := _DECLARED.match(line)) is not None:
            word = name[1] if name[1] in found else re.sub(r"_s\d+$", "", name[1])
            missing.discard(word)
            current = found.get(word, first)
        elif "begin" in line.split():
            current = last
        lines[number] = current
    if missing:  # counts would go to the wrong layers
        raise FlowError(f"{network}: has no line for {sorted(missing)[:3]}; report this as a bug")
    return Origins(network.name, lines, others, STREAM, bare)
