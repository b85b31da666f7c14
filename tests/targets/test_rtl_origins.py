"""Which layer the cells and paths of a netlist are of, on netlists as Yosys writes them."""

from __future__ import annotations

import json
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow.errors import FlowError
from flow.importer import import_qonnx
from flow.onnx_file import read
from flow.report.vendor.reading import Damaged
from flow.report.vendor.synthesis import Resource
from targets.rtl.implement.accounts import account, read_accounts, slowest, write_accounts
from targets.rtl.implement.origins import Origin, Origins, Parts, read_parts
from targets.rtl.implement.paths import CriticalPath, Step
from targets.rtl.lower import trace
from targets.rtl.netlist import netlist
from targets.rtl.origins import PORTS, origins
from targets.rtl.ports import Ports
from targets.rtl.solver import Solver
from targets.rtl.verilog import emit
from tests.network.nets import Net

FILE, REST, BARE = "network.v", "stream", "inputs"


@dataclass
class Cells:
    """A netlist that is put together cell by cell; bits from 2 on, as Yosys numbers them."""

    cells: dict[str, Any] = field(default_factory=dict)
    bits: int = 2

    def add(
        self, kind: str, name: str, line: int | str, reads: dict[str, int], gives: str = "O"
    ) -> dict[str, int]:
        """A cell; `line` is one of the network's, a place in another file, or 0 for none. Gives the
        bits of its outputs, called by the letters of `gives`."""
        found = {port: self.bits + i for i, port in enumerate(gives.split())}
        self.bits += len(found)
        where = f"{FILE}:{line}.3-{line}.9|" if isinstance(line, int) and line else ""
        where = f"{line}|" if isinstance(line, str) else where
        self.cells[name] = {
            "type": kind,
            "attributes": {"src": f"{where}/share/ice40/cells_map.v:12.34-13.52"},
            "port_directions": {p: "input" for p in reads} | {p: "output" for p in found},
            "connections": {port: [bit] for port, bit in (reads | found).items()},
        }
        return found

    def lut(self, name: str, *reads: int) -> int:
        given = {f"I{place}": bit for place, bit in enumerate(reads)}
        return self.add("SB_LUT4", name, 0, given)["O"]

    def register(self, name: str, line: int | str, data: int, enable: int = 1) -> int:
        return self.add("SB_DFFE", name, line, {"D": data, "E": enable, "C": 0}, "Q")["Q"]

    def read(self, origins: Origins, ports: dict[str, Any] | None = None) -> Parts:
        nets = {f"{name}_n": {"bits": [self._out(cell)]} for name, cell in self.cells.items()}
        top = {"cells": self.cells, "ports": ports or {}, "netnames": nets}
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "design.json"
            path.write_text(json.dumps({"modules": {"top": top}}))
            return read_parts(path, "top", origins)

    @staticmethod
    def _out(cell: dict[str, Any]) -> int:
        outputs = [p for p, way in cell["port_directions"].items() if way == "output"]
        bit: int = cell["connections"][outputs[0]][0]
        return bit


def origin(part: str, operands: str = "", readers: str = "", port: bool = False) -> Origin:
    return Origin(part, frozenset(operands.split()), frozenset(readers.split()), port)


# The lines of two layers: a value inside a, a's last, a sum of b on it, and b's last.
LINES = {
    1: origin("a", "inputs", "a"),
    2: origin("a", "a", "b"),
    3: origin("b", "a", "b"),
    4: origin("b", "b", "stream"),
}
TWO = Origins(FILE, LINES, frozenset({"stream.v"}), REST, frozenset({BARE}))


def sum_of(cells: Cells, name: str, line: int, a: int, b: int) -> tuple[int, int]:
    """A bit of a sum, its carry in a cell of its own: both bits."""
    carry = cells.add("SB_CARRY", f"{name}_carry", line, {"I0": a, "I1": b}, "CO")["CO"]
    return cells.add("SB_LUT4", name, line, {"I1": a, "I2": b})["O"], carry


def test_logic_inside_a_layer_is_the_layers() -> None:
    cells = Cells()
    first = cells.register("first", 1, 0)
    inside = cells.lut("inside", first)
    cells.register("last", 2, inside)
    found = cells.read(TWO)
    assert found.of_cell("inside") == ("a",)
    assert found.resources == {"a": {Resource.FF: 2, Resource.LUT: 1}}


def test_what_turns_the_sign_of_a_finished_value_is_its_readers() -> None:
    cells = Cells()
    last = cells.register("last", 2, 0)
    turned = cells.lut("turned", last)
    sum_of(cells, "sum", 3, turned, last)
    assert cells.read(TWO).of_cell("turned") == ("b",)


