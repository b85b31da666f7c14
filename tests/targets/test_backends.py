"""hls4ml's other backends, strategies and its depthwise convolution: exact, or refused."""

from __future__ import annotations

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from flow.errors import ToolMissing
from flow.graph import Graph
from flow.importer import HostInput, HostOutput
from flow.interp import Interpreter
from flow.ops import Conv, Dense, IntArray, MaxPool, Requant, SumPool, Threshold, Transpose
from flow.qtype import QType
from flow.requant import Rounding
from flow.target import Matrix, Program, Simulation
from flow.vectors import make_vectors
from targets.hls4ml.layers import Kind
from targets.hls4ml.lower import lower
from targets.hls4ml.target import Hls4ml
from tests.conformance.cases import ONE, _graph, _ints, _requant

RNG = np.random.default_rng(5)


def build(graph: Graph, folder: Path, vectors: IntArray, **options: str) -> Simulation:
    """The simulation of the graph's artifact, built in `folder`."""
    target = Hls4ml().with_options(options)
    expected = Interpreter(graph).run(vectors)
    head = HostInput(graph.input.shape, (), 1.0, 0, True, Rounding.HALF_EVEN, graph.input.qtype)
    tail = HostOutput(ONE, (Fraction(0),), None, None, ())
    target.emit(Program(graph, head, tail, vectors, expected), folder)
    return target.simulation(graph, folder)


def built(graph: Graph, folder: Path, **options: str) -> Hls4ml:
    """The target with its artifact in `folder`, equal to the reference in outputs and trace."""
    target = Hls4ml().with_options(options)
    assert target.check(graph) == []
    vectors = make_vectors(graph.input, None)[:60]
    reference = Interpreter(graph).trace(vectors)
    simulation = build(graph, folder, vectors, **options)
    np.testing.assert_array_equal(simulation.run(vectors), reference[graph.output.name])
    trace = simulation.trace(vectors)
    assert len(trace) > 2
    for name, found in trace.items():
        np.testing.assert_array_equal(found, reference[name], err_msg=name)
    return target


def mixed() -> Graph:
    """Ties, a scale that is no power of two, a clamp to one bit, a comparator, a pool."""
    return _graph(
        QType(5, signed=True),
        (2, 6, 6),
        (Conv(_ints(RNG, (3, 2, 3, 2)), _ints(RNG, (3,)), (2, 1), (1, 0, 1, 1)), (0,)),
        (_requant(RNG, scale=tuple(Fraction(v, 97) for v in (9, 17, 31))), (1,)),
        (MaxPool((1, 2), (1, 2)), (2,)),
        (Conv(_ints(RNG, (4, 3, 1, 1)), _ints(RNG, (4,))), (3,)),
        (_requant(RNG, low=0, high=1, qtype=QType(1, signed=False)), (4,)),
        (Threshold(np.array([[1]]), np.array([-1, 1])), (5,)),
    )


