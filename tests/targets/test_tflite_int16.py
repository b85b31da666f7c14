"""The tflite target with activations=int16: exact on both runtimes where it says so, by kernels of
either bias, shared steps and dense layers; refused or found out where it is not."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from flow.driver import compile_model
from flow.errors import Mismatch, Unsupported, UsageError
from flow.graph import Graph
from flow.interp import Interpreter
from flow.plan import Events, Request
from targets.tflite.flatbuffer import packed
from targets.tflite.simulation import MODEL
from targets.tflite.target import Activations, Runtime, Tflite, Weights
from tests.network.nets import Net, random_net
from tests.network.wide import wide_net

RUNTIMES = ("litert", "tflite-runtime")
PO2, FLOAT = 2.0**-7, 0.0071


def network(folder: Path, bits: int, scale: float, signed: bool = False) -> Path:
    """Convolution, pool, residual sum, average pool and two dense layers, 8-bit weights; with
    powers of two every requantization has ties, with others biases lie between two sums."""
    rng = np.random.default_rng(7)
    net = Net((1, 6, 6))

    def weights(shape: tuple[int, ...], spread: float) -> str:
        return net.quant(net.constant(rng.normal(0, spread, shape)), scale, 8, narrow=True)

    def act(name: str, made: str) -> str:
        made = made if signed else net.node("Relu", [made])
        return net.quant(made, scale * 2.0 ** (12 - bits), bits, signed=signed, name=name)

    x = net.quant("x", 0.25, 8, signed=False)
    w = weights((3, 1, 3, 3), 0.2)
    y = act("act1", net.node("Conv", [x, w], "conv1", pads=[1] * 4, kernel_shape=[3, 3]))
    w = weights((3, 3, 3, 3), 0.1)
    z = act("act2", net.node("Conv", [y, w], "conv2", pads=[1] * 4, kernel_shape=[3, 3]))
    y = act("act3", net.node("Add", [y, z], "add"))
    y = net.node("MaxPool", [y], "pool", kernel_shape=[3, 3], strides=[3, 3])
    y = act("act4", net.node("GlobalAveragePool", [y], "mean"))
    y = net.node("Flatten", [y], "flat", axis=1)
    bias = [] if scale == PO2 else [net.constant(rng.normal(0, 0.3, 8))]
    y = act("act5", net.node("Gemm", [y, weights((8, 3), 0.3), *bias], "fc1", transB=1))
    y = net.node("Gemm", [y, weights((3, 8), 0.3)], "fc2", transB=1)
    return net.save(folder / f"net{bits}.onnx", y)


def compiled(model: Path, out: Path, **options: str) -> Path:
    """Compile an .onnx file and give the artifact's folder."""
    options = {"activations": "int16", **options}
    request = Request(str(model), "tflite", options, out, out.parent)
    assert compile_model(request, Events()).agreement.matches
    return out


def warnings(artifact: Path) -> list[str]:
    found: list[str] = json.loads((artifact / "report.json").read_text())["warnings"]
    return found


def rounding(artifact: Path, runtime: str = "litert") -> dict[str, str]:
    """How each node is requantized, in the words of the report."""
    graph = Graph.from_json((artifact / "graph.json").read_text())
    target = Tflite(runtime=Runtime(runtime), activations=Activations.INT16)
    return {name: note.requant for name, note in target.layers(graph, artifact).items()}


