"""One graph per op and way of using it, generated from the op table, and what targets make of it.

`make conformance` runs every case through every target's simulated hardware and writes the matrix
to reports/baseline/conformance.csv; `make test` checks the refusals of all and runs a sample.
`python -m tests.conformance.cases tflite` measures only the columns of that name anew.
"""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from flow.graph import Graph, Node, Value
from flow.importer import HostInput, HostOutput
from flow.interp import Interpreter
from flow.ops import (
    OPS,
    Add,
    Concat,
    Conv,
    Dense,
    DepthToSpace,
    Flatten,
    IntArray,
    MaxPool,
    Mul,
    Op,
    Pad,
    Relu,
    Requant,
    Reshape,
    Shape,
    Slice,
    SumPool,
    Table,
    Threshold,
    Transpose,
    Upsample,
)
from flow.options import option_types
from flow.plan import source_digest
from flow.qtype import QType
from flow.requant import Rounding
from flow.target import Program, Target
from flow.vectors import make_vectors
from flow.verify import agreement
from targets import TARGETS
from tests.conformance.programs import kept_in

MATRIX = Path("reports/baseline/conformance.csv")
CACHE = Path("reports/runs/conformance")
IMAGE: Shape = (3, 5, 5)
VECTOR: Shape = (7,)
VECTORS = 60
ONE = (Fraction(1),)


@dataclass(frozen=True, eq=False)
class Case:
    """A graph that uses `op`; `label` says how."""

    op: str
    label: str
    graph: Graph


def _ints(rng: np.random.Generator, shape: Shape, low: int = -7, high: int = 7) -> IntArray:
    return rng.integers(low, high, shape, endpoint=True, dtype=np.int64)


def _graph(qtype: QType, shape: Shape, *steps: tuple[Op, tuple[int, ...]]) -> Graph:
    """Nodes whose inputs are earlier values, by number: 0 is the input. A last 1x1 convolution or
    dense layer makes sure that something is computed behind ops that only move codes."""
    values = [Value("x", shape, qtype, ONE)]
    nodes: list[Node] = []
    rng = np.random.default_rng(0)
    steps = (*steps, (_last(rng, steps, values), (len(steps),)))
    for number, (op, sources) in enumerate(steps, start=1):
        made = op.output_shape(*(values[i].shape for i in sources))
        inputs = tuple(values[i].name for i in sources)
        wide = op.qtype if isinstance(op, Requant) else QType(62, signed=True)
        value = Value(f"n{number}", made, wide, ONE)
        values.append(value)
        nodes.append(Node(value.name, op, inputs, value))
    return Graph.build("case", values[0], tuple(nodes))


def _last(
    rng: np.random.Generator, steps: tuple[tuple[Op, tuple[int, ...]], ...], values: list[Value]
) -> Op:
    shapes = [values[0].shape]
    for op, sources in steps:
        shapes.append(op.output_shape(*(shapes[i] for i in sources)))
    channels = shapes[-1][0]
    bias = _ints(rng, (2,))
    if len(shapes[-1]) == 3:
        return Conv(_ints(rng, (2, channels, 1, 1)), bias)
    if len(shapes[-1]) == 1:
        return Dense(_ints(rng, (2, channels)), bias)
    return Flatten()


def _requant(rng: np.random.Generator, **more: object) -> Requant:
    settings: dict[str, object] = {
        "scale": (Fraction(1, 8),),
        "offset": (Fraction(0),),
        "qtype": QType(4, signed=False),
        "low": 0,
        "high": 15,
        **more,
    }
    return Requant(**settings)  # type: ignore[arg-type]