@pytest.mark.parametrize(
    "options",
    [
        {"backend": "Quartus", "strategy": "resource", "io_type": "io_stream"},
        {"backend": "Catapult", "io_type": "io_stream"},
    ],
    ids=lambda options: " ".join(options.values()),
)
def test_a_backend_is_exact_layer_by_layer(tmp_path: Path, options: dict[str, str]) -> None:
    built(mixed(), tmp_path, **options)
    predictions = tmp_path / "project" / "tb_data" / "tb_output_predictions.dat"
    first, rest = predictions.read_text().split(" ", 1)
    predictions.write_text(f"{int(first) + 1} {rest}")
    done = subprocess.run(
        ["project/check.sh"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "FAILED: 1 outputs differ in 60 vectors" in done.stderr
    assert f"vector 0, output 0: reference {int(first) + 1}, simulation {first}" in done.stderr
    for path in (tmp_path / "project").rglob("*"):
        assert path.is_dir() or str(tmp_path).encode() not in path.read_bytes(), path


@pytest.mark.parametrize("io_type", ["io_parallel", "io_stream"])
def test_every_reuse_factor_of_a_convolution_is_exact(tmp_path: Path, io_type: str) -> None:
    """A chain of convolutions of one shape, each with another of the factors that it allows."""
    target = Hls4ml().with_options({"io_type": io_type, "strategy": "resource"})
    factors = target._reuse_factors(Matrix(8, 2, convolved=True))
    # At 16, above a row of the matrix, hls4ml's io_parallel code is wrong.
    assert factors == [1, 2, 4, 8, 16][: 4 if io_type == "io_parallel" else 5]
    steps: list[tuple[Conv | Requant, tuple[int, ...]]] = []
    for _ in factors:
        conv = Conv(_ints(RNG, (2, 2, 2, 2)), _ints(RNG, (2,)), pads=(0, 0, 1, 1))
        steps.append((conv, (len(steps),)))
        steps.append((_requant(RNG), (len(steps),)))
    reuse = {f"n{2 * place + 1}.reuse_factor": str(f) for place, f in enumerate(factors)}
    graph = _graph(QType(4, signed=True), (2, 4, 4), *steps)
    target = built(graph, tmp_path, io_type=io_type, strategy="resource", **reuse)
    assert [target._reuse(layer) for layer in lower(graph).layers if layer.inputs][:-1] == factors


def depthwise() -> Graph:
    """Scales per channel; a kernel of one row and a vertical stride, which hls4ml's stream code
    for one row forgets; an average pool, which is a depthwise convolution with ones."""
    scales = (Fraction(1, 8), Fraction(1, 16), Fraction(5, 64))
    return _graph(
        QType(5, signed=True),
        (3, 9, 7),
        (Conv(_ints(RNG, (3, 1, 3, 2)), _ints(RNG, (3,)), pads=(1, 0, 1, 1), groups=3), (0,)),
        (_requant(RNG, scale=scales), (1,)),
        (Conv(_ints(RNG, (3, 1, 1, 2)), _ints(RNG, (3,)), (2, 1), groups=3), (2,)),
        (_requant(RNG, scale=scales), (3,)),
        (SumPool((2, 2), (1, 1)), (4,)),
    )


@pytest.mark.parametrize(
    ("options", "native"),
    [
        ({}, True),
        ({"io_type": "io_stream"}, True),
        ({"io_type": "io_stream", "strategy": "resource", "reuse_factor": "6"}, True),
        ({"strategy": "resource"}, False),  # hls4ml's own stops in an assertion
        ({"backend": "Catapult"}, False),  # its headers leave stride and padding out
        ({"backend": "Quartus", "strategy": "resource"}, False),
    ],
)
def test_depthwise_is_native_where_it_is_exact(
    tmp_path: Path, options: dict[str, str], native: bool
) -> None:
    graph = depthwise()
    target = Hls4ml().with_options(options)
    kinds = [layer.kind for layer in target._lowered(graph).layers]
    assert kinds.count(Kind.DEPTHWISE) == (3 if native else 0)
    assert kinds.count(Kind.CONV) == (1 if native else 4)
    if "reuse_factor" not in options:
        rows = 2 if "io_type" in options else 1  # of the second kernel, see with_second_row
        expected = 3 * (6 + 2 * rows + 4) + 6 if native else 9 * (6 + 2 * rows + 4) + 6
        assert target.metrics(graph, tmp_path)[0].value == expected
    if "reuse_factor" in options:
        built(graph, tmp_path, **options)


def test_filters_that_share_a_channel_are_expanded() -> None:
    graph = _graph(
        QType(4, signed=False),
        (3, 5, 5),
        (Conv(_ints(RNG, (6, 1, 2, 2)), _ints(RNG, (6,)), groups=3), (0,)),
    )
    assert Kind.DEPTHWISE not in [layer.kind for layer in lower(graph).layers]


@pytest.mark.parametrize("backend", ["Quartus", "Catapult"])
def test_streams_that_a_backend_cannot_turn_are_refused(backend: str) -> None:
    graph = _graph(QType(4, signed=False), (3, 5, 5), (Transpose((0, 2, 1)), (0,)))
    options = {"backend": backend, "strategy": "resource"}
    assert Hls4ml().with_options(options).check(graph) == []
    (offence,) = Hls4ml().with_options({**options, "io_type": "io_stream"}).check(graph)
    assert "transpose" in offence.reason and "io_parallel" in offence.fix


def test_one_bit_types_are_only_used_where_they_are() -> None:
    """hls4ml writes ac_fixed<2,I> for ac_fixed<1,I>: no rounding and no saturation may need it."""
    for backend in ("Quartus", "Catapult"):
        options = {"backend": backend, "strategy": "resource"}
        for layer in Hls4ml().with_options(options)._lowered(mixed()).layers:
            assert not any(t.bits == 1 and t.mode for t in layer.precision.values()), layer.name


def test_oneapi_says_what_is_missing() -> None:
    with pytest.raises(ToolMissing, match=r"icpx .* backend=Quartus"):
        Hls4ml().with_options({"backend": "oneAPI"})


def test_da4ml_is_named_only_when_it_is_used() -> None:
    assert "da4ml" not in Hls4ml().packages()
    for options in (
        {"strategy": "distributed_arithmetic"},
        {"fc.strategy": "distributed_arithmetic"},
    ):
        assert "da4ml" in Hls4ml().with_options(options).packages()


def test_distributed_arithmetic_is_exact_for_one_layer(tmp_path: Path) -> None:
    """In a process whose numba compiles nothing: it would take minutes at its first use."""
    code = (
        "from pathlib import Path\n"
        "from tests.targets.test_backends import built, dense\n"
        f"built(dense(), Path({str(tmp_path)!r}), **{{'n1.strategy': 'distributed_arithmetic'}})\n"
    )
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": "."}
    argv = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    firmware = tmp_path / "project" / "firmware"
    sources = "".join(path.read_text() for path in firmware.glob("*.*"))
    assert "dense_da_" in sources
    assert len(list((firmware / "weights").glob("w*.txt"))) == 2  # of the other two layers


def dense() -> Graph:
    rng = np.random.default_rng(2)
    return _graph(
        QType(4, signed=True),
        (5,),
        (Dense(_ints(rng, (3, 5)), _ints(rng, (3,))), (0,)),
        (_requant(rng), (1,)),
        (Dense(_ints(rng, (3, 3)), _ints(rng, (3,))), (2,)),
    )
