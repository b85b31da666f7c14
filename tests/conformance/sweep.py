"""The long sweep: a million requantizations, 2,000 random graphs against the oracle, 300 of them
through hls4ml. Part of `make conformance`; prints what it counted, 1 if anything differs."""

from __future__ import annotations

import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from pathlib import Path

import numpy as np

from flow import oracle
from flow.importer import Imported, import_qonnx
from flow.interp import Interpreter
from flow.onnx_file import OnnxFile, read
from flow.requant import Rounding, Rule, exact_form, fit
from flow.target import Program
from flow.vectors import make_vectors
from flow.verify import agreement
from targets.hls4ml.target import Hls4ml, IoType, Strategy
from tests.network.wide import wide_net

RULES, ACCUMULATORS = 2_000, 500
GRAPHS, BUILDS = 2_000, 300


def requants(seed: int) -> tuple[int, int]:
    """(cases, differences) of one random rule: its steps, and its cheapest proven form, against the
    rule in rational arithmetic."""
    rng = np.random.default_rng(seed)
    kind = int(rng.integers(3))
    if kind == 0:
        scale = Fraction(float(np.float32(2.0 ** rng.uniform(-12, 1))))
    elif kind == 1:
        scale = Fraction(int(rng.integers(1, 30)), int(rng.integers(1, 30)))
    else:
        scale = Fraction(2) ** int(rng.integers(-12, 2))
    low = int(rng.integers(-130, 1))
    rule = Rule(
        scale * int(rng.choice([1, 1, -1])),
        Fraction(int(rng.integers(-999, 999)), int(rng.integers(1, 99))),
        list(Rounding)[int(rng.integers(len(Rounding)))],
        int(rng.integers(-9, 9)),
        bool(rng.random() < 0.5),
        low,
        low + int(rng.integers(1, 256)),
    )
    start = int(rng.integers(-3000, 2500))
    accs = np.arange(start, start + ACCUMULATORS)
    steps = rule.steps(start, start + ACCUMULATORS - 1)
    expected = np.array([rule.code(int(acc)) for acc in accs])
    wrong = int((steps.apply(accs) != expected).sum())
    for form in (fit(steps, rule.scale), exact_form(rule)):
        if form is not None:
            unit = Fraction(1, 1 << form.shift)
            reals = [(int(a) * form.multiplier + form.offset) * unit for a in accs]
            codes = np.clip([form.rounding.apply(r) for r in reals], rule.low, rule.high)
            wrong += int((codes != expected).sum())
    return len(accs), wrong


def _load(seed: int, folder: Path) -> tuple[OnnxFile, Imported]:
    path = wide_net(np.random.default_rng(seed), folder / "net.onnx", po2=bool(seed % 2))
    file = read(path)
    return file, import_qonnx(file, "net")


def graph(seed: int) -> int:
    """Codes of one random graph that were compared with the oracle (which raises a Mismatch)."""
    with tempfile.TemporaryDirectory() as folder:
        file, imported = _load(seed, Path(folder))
        codes = make_vectors(imported.graph.input, None)[:40]
        trace = Interpreter(imported.graph).trace(codes)
        return oracle.check(file, imported, codes, trace).codes


def build(seed: int) -> str:
    """exact, refused or WRONG: one random graph through hls4ml's C simulation."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _, imported = _load(seed, folder)
        target = Hls4ml(io_type=list(IoType)[seed // 2 % 2], strategy=list(Strategy)[seed // 4 % 2])
        if target.check(imported.graph):
            return "refused"
        vectors = make_vectors(imported.graph.input, None)[:60]
        expected = Interpreter(imported.graph).run(vectors)
        artifact = folder / "artifact"
        artifact.mkdir()
        program = Program(imported.graph, imported.head, imported.tail, vectors, expected)
        target.emit(program, artifact)
        found = target.simulation(imported.graph, artifact).run(vectors)
        return "exact" if agreement(expected, found).matches else f"WRONG (seed {seed})"


def main(builds: int) -> int:
    """Run all three on every core, with progress."""
    with ProcessPoolExecutor() as pool:
        rows = list(pool.map(requants, range(RULES), chunksize=50))
        wrong = sum(row[1] for row in rows)
        print(f"{sum(row[0] for row in rows)} requantizations, {wrong} differences", flush=True)
        compared = list(pool.map(graph, range(GRAPHS), chunksize=20))
        print(f"{GRAPHS} random graphs, {sum(compared)} codes, all the oracle's", flush=True)
        done = exact = seed = 0
        while exact < builds:
            batch = range(seed, seed + 16)
            for verdict in pool.map(build, batch):
                done += verdict != "refused"
                exact += verdict == "exact"
                if verdict.startswith("WRONG"):
                    print(verdict, flush=True)
                    wrong += 1
            seed += 16
            print(f"{done} built, {exact} exact, {seed - done} refused", file=sys.stderr)
    print(f"{done} random graphs through hls4ml, {exact} exact, {seed - done} refused")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else BUILDS))