def _conv(rng: np.random.Generator, **more: object) -> Conv:
    groups = int(more.get("groups", 1))  # type: ignore[call-overload]
    each = int(more.pop("each", 2))  # type: ignore[call-overload]
    kernel = more.pop("kernel", (3, 2))
    weight = _ints(rng, (each * groups, 3 // groups, *kernel))  # type: ignore[misc]
    return Conv(weight, _ints(rng, (each * groups,)), **more)  # type: ignore[arg-type]


def cases() -> Iterator[Case]:
    """Every case. Each op of the table has at least one; a test sees to that."""
    rng = np.random.default_rng(1)
    types = (QType(4, signed=False), QType(6, signed=True))
    for qtype in types:
        for op, label, shape in _single(rng):
            yield Case(op.name, f"{label}, {qtype}", _graph(qtype, shape, (op, (0,))))
        yield from _requants(rng, qtype)
        for op, label in _double():
            other = _requant(rng, scale=ONE, low=0, high=7, qtype=QType(3, signed=False))
            branch = (other, (0,))
            for shape in (IMAGE, VECTOR):
                graph = _graph(qtype, shape, branch, (op, (0, 1)))
                yield Case(op.name, f"{label}, {len(shape)}-D, {qtype}", graph)
    yield from _signs(np.random.default_rng(2), types[1])


def _single(rng: np.random.Generator) -> Iterator[tuple[Op, str, Shape]]:
    yield Dense(_ints(rng, (4, 7)), _ints(rng, (4,), -99, 99)), "plain", VECTOR
    yield _conv(rng), "valid", IMAGE
    yield _conv(rng, pads=(1, 0, 1, 1)), "padded", IMAGE
    yield _conv(rng, pads=(1, 0, 1, 1), pad_value=3), "padded with a zero-point", IMAGE
    yield _conv(rng, stride=(2, 2)), "strided", IMAGE
    yield _conv(rng, groups=3), "depthwise", IMAGE
    yield _conv(rng, kernel=(1, 2), stride=(2, 1)), "one row, strided", IMAGE
    yield _conv(rng, groups=3, each=1), "depthwise, one filter each", IMAGE
    yield (
        _conv(rng, groups=3, each=1, pads=(1, 0, 1, 1), stride=(2, 2), pad_value=3),
        "depthwise, strided, padded with a zero-point",
        IMAGE,
    )
    yield _conv(rng, dilation=(2, 2)), "dilated", IMAGE
    yield MaxPool((2, 2), (2, 2)), "even", IMAGE
    yield MaxPool((3, 3), (1, 1), (1, 1, 1, 1)), "overlapping, padded", IMAGE
    yield SumPool((2, 2), (2, 2)), "even", IMAGE
    yield SumPool((5, 5), (1, 1)), "global", IMAGE
    yield Relu(), "at 0", IMAGE
    yield Relu(2), "at a zero-point", VECTOR
    yield Threshold(np.array([[2]]), np.array([-1, 1])), "bipolar", IMAGE
    yield Threshold(_ints(rng, (3, 1), 0, 5), np.array([0, 1])), "per channel", IMAGE
    yield Threshold(np.array([[0, 3, 5]]), np.arange(4)), "several steps", IMAGE
    yield Table(np.arange(300)[::-1] % 13, -128), "any function", VECTOR
    yield Flatten(), "image", IMAGE
    yield Reshape((3, 1, 25)), "rows", IMAGE
    yield Transpose((0, 2, 1)), "image", IMAGE
    yield Pad((0, 1, 0), (0, 0, 2)), "zeros", IMAGE
    yield Pad((0, 1, 0), (0, 0, 2), 3), "a code", IMAGE
    yield Slice((0, 1, 0), (3, 5, 4), (1, 1, 1)), "image", IMAGE
    yield Upsample((2, 3)), "image", IMAGE
    yield DepthToSpace(2), "image", (4, 3, 3)


def _signs(rng: np.random.Generator, qtype: QType) -> Iterator[Case]:
    """Weights and activations that are only -1 and 1, with biases."""

    def signs(*shape: int) -> IntArray:
        return rng.choice([-1, 1], shape).astype(np.int64)

    sign = Threshold(_ints(rng, (3, 1), -3, 4), np.array([-1, 1]))
    ways: list[tuple[str, Dense | Conv, bool]] = [
        ("signs on signs", Dense(signs(4, 7), _ints(rng, (4,))), True),
        ("signs on signs", Conv(signs(2, 3, 3, 2), _ints(rng, (2,))), True),
        (
            "signs on signs, padded, strided",
            Conv(signs(2, 3, 3, 2), _ints(rng, (2,)), (2, 1), (1, 0, 1, 1)),
            True,
        ),
        ("signs on integers", Conv(signs(2, 3, 3, 2), _ints(rng, (2,))), False),
    ]
    for label, op, bits in ways:
        vector = isinstance(op, Dense)
        first = Threshold(sign.cuts[:1], sign.codes) if vector else sign
        steps: list[tuple[Op, tuple[int, ...]]] = [(first, (0,))] if bits else []
        graph = _graph(qtype, VECTOR if vector else IMAGE, *steps, (op, (len(steps),)))
        yield Case(op.name, f"{label}, {qtype}", graph)


def _double() -> Iterator[tuple[Op, str]]:
    yield Add((1, 1)), "one grid"
    yield Add((3, -2), 5), "two grids"
    yield Mul(), "plain"
    yield Mul((2, 1)), "zero-points"
    yield Concat(0), "channels"


def _requants(rng: np.random.Generator, qtype: QType) -> Iterator[Case]:
    """Scales, signs, ties, rounding modes, clamps and zero-points behind a dense layer."""
    ways: list[tuple[str, Callable[[], Requant]]] = [
        ("shift with ties", lambda: _requant(rng)),
        ("shift per channel", lambda: _requant(rng, scale=(Fraction(1, 8), Fraction(1, 2)) * 2)),
        ("float", lambda: _requant(rng, scale=(Fraction(13421773, 1 << 27),))),
        (
            "float per channel with offsets",
            lambda: _requant(
                rng,
                scale=tuple(Fraction(int(v), 1 << 12) for v in _ints(rng, (4,), 100, 900)),
                offset=tuple(Fraction(int(v), 99) for v in _ints(rng, (4,), -300, 300)),
            ),
        ),
        ("decreasing", lambda: _requant(rng, scale=(Fraction(-1, 10),))),
        ("floor", lambda: _requant(rng, rounding=Rounding.FLOOR)),
        ("ceil", lambda: _requant(rng, rounding=Rounding.CEIL, scale=(Fraction(1, 7),))),
        ("toward zero", lambda: _requant(rng, rounding=Rounding.TO_ZERO)),
        (
            "signed narrow",
            lambda: _requant(rng, qtype=QType(4, signed=True, narrow=True), low=-7, high=7),
        ),
        ("odd clamp", lambda: _requant(rng, low=2, high=11)),
        ("zero-point inside", lambda: _requant(rng, zero_point=5)),
        ("odd zero-point outside", lambda: _requant(rng, zero_point=5, zero_inside=False)),
        ("one bit", lambda: _requant(rng, low=0, high=1, qtype=QType(1, signed=False))),
        ("ties of a sixth", lambda: _requant(rng, scale=(Fraction(1, 6),))),
    ]
    for label, make in ways:
        dense = Dense(_ints(rng, (4, 7)), _ints(rng, (4,), -99, 99))
        graph = _graph(qtype, VECTOR, (dense, (0,)), (make(), (1,)))
        yield Case("requant", f"{label}, {qtype}", graph)


# Variants besides those of io_type and strategy.
MORE = {
    "analog": [
        {"scheme": "offset", "rows": "4", "columns": "3"},
        {"scheme": "bit_sliced", "slice_bits": "1", "device": "rram"},
        {"device": "photonic"},
    ],
    "hls4ml": [
        {"backend": backend, "io_type": io_type, "strategy": strategy}
        for backend, strategy in (("Quartus", "resource"), ("Catapult", "latency"))
        for io_type in ("io_parallel", "io_stream")
    ],
    "tflite": [
        # It rounds twice: ties are exact only where every step is compared.
        {"runtime": "tflite-runtime", "exact": "proven"},
        {"runtime": "tflite-runtime", "xnnpack": "true"},
        {"activations": "int16", "exact": "proven"},
        {"runtime": "tflite-runtime", "activations": "int16", "exact": "proven"},
    ],
}


def variants() -> Iterator[tuple[str, Target]]:
    """Every target in each of its variants that changes what is built: its Enum options named
    io_type and strategy, where it has them, and those of MORE."""
    for name, load in TARGETS.items():
        target = load()()
        kinds = option_types(load())
        choices = [
            [(key, str(member.value)) for member in kinds[key]]  # type: ignore[attr-defined]
            for key in ("io_type", "strategy")
            if key in kinds
        ]
        for chosen in itertools.product(*choices):
            label = " ".join((name, *(value for _, value in chosen)))
            yield label, target.with_options(dict(chosen))
        for options in MORE.get(name, ()):
            named = {k: v for k, v in options.items() if not v.isdigit()}
            words = (key if value == "true" else value for key, value in named.items())
            yield " ".join((name, *words)), target.with_options(options)


def run(case: Case, target: Target, folder: Path) -> bool:
    """Whether the built target computes the reference's outputs on every vector."""
    graph = case.graph
    vectors = make_vectors(graph.input, None)[:VECTORS]
    expected = Interpreter(graph).run(vectors)
    head = HostInput(graph.input.shape, (), 1.0, 0, True, Rounding.HALF_EVEN, graph.input.qtype)
    tail = HostOutput(ONE, (Fraction(0),), None, None, ())
    target.emit(Program(graph, head, tail, vectors, expected), folder)
    return agreement(expected, target.simulation(graph, folder).run(vectors)).matches


def verdict(case: Case, label: str, target: Target) -> str:
    """exact, refused or WRONG; kept, so that an interrupted sweep goes on where it was."""
    if target.check(case.graph):
        return "refused"
    key = hashlib.sha256(f"{case.graph.to_json()} {label} {source_digest()}".encode()).hexdigest()
    kept = CACHE / key
    if kept.is_file():
        return kept.read_text()
    folder = Path(tempfile.mkdtemp(prefix="bitwright-"))
    try:
        with kept_in(CACHE / "programs"):
            found = "exact" if run(case, target, folder) else "WRONG"
    finally:
        shutil.rmtree(folder)
    CACHE.mkdir(parents=True, exist_ok=True)
    kept.write_text(found)
    return found


def matrix(path: Path) -> dict[tuple[str, str], dict[str, str]]:
    """A matrix that was written: (op, case) to target variant to exact or refused."""
    with path.open() as handle:
        return {(row.pop("op"), row.pop("case")): row for row in csv.DictReader(handle)}


def _row(number: int, only: str, kept: dict[str, str]) -> list[str]:
    """One case through every variant whose name begins so, in a process of its own; the others'
    verdicts are kept."""
    case = list(cases())[number]
    found = (
        verdict(case, label, target) if label.startswith(only) else kept[label]
        for label, target in variants()
    )
    return [case.op, case.label, *found]


def main(only: str = "") -> int:
    """Run all on every core, write the matrix; 1 if something is neither exact nor refused. Columns
    whose names do not begin with `only` stay as they were written."""
    every, rows = list(cases()), []
    count = len(every)
    written = matrix(MATRIX) if only else {}
    kept = [written[case.op, case.label] if only else {} for case in every]
    with ProcessPoolExecutor() as pool:
        done = pool.map(_row, range(count), [only] * count, kept)
        for number, row in enumerate(done, start=1):
            rows.append(row)
            print(f"{number}/{count} {row[0]}, {row[1]}: {' '.join(row[2:])}", file=sys.stderr)
    MATRIX.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["op", "case", *(label for label, _ in variants())])
    writer.writerows(rows)
    MATRIX.write_text(text.getvalue())
    found = {word: sum(row.count(word) for row in rows) for word in ("exact", "refused", "WRONG")}
    print(", ".join(f"{n} {word}" for word, n in found.items()), f"({len(OPS)} ops)")
    return int(found["WRONG"] > 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
