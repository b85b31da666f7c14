"""Float32 runtimes against the graph: near-ties are counted, anything else is a mismatch."""

from __future__ import annotations

import warnings
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from flow.errors import Mismatch
from flow.float_bound import EXACT, UNIT, gamma, grid_of, reaches
from flow.float_check import compare_all
from flow.float_tools import FloatTool, Runtime
from flow.graph import Graph
from flow.importer import Imported, import_qonnx
from flow.near_ties import FloatAgreement, wanted
from flow.onnx_file import OnnxFile, read
from flow.ops import Conv, Dense, IntArray, Requant
from flow.oracle import Tensor, evaluate
from flow.vectors import make_vectors
from tests.network.nets import Net, qdq_net, random_net
from tests.network.test_qdq import brevitas_net
from tests.network.wide import wide_net


def load(path: Path) -> tuple[OnnxFile, Imported]:
    file = read(path)
    return file, import_qonnx(file, "net")


def vectors(imported: Imported, count: int) -> IntArray:
    """Corners and random codes."""
    return make_vectors(imported.graph.input, None)[:count]


def compared(path: Path, runtime: Runtime, count: int) -> FloatAgreement:
    file, imported = load(path)
    tool = FloatTool(runtime, file, imported)
    return compare_all(file, imported, vectors(imported, count), tool.trace)


def layered(path: Path, bits: int, seed: int, *, qdq: bool, po2: bool = False) -> Path:
    """Conv, ReLU, Conv, dense with quantizers of one width; scales that use the whole range."""
    rng = np.random.default_rng(seed)
    net = Net((3, 5, 5))
    kind = {4: np.int8, 8: np.int8, 16: np.int16}[bits]
    top = 2 ** (bits - 1) - 1

    def step(real: float) -> np.float32:
        wanted_ = real / top * rng.uniform(0.8, 1.2)
        return np.float32(2.0 ** np.round(np.log2(wanted_)) if po2 else wanted_)

    def quantized(source: str, real: float) -> str:
        scale = step(real)
        if not qdq:
            return net.quant(source, scale, bits)
        constants = [net.constant(scale), net.constant(kind(0))]
        made = net.node("QuantizeLinear", [source, *constants])
        if bits == 4:
            made = net.node("Clip", [made, net.constant(kind(-8)), net.constant(kind(7))])
        return net.node("DequantizeLinear", [made, *constants])

    def weight(shape: tuple[int, ...]) -> str:
        reals = rng.normal(0, 1, shape)
        if not qdq:
            return net.quant(net.constant(reals), step(2.5), min(bits, 8), narrow=True)
        scale = step(2.5 * top / 127 if bits == 16 else 2.5)
        codes = np.clip(np.rint(reals / scale), -min(top, 127), min(top, 127)).astype(np.int8)
        return net.node("DequantizeLinear", [net.constant(codes), net.constant(scale)])

    made = quantized("x", 2.0)
    for outs, ins in ((4, 3), (4, 4)):
        bias = net.constant(rng.normal(0, 0.3, outs))
        made = net.node("Conv", [made, weight((outs, ins, 3, 3)), bias], pads=[1] * 4)
        made = quantized(net.node("Relu", [made]), 6.0)
    made = net.node("Flatten", [made], axis=1)
    made = quantized(net.node("Gemm", [made, weight((6, 100))], transB=1), 40.0)
    net.save(path, made)
    if qdq:
        model = onnx.load(path)
        model.opset_import[0].version = 21  # the first with 16-bit QuantizeLinear
        model.ir_version = 10
        path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("bits", [4, 8, 16])
@pytest.mark.parametrize("seed", range(3))
def test_onnxruntime_and_qonnx(tmp_path: Path, seed: int, bits: int) -> None:
    found = compared(layered(tmp_path / "q.onnx", bits, seed, qdq=True), Runtime.ONNXRUNTIME, 300)
    assert found.codes == 300 * 206 and found.aside == 0
    assert found.near_ties <= {4: 0, 8: 5, 16: 200}[bits]
    found = compared(layered(tmp_path / "n.onnx", bits, seed, qdq=False), Runtime.QONNX, 40)
    assert found.codes == 40 * 206


def test_sixteen_bits_have_near_ties(tmp_path: Path) -> None:
    """The rule is needed: there are differences, and each is one."""
    path = layered(tmp_path / "q.onnx", 16, 0, qdq=True)
    assert compared(path, Runtime.ONNXRUNTIME, 300).near_ties > 0


@pytest.mark.parametrize("qdq", [True, False])
@pytest.mark.parametrize("bits", [4, 8])
def test_powers_of_two_leave_no_difference(tmp_path: Path, bits: int, qdq: bool) -> None:
    path = layered(tmp_path / "n.onnx", bits, 1, qdq=qdq, po2=True)
    runtime = Runtime.ONNXRUNTIME if qdq else Runtime.QONNX
    assert compared(path, runtime, 100).near_ties == 0


