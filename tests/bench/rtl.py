"""What the target rtl makes of its recipes: accuracy, LUTs, clock; against da4ml and 4 bits.

Three tables in reports/baseline, each with a row per line of the tables below:

* rtl_recipes.csv: accuracy over three seeds, and the network of seed 0 compiled to a bitstream,
  byte stream included, each compile proven as every compile is; `seconds` is Yosys and nextpnr.
* rtl_da4ml.csv: LUTs of the network's module alone against da4ml's own Verilog of the same graph
  (`rtl_plain`), both by the same Yosys script for one iCE40; the last row is the geometric mean.
* rtl_uniform.csv: accuracy and LUTs of the recipes' networks, and of networks of their layers with
  4 bits for input, weights and activations and fewer channels, each the mean of six seeds.
  `equal_lut4` is what 4 bits take for the recipe's accuracy: between the two channel counts around
  it, on the line through them, where accuracy does not fall with channels (isotonic regression).
  `ratio` is the recipe's LUTs over that, `interval` its 95 % by a bootstrap over seeds; `window`
  the ratios to each of those networks that is right as often by 0.3 points.

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
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

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
EQUAL_SEEDS = range(6)
DRAWS = 2000
_COMPILED = ("lut4", "lc placed", "ff", "fmax", "latency_cycles", "latency")
_TOOLS = ("yosys time", "nextpnr-ice40 time", "nextpnr-ecp5 time")

Rows = dict[str, list[str]]
Floats = NDArray[np.float64]


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


_UNIFORM_COLUMNS = ("network", "accuracy", "each", "lut4", "lut4_each")
_EQUAL_COLUMNS = (*_UNIFORM_COLUMNS, "equal_lut4", "ratio", "interval", "window")


def _against_uniform() -> None:
    narrow = {
        f"{model} at {BITS} bits, {channels} channels": _uniform(MODELS[model](), channels)
        for model in RECIPES
        for channels in UNIFORM[model]
    }
    recipes = {model: MODELS[model]() for model in RECIPES} | narrow
    rows = _table(
        "rtl_uniform.csv", _UNIFORM_COLUMNS, recipes,
        lambda network, _: _accuracy_and_luts(network, recipes[network]),
    )  # fmt: skip
    found = {network: _numbers(row) for network, row in rows.items()}
    curve = [found[network] for network in narrow]
    with (FOLDER / "rtl_uniform.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_EQUAL_COLUMNS)
        for network, row in rows.items():
            own = network in RECIPES
            writer.writerow([*row[:5], *(_compared(found[network], curve) if own else [""] * 4)])
    print((FOLDER / "rtl_uniform.csv").read_text(), flush=True)


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


def _accuracy_and_luts(network: str, recipe: Recipe) -> list[str]:
    each, counts = [], []
    for seed in EQUAL_SEEDS:
        result = _trained(replace(recipe, seed=seed))
        each.append(_percent(result))
        with tempfile.TemporaryDirectory(dir=FOLDER) as held:
            source = _verilog(import_qonnx(read(result.model), recipe.name).graph, Path(held))
            counts.append(_luts([source], MODULE, Path(held) / "made"))
        _say(f"{network} seed {seed}: {each[-1]:.2f} %, {counts[-1]} LUTs")
    accuracies = " ".join(f"{value:.4f}" for value in each)
    luts = " ".join(map(str, counts))
    return [f"{statistics.mean(each):.2f}", accuracies, f"{statistics.mean(counts):.0f}", luts]


def _numbers(row: Sequence[str]) -> Floats:
    """Accuracies and LUTs, (2, seeds)."""
    return np.array([row[2].split(), row[4].split()], float)


def _compared(own: Floats, curve: Sequence[Floats]) -> list[str]:
    """What stands in the last columns for networks (2, seeds) against those of the curve."""
    equal = _equal(own, curve)
    rng = np.random.default_rng(0)
    draws = rng.integers(len(EQUAL_SEEDS), size=(DRAWS, len(EQUAL_SEEDS)))
    ratios = []
    for drawn in draws:  # the networks of a seed have their teachers in common
        again = own[:, drawn]
        ratios.append(again[1].mean() / _equal(again, [each[:, drawn] for each in curve]))
    low, high = np.percentile(ratios, (2.5, 97.5), method="nearest")
    near = [
        own[1].mean() / other[1].mean()
        for other in curve
        if abs(other[0].mean() - own[0].mean()) <= EQUAL
    ]
    return [
        *(f"{equal:.0f}", f"{own[1].mean() / equal:.3f}", f"{low:.3f} {high:.3f}"),
        " ".join(f"{ratio:.3f}" for ratio in near),
    ]


def _equal(own: Floats, curve: Sequence[Floats]) -> float:
    """LUTs that the curve's networks, of more and more channels, take for the accuracy of `own`;
    0 where all of them are better, as fewer channels may do then."""
    luts = [other[1].mean() for other in curve]
    reached = isotonic_regression([other[0].mean() for other in curve]).x  # luts rise
    _, first = np.unique(reached, return_index=True)  # as good with more LUTs is no better
    return float(np.interp(own[0].mean(), reached[first], np.array(luts)[first], left=0.0))


if __name__ == "__main__":
    sys.exit(main())
