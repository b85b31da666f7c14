"""Import and interpreter against the float64 oracle, qonnx's executor, and exact rationals."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from onnx import numpy_helper

from flow import oracle
from flow.errors import Mismatch, Unsupported, UsageError
from flow.graph import Graph
from flow.host import make_host
from flow.importer import Imported, import_qonnx
from flow.interp import Interpreter
from flow.onnx_file import OnnxFile, read
from flow.ops import Dense, Requant
from flow.vectors import make_vectors
from tests.network.nets import Net, random_net, run_qonnx
from tests.network.wide import wide_net


def load(path: Path) -> tuple[OnnxFile, Imported]:
    file = read(path)
    return file, import_qonnx(file, "net")


@pytest.mark.parametrize("po2", [True, False])
@pytest.mark.parametrize("seed", range(40))
def test_random_networks_are_the_oracles(tmp_path: Path, seed: int, po2: bool) -> None:
    rng = np.random.default_rng(seed)
    file, imported = load(random_net(rng, tmp_path / "net.onnx", po2=po2))
    codes = make_vectors(imported.graph.input, None)[:200]
    result = oracle.check(file, imported, codes, Interpreter(imported.graph).trace(codes))
    assert result.codes > 0
    assert result.near_ties == 0 or not po2


@pytest.mark.parametrize("seed", range(8))
def test_power_of_two_networks_are_qonnx_s_own(tmp_path: Path, seed: int) -> None:
    """Where float32 is exact, qonnx gives the interpreter's very numbers, from float inputs on."""
    rng = np.random.default_rng(1000 + seed)
    path = random_net(rng, tmp_path / "net.onnx", po2=True)
    _, imported = load(path)
    host = make_host(imported.head, imported.tail)
    x = rng.normal(0, 1.5, (20, *imported.graph.input.shape)).astype(np.float32)
    ours = host.dequantize(Interpreter(imported.graph).run(host.quantize(x)))
    np.testing.assert_array_equal(ours, run_qonnx(path, x).astype(np.float64))


def dense_net(tmp_path: Path, **options: object) -> Path:
    """x (3) -> Quant -> Gemm -> Quant, with the last quantizer's options to choose."""
    net = Net((3,))
    weight = net.quant(net.constant([[1.0, -2.0, 3.0], [0.5, 0.25, -1.0]]), 0.25, 5)
    product = net.node("Gemm", [net.quant("x", 0.5, 4), weight], transB=1)
    arguments = {"scale": 0.5, "bits": 4, **options}
    return net.save(tmp_path / "net.onnx", net.quant(product, **arguments))  # type: ignore[arg-type]


@pytest.mark.parametrize("zero", [-3.0, 5.0])
@pytest.mark.parametrize("mode", ["ROUND", "FLOOR", "CEIL", "ROUND_TO_ZERO", "UP", "HALF_UP"])
def test_zero_points_and_rounding_modes(tmp_path: Path, mode: str, zero: float) -> None:
    file, imported = load(dense_net(tmp_path, mode=mode, zero=zero, scale=0.75))
    codes = make_vectors(imported.graph.input, None)
    oracle.check(file, imported, codes, Interpreter(imported.graph).trace(codes))


def test_an_input_zero_point_goes_into_the_bias(tmp_path: Path) -> None:
    net = Net((3,))
    weight = net.quant(net.constant([[1.0, -2.0, 3.0]]), 0.25, 5)
    x = net.quant("x", 0.5, 4, signed=False, zero=6.0)
    path = net.save(tmp_path / "net.onnx", net.node("Gemm", [x, weight], transB=1))
    file, imported = load(path)
    dense = imported.graph.nodes[0].op
    assert isinstance(dense, Dense)
    assert dense.bias.tolist() == [-6 * (4 - 8 + 12)]
    codes = make_vectors(imported.graph.input, None)
    oracle.check(file, imported, codes, Interpreter(imported.graph).trace(codes))
    sample = np.array([[0, 6, 15]])
    assert Interpreter(imported.graph).run(sample).tolist() == [[4 * -6 - 8 * 0 + 12 * 9]]