@pytest.mark.parametrize("po2", [True, False])
@pytest.mark.parametrize("seed", range(25))
def test_every_operation_that_is_read(tmp_path: Path, seed: int, po2: bool) -> None:
    for make in (random_net, wide_net):
        path = make(np.random.default_rng(200 + seed), tmp_path / "net.onnx", po2=po2)
        found = compared(path, Runtime.QONNX, 20)
        assert found.codes > 0 and (found.near_ties == 0 or not po2)


def test_qdq_in_qonnx_too(tmp_path: Path) -> None:
    path = qdq_net(tmp_path / "net.onnx")
    assert compared(path, Runtime.QONNX, 20).codes == 20 * 52


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_brevitas_in_float32(tmp_path: Path, kind: str, per_channel: bool) -> None:
    """Brevitas' own float32 forward pass, seen at every quantizer by hooks."""
    torch = pytest.importorskip("torch")
    from brevitas.export import export_qonnx

    path = tmp_path / "net.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's exporter, about itself
        network, shape = brevitas_net(kind, po2=False, per_channel=per_channel)
        export_qonnx(network, args=torch.randn(1, *shape), export_path=path, dynamo=False)
    file, imported = load(path)
    seen: dict[str, NDArray[np.float32]] = {}
    for place, module in enumerate(network):
        module.register_forward_hook(
            lambda module, inputs, out, place=place: seen.__setitem__(
                f"/{place}/", getattr(out, "value", out).numpy()
            )
        )

    def trace(codes: IntArray) -> dict[str, Any]:
        scale = float(imported.graph.input.scale[0])
        with torch.no_grad():
            last = network(torch.from_numpy((codes * scale).astype(np.float32)))
        found = {}
        for name in wanted(file, imported):
            part = [key for key in seen if name.startswith(key)]
            found[name] = seen[part[0]] if part else last.numpy()
        return found

    result = compare_all(file, imported, vectors(imported, 300), trace)
    assert result.vectors == 300 and result.codes > 1000


def test_one_moved_code_is_a_mismatch(tmp_path: Path) -> None:
    """Negative control of a runtime's trace: one code of one vector, moved by one."""
    file, imported = load(layered(tmp_path / "q.onnx", 8, 0, qdq=True))
    tool = FloatTool(Runtime.ONNXRUNTIME, file, imported)
    codes = vectors(imported, 20)
    name = wanted(file, imported)[1]
    scale = float(imported.graph.value(imported.graph.nodes[3].output.name).scale[0])

    def trace(part: IntArray) -> dict[str, Any]:
        values = tool.trace(part)
        values[name][7, 2, 1, 3] += np.float32(scale)
        return values

    with pytest.raises(Mismatch, match=r"vector 7, channel 2, position \(1, 3\): code") as caught:
        compare_all(file, imported, codes, trace)
    assert "float32 explains" in str(caught.value) and "(1 of" in str(caught.value)


# Negative controls: another network than the file's -------------------------------------------


def changed(imported: Imported, index: int, **parts: Any) -> Imported:
    graph = imported.graph
    node = graph.nodes[index]
    nodes = list(graph.nodes)
    nodes[index] = replace(node, op=replace(node.op, **parts))
    return replace(imported, graph=Graph.build("net", graph.input, tuple(nodes)))


@pytest.mark.parametrize("bits", [4, 8, 16])
@pytest.mark.parametrize("what", ["weight", "scale"])
def test_a_changed_network_is_a_mismatch(tmp_path: Path, what: str, bits: int) -> None:
    """One weight by one code, or one scale by 2^-10: in the graph, where the file is right."""
    file, imported = load(layered(tmp_path / "q.onnx", bits, 0, qdq=True))
    graph = imported.graph
    if what == "weight":
        index = next(i for i, n in enumerate(graph.nodes) if isinstance(n.op, Conv | Dense))
        op = graph.nodes[index].op
        assert isinstance(op, Conv)
        weight = op.weight.copy()
        weight[0, 0, 1, 1] -= 1
        wrong = changed(imported, index, weight=weight)
    else:
        index = next(i for i, n in enumerate(graph.nodes) if isinstance(n.op, Requant))
        op_ = graph.nodes[index].op
        assert isinstance(op_, Requant)
        factor = 1 + Fraction(1, 1 << 10)
        wrong = changed(imported, index, scale=tuple(s * factor for s in op_.scale))
    tool = FloatTool(Runtime.ONNXRUNTIME, file, imported)
    with pytest.raises(Mismatch, match=rf"layer {graph.nodes[index + (what == 'weight')].name}"):
        compare_all(file, wrong, vectors(imported, 1000), tool.trace)


def tie(tmp_path: Path, scale: float) -> tuple[OnnxFile, Imported]:
    """x (codes of 0.25) times 1, quantized to `scale`: odd codes are ties where it is 0.5."""
    net = Net((1,))
    weight = net.quant(net.constant([[1.0]]), 1.0, 4)
    made = net.node("Gemm", [net.quant("x", scale / 2, 6), weight], transB=1)
    return load(net.save(tmp_path / "net.onnx", net.quant(made, scale, 6)))


