"""What the target rtl makes of its recipes: accuracy, LUTs, clock; against da4ml and 4 bits.

Three tables in reports/baseline, each with a row per line of the tables below:

* rtl_recipes.csv: accuracy over three seeds, and the network of seed 0 compiled to a bitstream,
  byte stream included, each compile proven as every compile is; `seconds` is Yosys and nextpnr.
* rtl_da4ml.csv: LUTs of the network's module alone against da4ml's own Verilog of the same graph
  (`rtl_plain`), both by the same Yosys script for one iCE40; the last row is the geometric mean.
* rtl_uniform.csv: LUTs of the recipe's network against that of its layers with 4 bits for input,
  weights and activations, and what either answers over three seeds.

Run with `make bench SUITE=rtl`; rows that are there are kept, a run that was stopped goes on.
Trainings and routing take an hour on two cores.
"""

from __future__ import annotations

import csv
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from flow.driver import compile_model
from flow.plan import Events, Plan, Request
from flow.report.vendor.synthesis import Resource
from flow.vectors import make_vectors
from targets.rtl.implement.parts import find_part
from targets.rtl.implement.synthesis import read_synthesized, synthesize
from targets.rtl.lower import trace
from targets.rtl.netlist import netlist
from targets.rtl.ports import Ports
from targets.rtl.solver import Solver
from targets.rtl.verilog import MODULE, emit

FOLDER = Path("reports/baseline")
SEEDS = (0, 1, 2)
CUTOFF = 5  # of both sides, where LUTs are compared
VECTORS = 30  # over which da4ml's trace must be the reference
RECIPES = {
    "digits_hx8k": {"part": "hx8k", "latency_cutoff": "12", "bitstream": "true"},
    "digits_ecp5": {"part": "lfe5u-25f", "latency_cutoff": "8", "bitstream": "true"},
}
AGAINST_DA4ML = ("digits_hx8k", "digits_ecp5", "digits_mlp")
UNIFORM = {"input_bits": "4", "weight_bits": "4", "act_bits": "4"}
_COMPILED = ("lut4", "lc placed", "ff", "fmax", "latency_cycles", "latency")
_TOOLS = ("yosys time", "nextpnr-ice40 time", "nextpnr-ecp5 time")

Rows = dict[str, list[str]]


def main() -> int:
    _table("rtl_recipes.csv", _RECIPE_COLUMNS, RECIPES, _recipe)
    against = _table("rtl_da4ml.csv", _DA4ML_COLUMNS, AGAINST_DA4ML, _against_da4ml)
    mean = statistics.geometric_mean(float(row[-1]) for row in against.values())
    with (FOLDER / "rtl_da4ml.csv").open("a") as file:
        file.write(f"geometric mean,,,{mean:.3f}\n")
    _table("rtl_uniform.csv", _UNIFORM_COLUMNS, RECIPES, _against_uniform)
    return 0


def _table(
    name: str, columns: Sequence[str], keys: Sequence[str] | Mapping[str, object],
    row: Callable[[str], list[str]],
) -> Rows:  # fmt: skip
    """The table's rows, those that were there and those that are measured now."""
    path, rows = FOLDER / name, {}
    if path.is_file():
        with path.open(newline="") as file:
            rows = {line[0]: line for line in list(csv.reader(file))[1:] if line[0] in keys}
    for key in keys:
        if key not in rows:
            rows[key] = [key, *row(key)]
        with path.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([columns, *rows.values()])
    print(path.read_text(), flush=True)
    return rows


def _plan(model: str, options: Mapping[str, str]) -> Plan:
    return Plan(Request(model, "rtl", options), Events(_say))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _accuracies(model: str, options: Mapping[str, str]) -> list[float]:
    """Percent of the test samples, seed by seed."""
    found = []
    for seed in SEEDS:
        trained = _plan(model, {**options, "seed": str(seed)}).trained
        assert trained is not None and trained.accuracy is not None
        found.append(100 * trained.accuracy)
        _say(f"{model} {dict(options)} seed {seed}: {found[-1]:.2f} %")
    return found