def test_what_completes_a_sum_is_the_sums() -> None:
    """Its carry is no value yet."""
    cells = Cells()
    _, carry = sum_of(cells, "sum", 2, 0, 0)
    top = cells.lut("top", carry)
    sum_of(cells, "next", 3, top, top)
    assert cells.read(TWO).of_cell("top") == ("a",)


def test_logic_that_may_be_of_two_layers_is_of_neither() -> None:
    cells = Cells()
    first = cells.register("first", 1, 0)
    cells.register("end", 3, cells.lut("between", first))
    found = cells.read(TWO)
    assert found.of_cell("between") == ("a", "b")
    assert found.shared == {("a", "b"): {Resource.LUT: 1}}
    assert Resource.LUT not in {**found.resources["a"], **found.resources["b"]}


def test_the_enable_of_all_registers_is_the_wrappers() -> None:
    cells = Cells()
    done = cells.register("done", "../rtl/stream.v:7.3-7.9", 0)
    enable = cells.lut("enable", done)
    cells.register("first", 1, 0, enable)
    cells.register("last", 4, 0, enable)
    assert cells.read(TWO).of_cell("enable") == (REST,)


def test_what_ports_read_and_give_is_the_wrappers() -> None:
    cells = Cells()
    cells.bits = 4
    out = cells.lut("through", 2, 3)
    ports = {
        "i": {"direction": "input", "bits": [2, 3]},
        "o": {"direction": "output", "bits": [out]},
    }
    assert cells.read(TWO, ports).of_cell("through") == (REST,)


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_a_cell_is_never_taken_for_anothers(data: st.DataObject) -> None:
    """Random values in layers, as sums, registers or bare logic, each maybe through an inverter:
    the layer that a cell was made for is always among those that it may be of."""
    count = data.draw(st.integers(2, 8))
    part, layer = ["inputs"], 0
    for _ in range(count):
        layer += data.draw(st.booleans())
        part.append(f"layer{layer}")
    reads = [[0, 0]] + [
        data.draw(st.lists(st.integers(0, i), min_size=1, max_size=2)) for i in range(count)
    ]
    readers = [{part[j] for j in range(1, count + 1) if i in reads[j]} for i in range(count + 1)]
    lines = {
        i: Origin(part[i], frozenset(part[j] for j in reads[i]), frozenset(readers[i]))
        for i in range(1, count + 1)
    }
    lines[99] = Origin(REST, readers=frozenset(readers[0]), port=True)
    cells, made = Cells(), dict[str, str]()
    value = [cells.register("input", 99, 0)]
    for i in range(1, count + 1):
        used = []
        for j in reads[i]:
            bit = value[j]
            if data.draw(st.booleans()):
                bit = cells.lut(f"turned{i}_{len(used)}", bit)
                made[f"turned{i}_{len(used)}"] = part[i]
            used.append(bit)
        kind = data.draw(st.sampled_from(["sum", "register", "logic", "both"]))
        if kind == "sum":
            bit, carry = sum_of(cells, f"v{i}", i, used[0], used[-1])
            if data.draw(st.booleans()):
                bit = cells.lut(f"top{i}", carry)
                made[f"top{i}"] = part[i]
        else:
            bit = cells.lut(f"v{i}", *used)
            made[f"v{i}"] = part[i]
            if kind in ("register", "both"):
                held = cells.register(f"r{i}", i, bit)
                bit = held if kind == "register" else bit
        value.append(bit)
    cells.register("output", count, value[-1])
    found = cells.read(Origins(FILE, lines, frozenset(), REST, frozenset({BARE})))
    for name, truth in made.items():
        assert truth in found.of_cell(name), (name, truth, found.of_cell(name))
    whole = sum(sum(c.values()) for c in (*found.resources.values(), *found.shared.values()))
    assert whole == len(cells.cells)