@pytest.mark.parametrize(("scale", "exact"), [(0.5, True), (0.1, False)])
def test_a_tie_turned_the_other_way(tmp_path: Path, scale: float, exact: bool) -> None:
    """Code 3 is one and a half of the output's: 2, and 1 as well where float32 is not exact."""
    file, imported = tie(tmp_path, scale)
    name, codes = wanted(file, imported)[0], np.array([[2], [3]])
    right = {name: np.array([[1.0], [2.0]]) * np.float32(scale)}
    assert compare_all(file, imported, codes, lambda part: right).near_ties == 0
    turned = {name: np.array([[1.0], [1.0]]) * np.float32(scale)}
    if exact:
        with pytest.raises(Mismatch, match=r"vector 1, channel 0: code 1, the graph 2"):
            compare_all(file, imported, codes, lambda part: turned)
    else:
        assert compare_all(file, imported, codes, lambda part: turned).near_ties == 1


def test_a_value_off_the_grid_is_a_mismatch(tmp_path: Path) -> None:
    file, imported = tie(tmp_path, 0.5)
    values = {wanted(file, imported)[0]: np.array([[0.51]])}
    with pytest.raises(Mismatch, match="no multiple of its scale"):
        compare_all(file, imported, np.array([[2]]), lambda part: values)


@pytest.mark.parametrize("shift", [1e-3, -1e-3, np.nan])
def test_a_float_output_is_compared(tmp_path: Path, shift: float) -> None:
    net = Net((5,))
    weight = net.quant(net.constant(np.ones((2, 5)) * 0.3), 0.1, 4)
    made = net.node("Gemm", [net.quant("x", 0.1, 4), weight, net.constant([0.3, 0.7])], transB=1)
    file, imported = load(net.save(tmp_path / "net.onnx", made))
    tool = FloatTool(Runtime.QONNX, file, imported)
    codes = vectors(imported, 30)
    assert compare_all(file, imported, codes, tool.trace).codes == 60

    def trace(part: IntArray) -> dict[str, Any]:
        return {name: x * np.float32(1 + shift) for name, x in tool.trace(part).items()}

    with pytest.raises(Mismatch, match="float32 explains"):
        compare_all(file, imported, codes, trace)


# The bound ------------------------------------------------------------------------------------


def test_a_dense_layer_s_bound_is_the_formula(tmp_path: Path) -> None:
    """n products, two dequantizations, a bias: n + 3 roundings of sum |xw| + |b|."""
    rng, n = np.random.default_rng(0), 20
    net = Net((n,))
    weight = net.quant(net.constant(rng.normal(0, 1, (3, n))), 0.3, 4)
    bias = rng.normal(0, 1, 3).astype(np.float32)
    made = net.node("Gemm", [net.quant("x", 0.1, 4), weight, net.constant(bias)], transB=1)
    file, imported = load(net.save(tmp_path / "net.onnx", made))
    x = np.array([0.1]) * rng.integers(-8, 8, (7, n))
    exact = evaluate(file, {imported.source: Tensor(x)})
    reach = reaches(file, exact, (imported.source,))[made]
    assert reach.roundings == n + 3
    expected = np.abs(x) @ np.abs(exact[weight].real).T + np.abs(bias)
    np.testing.assert_allclose(reach.magnitude, expected, rtol=1e-12)
    np.testing.assert_array_equal(reach.bound(), gamma(n + 3) * reach.magnitude)
    assert gamma(n + 3) == pytest.approx((n + 3) * UNIT, rel=1e-5)


@given(st.integers(1, 60), st.integers(0, 1 << 30))
def test_float32_stays_inside_the_bound(n: int, seed: int) -> None:
    """Sums in random orders, of numbers of very different sizes."""
    rng = np.random.default_rng(seed)
    x, w = ((rng.normal(0, 1, n) * 10.0 ** rng.uniform(-3, 3, n)) for _ in range(2))
    total = np.float32(0)
    for place in rng.permutation(n):
        total = np.float32(total + np.float32(x[place]) * np.float32(w[place]))
    exact = sum(Fraction(float(p)) * Fraction(float(q)) for p, q in zip(x, w, strict=True))
    magnitude = float(np.abs(x) @ np.abs(w))
    assert abs(Fraction(float(total)) - exact) <= Fraction(gamma(n + 2) * magnitude * (1 + 1e-9))


@pytest.mark.parametrize(
    ("values", "grid"),
    [([3.0, 0.75, -6.0], 0.25), ([0.0], np.inf), ([1.0, 2.0**-40], 2.0**-40), ([12.0], 4.0)],
)
def test_the_grid_of_values(values: list[float], grid: float) -> None:
    assert grid_of(np.array(values)) == grid
    assert EXACT == 2.0**24