def test_scales_are_the_files_rationals(tmp_path: Path) -> None:
    """0.1 in float32 is 13421773 / 2**27, and nothing nearer to a tenth."""
    net = Net((2,))
    weight = net.quant(net.constant([[0.3, -0.2]]), 0.1, 4)
    product = net.node("Gemm", [net.quant("x", 0.1, 4), weight], transB=1)
    path = net.save(tmp_path / "net.onnx", net.quant(product, 0.3, 3))
    _, imported = load(path)
    tenth, three = Fraction(13421773, 1 << 27), Fraction(float(np.float32(0.3)))
    requant = imported.graph.nodes[1].op
    assert isinstance(requant, Requant)
    assert requant.scale == (tenth * tenth / three,)


def test_a_bias_on_a_coarser_grid_is_aligned_exactly(tmp_path: Path) -> None:
    net = Net((2,))
    weight = net.quant(net.constant([[0.5, -0.25]]), 0.25, 4)
    x = net.quant("x", 0.5, 4)
    bias = net.quant(net.constant([1.5]), 0.5, 4)  # 4 codes of the accumulator's 0.125 each
    path = net.save(tmp_path / "net.onnx", net.node("Gemm", [x, weight, bias], transB=1))
    _, imported = load(path)
    dense = imported.graph.nodes[0].op
    assert isinstance(dense, Dense)
    assert dense.bias.tolist() == [12]
    assert imported.tail.offset == (0,)


def test_a_float_bias_becomes_an_exact_offset(tmp_path: Path) -> None:
    net = Net((2,))
    weight = net.quant(net.constant([[0.5, -0.25]]), 0.25, 4)
    product = net.node("Gemm", [net.quant("x", 0.5, 4), weight, net.constant([0.3])], transB=1)
    path = net.save(tmp_path / "net.onnx", net.quant(product, 0.25, 4))
    file, imported = load(path)
    requant = imported.graph.nodes[1].op
    assert isinstance(requant, Requant)
    assert requant.offset == (Fraction(float(np.float32(0.3))) / Fraction(1, 4),)
    codes = make_vectors(imported.graph.input, None)
    oracle.check(file, imported, codes, Interpreter(imported.graph).trace(codes))


def test_the_oracle_sees_a_wrong_weight(tmp_path: Path) -> None:
    """Negative control: one weight changed by one code."""
    file, imported = load(dense_net(tmp_path))
    graph = imported.graph
    dense = graph.nodes[0].op
    assert isinstance(dense, Dense)
    weight = dense.weight.copy()
    weight[1, 2] += 1
    nodes = (replace(graph.nodes[0], op=replace(dense, weight=weight)), *graph.nodes[1:])
    wrong = replace(imported, graph=Graph.build("net", graph.input, nodes))
    codes = make_vectors(graph.input, None)
    with pytest.raises(Mismatch, match=r"layer gemm\d, vector 0, channel 1"):
        oracle.check(file, wrong, codes, Interpreter(wrong.graph).trace(codes))


def test_a_relu_becomes_the_clamp(tmp_path: Path) -> None:
    net = Net((2,))
    weight = net.quant(net.constant([[0.5, -0.25]]), 0.25, 4)
    product = net.node("Gemm", [net.quant("x", 0.5, 4), weight], transB=1)
    path = net.save(tmp_path / "net.onnx", net.quant(net.node("Relu", [product]), 0.25, 4))
    _, imported = load(path)
    requant = imported.graph.nodes[1].op
    assert isinstance(requant, Requant)
    assert (requant.low, requant.high) == (0, 7)


def unsupported(tmp_path: Path, net: Net, output: str) -> Unsupported:
    with pytest.raises(Unsupported) as caught:
        load(net.save(tmp_path / "net.onnx", output))
    return caught.value


