"""What the target rtl makes of its recipes: accuracy, LUTs, clock; against da4ml and 4 bits.

Three tables in reports/baseline, each with a row per line of the tables below:

* rtl_recipes.csv: accuracy over three seeds, and the network of seed 0 compiled to a bitstream,
  byte stream included, each compile proven as every compile is; `seconds` is Yosys and nextpnr.
* rtl_da4ml.csv: LUTs of the network's module alone against da4ml's own Verilog of the same graph
  (`rtl_plain`), both by the same Yosys script for one iCE40; the last row is the geometric mean.
* rtl_uniform.csv: LUTs of the recipe's network, and of networks of its layers with 4 bits for
  input, weights and activations and fewer channels, each the mean of three seeds. A ratio stands
  where such a network is right as often, by 0.3 points; the largest is what counts.

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
from dataclasses import replace
from pathlib import Path

import numpy as np

from flow.driver import compile_model
from flow.graph import Graph
from flow.importer import import_qonnx
from flow.onnx_file import read
from flow.plan import Events, Request
from flow.qat.once import trained
from flow.qat.recipe import Conv, Recipe
from flow.qat.result import TrainResult
from flow.report.vendor.synthesis import Resource
from flow.vectors import make_vectors
from models import MODELS
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
UNIFORM = {"digits_hx8k": (4, 5), "digits_ecp5": (6, 7)}  # channels, of 4 bits
BITS = 4
EQUAL = 0.3  # points
_COMPILED = ("lut4", "lc placed", "ff", "fmax", "latency_cycles", "latency")
_TOOLS = ("yosys time", "nextpnr-ice40 time", "nextpnr-ecp5 time")

Rows = dict[str, list[str]]


def main() -> int:
    _table("rtl_recipes.csv", _RECIPE_COLUMNS, RECIPES, _recipe)
    against = _table("rtl_da4ml.csv", _DA4ML_COLUMNS, AGAINST_DA4ML, _against_da4ml)
    mean = statistics.geometric_mean(float(row[-1]) for row in against.values())
    with (FOLDER / "rtl_da4ml.csv").open("a") as file:
        file.write(f"geometric mean,,,{mean:.3f}\n")
    _against_uniform()
    return 0


def _table(
    name: str, columns: Sequence[str], keys: Sequence[str] | Mapping[str, object],
    row: Callable[[str, Rows], list[str]],
) -> Rows:  # fmt: skip
    """The table's rows, those that were there and those that are measured now."""
    path, rows = FOLDER / name, {}
    if path.is_file():
        with path.open(newline="") as file:
            rows = {line[0]: line for line in list(csv.reader(file))[1:] if line[0] in keys}
    for key in keys:
        if key not in rows:
            rows[key] = [key, *row(key, rows)]
        with path.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([columns, *rows.values()])
    print(path.read_text(), flush=True)
    return rows


def _trained(recipe: Recipe) -> TrainResult:
    runs = Request("", "").runs
    folder = runs / "models" / f"{recipe.name}-{recipe.digest()[:8]}"
    result = trained(recipe, folder, runs / "twins", note=_say)
    _say(f"{recipe.name} seed {recipe.seed}: {_percent(result):.2f} %")
    return result


def _percent(result: TrainResult) -> float:
    """Of the test samples."""
    assert result.accuracy is not None
    return 100 * result.accuracy


def _graph(model: str) -> Graph:
    """Of seed 0."""
    return import_qonnx(read(_trained(MODELS[model]()).model), model).graph


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


_RECIPE_COLUMNS = (
    *("recipe", "part", "seeds", "accuracy", "each", "lut4", "cells", "ff", "fmax_mhz"),
    *("latency_cycles", "latency_ns", "seconds"),
)


def _recipe(model: str, _: Rows) -> list[str]:
    each = [_percent(_trained(replace(MODELS[model](), seed=seed))) for seed in SEEDS]
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


def _against_da4ml(model: str, _: Rows) -> list[str]:
    with tempfile.TemporaryDirectory(dir=FOLDER) as held:
        folder = Path(held)
        graph = _graph(model)
        ours = _luts([_verilog(graph, folder)], MODULE, folder / "ours")
        theirs = _luts(_da4ml(model, graph, folder), "plain", folder / "theirs")
    return [str(ours), str(theirs), f"{ours / theirs:.3f}"]


def _verilog(graph: Graph, folder: Path) -> Path:
    """The network's module alone."""
    solver = Solver(-1, -1)
    made = netlist(graph, solver, trace(graph, solver), (graph.output.name,), CUTOFF)
    path = folder / f"{MODULE}.v"
    path.write_text(emit(made, Ports.of(graph)))
    return path


def _da4ml(model: str, graph: Graph, folder: Path) -> list[Path]:
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


_UNIFORM_COLUMNS = ("network", "accuracy", "each", "lut4", "lut4_each", "ratio")


def _against_uniform() -> None:
    narrow = {
        f"{model} at {BITS} bits, {channels} channels": (model, channels)
        for model in RECIPES
        for channels in UNIFORM[model]
    }

    def row(network: str, rows: Rows) -> list[str]:
        if network in RECIPES:
            return _row(network, MODELS[network]())
        model, channels = narrow[network]
        own = rows[model]
        return _row(network, _uniform(MODELS[model](), channels), (float(own[1]), float(own[3])))

    _table("rtl_uniform.csv", _UNIFORM_COLUMNS, [*RECIPES, *narrow], row)


def _uniform(recipe: Recipe, channels: int) -> Recipe:
    """The recipe with `BITS` bits everywhere, and so many channels."""
    first, *others = recipe.layers
    assert isinstance(first, Conv)
    layers = (replace(first, channels=channels), *others)
    name = f"{recipe.name}_uniform"
    return replace(
        recipe, name=name, layers=layers, overrides=(),
        input_bits=BITS, weight_bits=BITS, act_bits=BITS,
    )  # fmt: skip


def _row(network: str, recipe: Recipe, own: tuple[float, float] | None = None) -> list[str]:
    """Accuracy in percent and, of networks that are right as often as the `own` (accuracy, LUTs),
    LUTs, with how many times theirs the own are."""
    results = [_trained(replace(recipe, seed=seed)) for seed in SEEDS]
    each = [_percent(result) for result in results]
    accuracy = statistics.mean(each)
    told = [f"{accuracy:.2f}", " ".join(f"{value:.2f}" for value in each)]
    if own is not None and abs(accuracy - own[0]) > EQUAL:
        return [*told, "", "", ""]
    counts = []
    for seed, result in zip(SEEDS, results, strict=True):
        with tempfile.TemporaryDirectory(dir=FOLDER) as held:
            source = _verilog(import_qonnx(read(result.model), recipe.name).graph, Path(held))
            counts.append(_luts([source], MODULE, Path(held) / "made"))
        _say(f"{network} seed {seed}: {each[seed]:.2f} %, {counts[-1]} LUTs")
    mean = statistics.mean(counts)
    ratio = "" if own is None else f"{own[1] / mean:.3f}"
    return [*told, f"{mean:.0f}", " ".join(map(str, counts)), ratio]


if __name__ == "__main__":
    sys.exit(main())