def test_every_line_of_a_network_has_its_layer(tmp_path: Path) -> None:
    """Two layers with a float scale between them, in short stages: delays, choices and tables."""
    rng, net = np.random.default_rng(0), Net((6,))
    last = net.quant("x", 0.25, 3, signed=False)
    for name, shape in (("fc1", (4, 6)), ("fc2", (3, 4))):
        weight = net.quant(net.constant(rng.integers(-3, 4, shape) * 0.173), 0.173, 3)
        last = net.node("Gemm", [last, weight], name, transB=1)
        last = net.quant(last, 0.77, 3, name=f"act{name[-1]}")
    graph = import_qonnx(read(net.save(tmp_path / "net.onnx", last)), "net").graph
    layers = {node.name: f"layer {node.name[-1]}" for node in graph.nodes}
    solver = Solver(-1, -1)
    made = netlist(graph, solver, trace(graph, solver), (graph.output.name,), 1)
    path = tmp_path / "network.v"
    path.write_text(emit(made, Ports.of(graph)))
    found = origins(made, layers, path, frozenset({"stream.v"}))
    owner = {operation.name: operation.owner for operation in made.operations}
    seen = set()
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        part = found.lines[number].part
        if match := re.match(r"  (?:wire|reg) \[\d+:0\] (\w+?_\d+)(_s\d+)?\b", line):
            node = owner[match[1]]
            assert part == (PORTS if node == "input" else layers[node]), line
            assert bool(found.lines[number].readers) or "_s" in line
            seen.add((part, bool(match[2])))
        elif "if (ce) codes <=" in line or line.startswith("    codes_out["):
            assert part == PORTS, line
        elif re.match(r"    \d+'d\d+: ", line):  # of a table
            assert part == layers[owner[line.split(": ")[1].split(" = ")[0]]]
    both = {(part, later) for part in ("layer 1", "layer 2", PORTS) for later in (False, True)}
    assert both - {("layer 2", True)} <= seen
    assert found.bare == {"(input)", "(constant)"}
    (tmp_path / "network.v").write_text("module network ();\nendmodule\n")
    with pytest.raises(FlowError, match="has no line for"):
        origins(made, layers, path, frozenset())


def test_a_path_is_told_by_layers(tmp_path: Path) -> None:
    parts = Parts(
        {"a": {Resource.LUT: 2}},
        {("a", "b"): {Resource.LUT: 1}},
        {"first": ("a",), "x[1]": ("a", "b")},
        {"end_SB_LUT4_O": ("b",), "y_CCU2C_S0": ("b",)},
    )
    steps = (
        Step("clk-to-q", 0.5, "q_DFFLC", "O"),
        Step("routing", 1.0, "c_LC", "I0", "first"),
        Step("logic", 0.25, "c_LC", "O"),
        Step("routing", 2.0, "c_LC", "I0", "x[1]"),
        Step("logic", 0.125, "c_LC", "O"),
        Step("routing", 0.0, "d", "FCI", "y_CCU2C_S0$CCU2_FCI_INT"),
        Step("logic", 0.0625, "d", "F"),
        Step("routing", 8.0, "$nextpnr_ICESTORM_LC_1", "CIN", "$nextpnr_ICESTORM_LC_1$I3"),
        Step("routing", 4.0, "d", "A", "who knows"),
        Step("setup", 0.03125, "end_SB_LUT4_O_LC", "I3"),
    )
    path = CriticalPath("posedge clk$x", "posedge clk$x", steps)
    found = account(path, parts)
    assert {each.parts: (each.logic_ns, each.routing_ns) for each in found.spent} == {
        ("a",): (0.5, 1.0),
        ("a", "b"): (0.25, 2.0),
        ("b",): (0.125 + 0.0625 + 0.03125, 8.0),
        (): (0.0, 4.0),
    }
    assert (found.clock, found.delay_ns) == ("clk$x", path.delay_ns)
    assert str(found.spent[0]) == "8.2 in b (0.2 logic, 8.0 routing)"
    assert str(found.spent[1]) == "4.0 in no known part (0.0 logic, 4.0 routing)"
    inside = CriticalPath("<async>", "posedge clk$x", (Step("logic", 99.0, "d", "F"),))
    faster = CriticalPath("posedge clk$x", "posedge clk$x", steps[:2])
    other = CriticalPath("posedge b", "posedge b", steps[:1])
    assert slowest([faster, inside, path, other]) == [path, other]
    write_accounts(tmp_path, parts, {3: [path]})
    again = read_accounts(tmp_path)
    assert again is not None
    assert again.paths == {3: (found,)}
    assert (again.of_part("a"), again.shared) == ({Resource.LUT: 2}, {Resource.LUT: 1})
    assert read_accounts(tmp_path / "nowhere") is None


@pytest.mark.parametrize("text", ["[]", "{", '{"modules": {}}', '{"modules": {"top": {}}}'])
def test_a_netlist_that_yosys_did_not_write_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "design.json").write_text(text)
    with pytest.raises(Damaged):
        read_parts(tmp_path / "design.json", "top", TWO)


def test_logic_that_reads_itself_is_refused() -> None:
    cells = Cells()
    cells.lut("a", 3)
    cells.lut("b", 2)
    with pytest.raises(Damaged, match="reads itself"):
        cells.read(TWO)