def test_every_offence_is_listed_at_once(tmp_path: Path) -> None:
    net = Net((4,))
    x = net.quant("x", 0.5, 4)
    free = net.node("Gemm", [x, net.constant(np.ones((3, 4)))], "free", transB=1)
    a = net.node("CumSum", [x], "sum")
    b = net.node("Hardmax", [x], "hard")
    error = unsupported(tmp_path, net, net.node("Concat", [free, a, b], "cat", axis=1))
    assert [offence.node.split(" ")[0] for offence in error.offences] == [
        "free",
        "sum",
        "hard",
    ]
    assert "float, not quantized" in str(error)
    assert error.exit_code == 5


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda net: net.node("Gemm", ["x", net.quant(net.constant(np.ones((3, 4))), 1, 4)]),
            "before any quantizer",
        ),
        (lambda net: net.quant(net.quant("x", 0.5, 4), 0.5, 1), "bit width is 1"),
        (lambda net: net.quant("x", np.ones((1, 4)) * [1, 2, 3, 4], 4), "one scale per channel"),
        (lambda net: net.quant("x", 0.5, 4, mode="STOCHASTIC"), "rounding mode"),
    ],
)
def test_what_cannot_be_lowered_says_why(tmp_path: Path, build: object, message: str) -> None:
    net = Net((4,))
    assert message in str(unsupported(tmp_path, net, build(net)))  # type: ignore[operator]


@pytest.mark.parametrize(
    ("scale", "message"),
    [(0.0, "positive and finite"), (-1.0, "positive and finite"), (np.nan, "NaN or infinity")],
)
def test_impossible_scales_are_refused(tmp_path: Path, scale: float, message: str) -> None:
    net = Net((4,))
    path = net.save(tmp_path / "net.onnx", net.quant("x", scale, 4))
    with pytest.raises(UsageError, match=message):
        load(path)


def test_an_input_scale_per_channel_of_equal_entries_is_one_scale(tmp_path: Path) -> None:
    net = Net((4,))
    x = net.quant("x", np.full((1, 1), 0.5), 4)
    weight = net.quant(net.constant(np.eye(4)), np.full((4, 1), 0.25), 4)
    _, imported = load(net.save(tmp_path / "n.onnx", net.node("Gemm", [x, weight], transB=1)))
    assert imported.graph.output.scale == (Fraction(1, 8),)


def test_hard_swish_hits_exact_codes(tmp_path: Path) -> None:
    """-1.5 gives -0.375, which is 3 codes of 1/8 to the last bit: truncation must not lose one. (A
    sixth in float32 does.)"""
    net = Net((1,))
    made = net.node("HardSwish", [net.quant("x", 0.25, 5)])
    path = net.save(tmp_path / "net.onnx", net.quant(made, 0.125, 5, mode="DOWN"))
    file, imported = load(path)
    codes = np.arange(-16, 16)[:, None]
    out = Interpreter(imported.graph).run(codes)
    assert out[10, 0] == -3  # code -6 is -1.5
    oracle.check(file, imported, codes, Interpreter(imported.graph).trace(codes))


@pytest.mark.parametrize("po2", [True, False])
@pytest.mark.parametrize("seed", range(60))
def test_wide_networks_are_the_oracles(tmp_path: Path, seed: int, po2: bool) -> None:
    """Every operation that is read, with branches, zero-points and all rounding modes."""
    path = wide_net(np.random.default_rng(seed), tmp_path / "net.onnx", po2=po2)
    file, imported = load(path)
    codes = make_vectors(imported.graph.input, None)[:40]
    result = oracle.check(file, imported, codes, Interpreter(imported.graph).trace(codes))
    assert result.codes > 0
    assert result.near_ties == 0 or not po2
    again = Graph.from_json(imported.graph.to_json())
    np.testing.assert_array_equal(
        Interpreter(again).run(codes), Interpreter(imported.graph).run(codes)
    )


@pytest.mark.parametrize("op", ["Quant", "QuantizeLinear"])
def test_a_float64_scale_is_taken_as_it_is_or_refused(tmp_path: Path, op: str) -> None:
    """0.1 in float64 is no float32 number: rounding it would give another network."""

    def net(scale: float) -> Path:
        made = Net((3,))
        made.constants.append(numpy_helper.from_array(np.array(scale), "scale"))
        if op == "Quant":
            constants = ["scale", *(made.constant(np.float32(v)) for v in (0, 4))]
            x = made.node(op, ["x", *constants], signed=1, narrow=0, rounding_mode="ROUND")
        else:
            x = made.node(op, ["x", "scale"])
            x = made.node("DequantizeLinear", [x, "scale"])
        return made.save(tmp_path / "net.onnx", x)

    _, imported = load(net(0.375))
    assert imported.graph.input.scale == (Fraction(3, 8),)
    with pytest.raises(Unsupported, match=r"its scale 0\.1 is float64, between two float32"):
        load(net(0.1))