_RECIPE_COLUMNS = (
    *("recipe", "part", "seeds", "accuracy", "each", "lut4", "cells", "ff", "fmax_mhz"),
    *("latency_cycles", "latency_ns", "seconds"),
)


def _recipe(model: str) -> list[str]:
    each = _accuracies(model, {})
    report = compile_model(Request(model, "rtl", RECIPES[model]), Events(_say))
    values = {metric.name: metric.value for metric in report.metrics}
    seconds = sum(values.get(name, 0.0) for name in _TOOLS)
    cells = "lc placed" if "lc placed" in values else "lut placed"
    numbers = (values[cells if name == "lc placed" else name] for name in _COMPILED)
    listed = " ".join(f"{value:.2f}" for value in each)
    return [
        *(RECIPES[model]["part"], str(len(each)), f"{statistics.mean(each):.2f}", listed),
        *(f"{number:.5g}" if number % 1 else f"{number:.0f}" for number in numbers),
        f"{seconds:.0f}",
    ]


_DA4ML_COLUMNS = ("network", "lut4", "da4ml_lut4", "ratio")


def _against_da4ml(model: str) -> list[str]:
    with tempfile.TemporaryDirectory(dir=FOLDER) as held:
        folder = Path(held)
        ours = _luts([_ours(model, {}, folder)], MODULE, folder / "ours")
        theirs = _luts(_da4ml(model, folder), "plain", folder / "theirs")
    return [str(ours), str(theirs), f"{ours / theirs:.3f}"]


def _ours(model: str, options: Mapping[str, str], folder: Path) -> Path:
    graph = _plan(model, options).imported.graph
    solver = Solver(-1, -1)
    made = netlist(graph, solver, trace(graph, solver), (graph.output.name,), CUTOFF)
    path = folder / f"{MODULE}.v"
    path.write_text(emit(made, Ports.of(graph)))
    return path


def _da4ml(model: str, folder: Path) -> list[Path]:
    graph = _plan(model, {}).imported.graph
    (folder / "graph.json").write_text(graph.to_json())
    np.savez(folder / "vectors.npz", x=make_vectors(graph.input, None)[:VECTORS])
    argv = [sys.executable, "-W", "ignore", "-m", "tests.bench.rtl_plain"]
    argv += [*(str(folder / name) for name in ("graph.json", "vectors.npz", "plain")), str(CUTOFF)]
    _say(f"{model}: da4ml's own trace")
    done = subprocess.run(argv, check=True, capture_output=True, text=True)
    _say(f"{model}: {json.loads(done.stdout.splitlines()[-1])['adders']} adders by da4ml")
    sources = folder / "plain" / "src"
    static = [p for p in sorted(sources.glob("static/*.v")) if p.stem != "lookup_table"]
    made = [p for p in sorted(sources.glob("plain*.v")) if p.stem != "plain_wrapper"]
    return [*made, *static]


def _luts(sources: Sequence[Path], top: str, folder: Path) -> int:
    """LUTs of four inputs after synthesis for an iCE40."""
    folder.mkdir()
    synthesize(sources, top, find_part("hx8k"), folder, _say)
    return int(read_synthesized(folder).found.resources[Resource.LUT].used)


_UNIFORM_COLUMNS = (
    *("recipe", "accuracy", "lut4", "uniform_4_bit_accuracy", "uniform_4_bit_lut4"),
    *("points_below", "ratio"),
)


def _against_uniform(model: str) -> list[str]:
    made = []
    for options in ({}, UNIFORM):
        accuracy = statistics.mean(_accuracies(model, options))
        with tempfile.TemporaryDirectory(dir=FOLDER) as held:
            source = _ours(model, options, Path(held))
            made.append((accuracy, _luts([source], MODULE, Path(held) / "made")))
    (own, luts), (uniform, more) = made
    return [
        *(f"{own:.2f}", str(luts), f"{uniform:.2f}", str(more)),
        *(f"{uniform - own:.2f}", f"{luts / more:.3f}"),
    ]


if __name__ == "__main__":
    sys.exit(main())