@pytest.fixture(scope="module")
def twelve(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("twelve")
    return compiled(network(folder, 12, PO2), folder / "artifact")


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(("bits", "signed"), [(9, False), (16, False), (16, True)])
def test_powers_of_two_are_proven(tmp_path: Path, bits: int, signed: bool, runtime: str) -> None:
    model = network(tmp_path, bits, PO2, signed)
    artifact = compiled(model, tmp_path / "artifact", runtime=runtime)
    assert not warnings(artifact)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_float_scales_are_proven(tmp_path: Path, runtime: str) -> None:
    """Where 31 bits do not do, codes that are moved do, or LiteRT's dense layers, also of windows
    and of means."""
    artifact = compiled(network(tmp_path, 12, FLOAT), tmp_path / "artifact", runtime=runtime)
    assert not warnings(artifact)
    assert (
        rounding(artifact, runtime)["act5"]
        == "31-bit multiplier (ruy), an addition moves its codes, proven"
    )


@pytest.fixture(scope="module")
def fifteen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A convolution whose 32,767 float steps and 144 products are too fine for 31 bits."""
    rng = np.random.default_rng(5)
    net = Net((16, 5, 5))
    x = net.quant("x", 0.013, 12, signed=False)
    w = net.quant(net.constant(rng.normal(0, 0.3, (4, 16, 3, 3))), 0.0071, 8, narrow=True)
    y = net.node("Relu", [net.node("Conv", [x, w], "conv", kernel_shape=[3, 3])])
    y = net.node("Flatten", [net.quant(y, 0.0331 / 128, 15, signed=False, name="act")], axis=1)
    w = net.quant(net.constant(rng.normal(0, 0.3, (3, 36))), 0.013, 8, narrow=True)
    folder = tmp_path_factory.mktemp("fifteen")
    return net.save(folder / "net.onnx", net.node("Gemm", [y, w], "fc", transB=1))


def test_litert_takes_windows_as_a_dense_layer(fifteen: Path, tmp_path: Path) -> None:
    artifact = compiled(fifteen, tmp_path / "artifact")
    assert not warnings(artifact)
    told = "float64 multiplier (float64), by a dense layer of its windows, "
    assert rounding(artifact)["act"] == f"{told}an addition moves its codes, proven"


def test_tflite_runtime_has_no_finer_layer(fifteen: Path, tmp_path: Path) -> None:
    with pytest.raises(Mismatch, match="first difference: layer act"):
        compiled(fifteen, tmp_path / "artifact", runtime="tflite-runtime")


def test_float_scales_of_16_bits_are_found_out(tmp_path: Path) -> None:
    """Negative control: int16 has no number to spare there."""
    with pytest.raises(Mismatch, match="first difference: layer act"):
        compiled(network(tmp_path, 16, FLOAT), tmp_path / "artifact")


def test_the_report_says_how_each_layer_rounds(twelve: Path) -> None:
    told = rounding(twelve)
    assert told["act2"] == "31-bit multiplier (ruy), 2 kernels share the steps, proven"
    assert told["act3"] == "15-bit multiplier (int16x8), proven"
    assert told["act4"] == "15-bit multiplier (int16x8), 2 kernels share the steps, proven"
    metrics = {m["name"]: m for m in json.loads((twelve / "report.json").read_text())["metrics"]}
    assert "by XNNPACK" not in metrics
    assert "4 CONV_2D" in metrics["by runtime"]["source"]


def test_accumulators_have_the_width_of_the_kernel_s_bias(twelve: Path) -> None:
    layers = json.loads((twelve / "report.json").read_text())["layers"]
    held = {row["name"]: row["accumulator"] for row in layers}
    assert held["conv2"]["width"] == 32
    assert held["add"]["width"] == 64


def test_a_file_without_the_bias_s_type_is_found_out(twelve: Path, tmp_path: Path) -> None:
    """Negative control: LiteRT would read an int32 bias as int64."""
    model = schema.ModelT.InitFromPackedBuf((twelve / MODEL).read_bytes(), 0)
    for operator in model.subgraphs[0].operators:
        if isinstance(operator.builtinOptions, schema.Conv2DOptionsT):
            operator.builtinOptions.quantizedBiasType = schema.TensorType.FLOAT32
    (tmp_path / MODEL).write_bytes(packed(model))
    graph = Graph.from_json((twelve / "graph.json").read_text())
    with np.load(twelve / "vectors.npz") as vectors:
        codes = vectors["inputs"][:20]
    found = Tflite(activations=Activations.INT16).simulation(graph, tmp_path).run(codes)
    assert not np.array_equal(found, Interpreter(graph).run(codes))


def test_the_snippet_runs_without_us(twelve: Path, tmp_path: Path) -> None:
    elsewhere = shutil.copytree(twelve, tmp_path / "elsewhere")
    code = (
        "import numpy as np; from run_tflite import Network; v = np.load('vectors.npz'); "
        "network = Network('model.tflite'); "
        "assert network.interpreter.get_input_details()[0]['dtype'] == np.int16; "
        "assert np.array_equal(network.codes(v['inputs'][:50]), v['expected'][:50])"
    )
    subprocess.run([sys.executable, "-c", code], cwd=elsewhere, check=True)


def test_the_cpp_snippet_feeds_int16(twelve: Path) -> None:
    text = (twelve / "network.cpp").read_text()
    assert "std::int16_t* input = interpreter_->typed_input_tensor<std::int16_t>(0);" in text
    assert "input[i] = static_cast<std::int16_t>(code(x[i]) + (0));" in text
    assert "int8" not in text


def test_what_needs_a_newer_runtime_says_so(twelve: Path) -> None:
    """An int32 bias beside int16 activations is of TensorFlow Lite 2.15."""
    model = schema.ModelT.InitFromPackedBuf((twelve / MODEL).read_bytes(), 0)
    held = {m.name: bytes(model.buffers[m.buffer].data) for m in model.metadata}
    assert held[b"min_runtime_version"].rstrip(b"\0") == b"2.15.0"


@pytest.mark.parametrize("seed", range(4))
def test_random_networks_of_few_bits_are_exact_too(tmp_path: Path, seed: int) -> None:
    """Branches, pools, tables, thresholds, every rounding."""
    make = wide_net if seed % 2 else random_net
    path = make(np.random.default_rng(700 + seed), tmp_path / "net.onnx", po2=seed > 1)
    compiled(path, tmp_path / "artifact", runtime=RUNTIMES[seed // 2], exact="proven")


def test_int8_names_the_option_that_holds_more(tmp_path: Path) -> None:
    model = network(tmp_path, 12, PO2)
    with pytest.raises(Unsupported, match="set activations=int16"):
        compiled(model, tmp_path / "artifact", activations="int8")


def test_more_than_16_bits_are_refused(tmp_path: Path) -> None:
    model = network(tmp_path, 17, PO2)
    with pytest.raises(Unsupported, match="int16 holds 65536") as caught:
        compiled(model, tmp_path / "artifact")
    assert "set activations" not in str(caught.value)


def test_options_of_int8_are_refused() -> None:
    with pytest.raises(UsageError, match="XNNPACK has no kernels for int16"):
        Tflite(activations=Activations.INT16, runtime=Runtime.TFLITE_RUNTIME, xnnpack=True)
    with pytest.raises(UsageError, match="dense layers of int16 take int8 weights"):
        Tflite(activations=Activations.INT16, weights=Weights.INT4)
