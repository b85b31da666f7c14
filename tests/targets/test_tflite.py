"""The tflite target: the real interpreters against the reference, and the file on its own."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter as LiteRt
from flatbuffers.number_types import Float32Flags, Uint8Flags
from flatbuffers.table import Table
from numpy.typing import NDArray

from flow.driver import check_model, compile_model, run_artifact
from flow.errors import FlowError, Mismatch, ToolMissing, Unsupported, UsageError
from flow.graph import Graph, Node, Value
from flow.host_snippet import Host
from flow.importer import HostInput, import_qonnx
from flow.importer.meaning import HostKind, HostStep
from flow.interp import Interpreter
from flow.onnx_file import read
from flow.ops import Transpose
from flow.plan import Events, Request
from flow.qat.recipe import Granularity, Scale
from flow.qat.train import train
from flow.qtype import QType
from flow.report.text import render
from flow.requant import Rounding
from flow.target import Program
from models import MODELS
from targets.tflite.flatbuffer import packed
from targets.tflite.metadata import normalization
from targets.tflite.simulation import MODEL, Run, run_file
from targets.tflite.target import Exact, Runtime, Tflite
from tests.network.nets import Net, random_net
from tests.network.wide import wide_net

RUNTIMES = ("litert", "tflite-runtime")


def compiled(model: Path, out: Path, **options: str) -> Path:
    """Compile an .onnx file and give the artifact's folder."""
    request = Request(str(model), "tflite", options, out, out.parent)
    assert compile_model(request, Events()).agreement.matches
    return out


def trained(folder: Path, model: str, scale: Scale, bits: int) -> Path:
    """A shipped model's QONNX file after a short training, with scales as awkward as they come."""
    recipe = dataclasses.replace(
        MODELS[model](),
        scale=scale,
        granularity=Granularity.CHANNEL if scale is Scale.FLOAT else Granularity.TENSOR,
        weight_bits=bits,
        act_bits=bits,
        float_epochs=1,
        epochs=1,
    )
    return train(recipe, folder / "training").model


def operators(path: Path) -> list[str]:
    """The file's operators in order, by the schema's names."""
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    names = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
    codes = [names[code.builtinCode] for code in model.operatorCodes]
    return [codes[op.opcodeIndex] for op in model.subgraphs[0].operators]


@pytest.mark.parametrize(
    ("scale", "bits"),
    [(Scale.PO2, 8), (Scale.PO2, 4), (Scale.PO2, 2), (Scale.FLOAT, 4)],
)
@pytest.mark.parametrize("model", ["digits_mlp", "digits_cnn"])
def test_trained_models_are_exact_on_litert(
    tmp_path: Path, model: str, scale: Scale, bits: int
) -> None:
    artifact = compiled(trained(tmp_path, model, scale, bits), tmp_path / "artifact")
    report = json.loads((artifact / "report.json").read_text())
    assert report["outputs_equal"] == report["outputs_total"] >= 10_000
    assert not report["warnings"]  # every requantization is proven, so no vector could differ


@pytest.mark.parametrize("model", ["digits_mlp", "digits_cnn"])
def test_float_scales_at_8_bits_are_proven_or_nearly_exact(tmp_path: Path, model: str) -> None:
    """A float32 multiplier does not reach every step: codes differ by 1 in at most 5 of 10,000
    places; rows that correct them leave none."""
    file = trained(tmp_path, model, Scale.FLOAT, 8)
    proven = compiled(file, tmp_path / "proven")
    assert not json.loads((proven / "report.json").read_text())["warnings"]
    assert "GREATER_EQUAL" not in operators(proven / MODEL)  # nothing in int32
    options = {"exact": "measured"}
    request = Request(str(file), "tflite", options, tmp_path / "measured", tmp_path)
    report = compile_model(request, Events())
    assert any("not proven" in text for text in report.warnings)
    graph = Graph.from_json((proven / "graph.json").read_text())
    with np.load(proven / "vectors.npz") as vectors:
        codes = vectors["inputs"]
    reference = Interpreter(graph).trace(codes)
    found = Tflite().simulation(graph, tmp_path / "measured").trace(codes)
    inner = [name for name in found if name.endswith("_act")]
    wrong = [np.abs(found[name] - reference[name]) for name in inner]
    assert max(part.max() for part in wrong) <= 1
    assert sum((part > 0).sum() for part in wrong) <= 5e-4 * sum(part.size for part in wrong)


@pytest.mark.parametrize("seed", range(12))
def test_random_networks_are_exact(tmp_path: Path, seed: int) -> None:
    """Branches, pools, tables, thresholds, every rounding: on both runtimes where all is proven."""
    rng = np.random.default_rng(900 + seed)
    make = wide_net if seed % 3 else random_net
    path = make(rng, tmp_path / "net.onnx", po2=bool(seed % 2))
    compiled(path, tmp_path / "artifact", runtime=RUNTIMES[seed % 2], exact="proven")


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_binary_networks_are_exact(tmp_path: Path, runtime: str) -> None:
    rng = np.random.default_rng(3)
    net = Net((12,))
    made = net.node("BipolarQuant", ["x", net.constant(np.float32(1))])
    for ins, outs in ((12, 9), (9, 4)):
        weight = net.constant(rng.normal(0, 1, (outs, ins)))
        weight = net.node("BipolarQuant", [weight, net.constant(np.float32(0.5))])
        made = net.node("Gemm", [made, weight], f"fc{outs}", transB=1)
        if outs == 9:
            made = net.node("BipolarQuant", [made, net.constant(np.float32(1))])
    artifact = compiled(net.save(tmp_path / "net.onnx", made), tmp_path / "out", runtime=runtime)
    assert operators(artifact / MODEL).count("FULLY_CONNECTED") == 2


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_pool_before_the_sign_is_taken_after_it(tmp_path: Path, runtime: str) -> None:
    rng = np.random.default_rng(4)
    net = Net((2, 6, 6))
    x = net.quant("x", 0.25, 8, signed=False)
    w = net.quant(net.constant(rng.normal(0, 0.5, (3, 2, 3, 3))), 0.125, 4, narrow=True)
    y = net.node("Conv", [x, w], "conv", kernel_shape=[3, 3])
    y = net.node("MaxPool", [y], "pool", kernel_shape=[2, 2], strides=[2, 2])
    y = net.node("BipolarQuant", [y, net.constant(np.float32(1))], "sign")
    y = net.node("Flatten", [y], "flat", axis=1)
    w = net.quant(net.constant(rng.normal(0, 0.5, (3, 12))), 0.125, 4, narrow=True)
    path = net.save(tmp_path / "net.onnx", net.node("Gemm", [y, w], "fc", transB=1))
    artifact = compiled(path, tmp_path / "out", runtime=runtime)
    assert operators(artifact / MODEL)[:2] == ["CONV_2D", "MAX_POOL_2D"]


@pytest.fixture(scope="module")
def cnn_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Convolution, pool and three dense layers, with ties in every requantization."""
    folder = tmp_path_factory.mktemp("cnn")
    rng = np.random.default_rng(7)
    net = Net((1, 6, 6))
    x = net.quant("x", 0.25, 8, signed=False)
    w = net.quant(net.constant(rng.normal(0, 0.5, (3, 1, 3, 3))), 0.125, 4, narrow=True)
    y = net.node("Conv", [x, w], "conv1", pads=[1] * 4, kernel_shape=[3, 3])
    y = net.quant(net.node("Relu", [y]), 0.25, 5, signed=False, name="act1")
    y = net.node("MaxPool", [y], "pool", kernel_shape=[2, 2], strides=[2, 2])
    y = net.node("Flatten", [y], "flat", axis=1)
    w = net.quant(net.constant(rng.normal(0, 0.4, (16, 27))), 0.125, 4, narrow=True)
    y = net.node("Gemm", [y, w], "fc1", transB=1)
    y = net.quant(net.node("Relu", [y]), 0.5, 4, signed=False, name="act2")
    w = net.quant(net.constant(rng.normal(0, 0.4, (8, 16))), 0.125, 2, narrow=True)
    y = net.node("Gemm", [y, w], "fc2", transB=1)
    y = net.quant(net.node("Relu", [y]), 0.5, 4, signed=False, name="act3")
    w = net.quant(net.constant(rng.normal(0, 0.4, (3, 8))), 0.0625, 8, narrow=True)
    return net.save(folder / "cnn.onnx", net.node("Gemm", [y, w], "fc3", transB=1))


@pytest.fixture(scope="module")
def cnn(cnn_file: Path) -> Path:
    return compiled(cnn_file, cnn_file.parent / "artifact")


def test_the_file_is_integers_without_a_stray_operator(cnn: Path) -> None:
    assert operators(cnn / MODEL) == [
        "CONV_2D",
        "MAX_POOL_2D",
        "RESHAPE",
        "FULLY_CONNECTED",
        "FULLY_CONNECTED",
        "RESHAPE",  # the same codes with the zero-point 0, for the BATCH_MATMUL
        "BATCH_MATMUL",
        "ADD",
    ]
    model = schema.ModelT.InitFromPackedBuf((cnn / MODEL).read_bytes(), 0)
    types = {tensor.type for tensor in model.subgraphs[0].tensors}
    assert types == {schema.TensorType.INT8, schema.TensorType.INT32}


def test_the_report_says_which_kernels_ran(cnn: Path) -> None:
    metrics = {m["name"]: m for m in json.loads((cnn / "report.json").read_text())["metrics"]}
    assert "1 CONV_2D, 1 MAX_POOL_2D" in metrics["by XNNPACK"]["source"]
    assert "BATCH_MATMUL" in metrics["by runtime"]["source"]
    assert metrics["file size"]["value"] == (cnn / MODEL).stat().st_size
    found = json.loads((cnn / "report.json").read_text())["metrics"]
    kinds = {m["kind"]: m for m in found if m["name"] == "latency on one thread"}
    assert kinds.keys() == {"measured", "estimated"}
    assert kinds["measured"]["value"] > 0 and "LiteRT" in kinds["estimated"]["source"]


def test_the_signature_names_input_and_output(cnn: Path) -> None:
    runner = LiteRt(model_path=str(cnn / MODEL)).get_signature_runner("serving_default")
    with np.load(cnn / "vectors.npz") as vectors:
        codes, expected = vectors["inputs"][:5], vectors["expected"][:5]
    for one, wanted in zip(codes, expected, strict=True):
        numbers = (np.moveaxis(one, 0, -1)[None] - 128).astype(np.int8)  # unsigned 8-bit codes
        assert np.array_equal(runner(input=numbers)["output"][0], wanted)


def test_the_snippet_runs_without_us(cnn: Path, tmp_path: Path) -> None:
    """Copied elsewhere, floats in, real scores out, in a folder that knows nothing of bitwright."""
    elsewhere = shutil.copytree(cnn, tmp_path / "elsewhere")
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 64, (20, 1, 6, 6)).astype(np.float32)
    np.save(elsewhere / "x.npy", x)
    code = (
        "import numpy as np; from run_tflite import Network; "
        "np.save('y.npy', Network('model.tflite')(np.load('x.npy')))"
    )
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=elsewhere, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    host = Host.load(cnn / "host.json")
    graph = Graph.from_json((cnn / "graph.json").read_text())
    wanted = host.dequantize(Interpreter(graph).run(host.quantize(x)))
    assert np.array_equal(np.load(elsewhere / "y.npy"), wanted)


def test_the_file_says_what_it_is(cnn: Path, cnn_file: Path) -> None:
    """The standard metadata, read by its tables' places, and a buffer of ours."""
    model = schema.ModelT.InitFromPackedBuf((cnn / MODEL).read_bytes(), 0)
    buffers = {m.name: bytes(model.buffers[m.buffer].data) for m in model.metadata}
    standard = buffers[b"TFLITE_METADATA"]
    assert standard[4:8] == b"M001"
    root = Table(bytearray(standard), int.from_bytes(standard[:4], "little"))
    assert text(root, 0) == "cnn"
    sha = hashlib.sha256(cnn_file.read_bytes()).hexdigest()
    assert sha in text(root, 1)
    graphs = root.Offset(4 + 2 * 3)
    graph = Table(root.Bytes, root.Indirect(root.Vector(graphs)))
    for slot, name, says in ((2, "input", "0..255"), (3, "output", "real output = scale")):
        tensor = Table(root.Bytes, root.Indirect(graph.Vector(graph.Offset(4 + 2 * slot))))
        assert text(tensor, 0) == name
        assert says in text(tensor, 1)
    ours = json.loads(buffers[b"bitwright"])
    assert ours["source_sha256"] == sha
    assert ours["host"] == json.loads((cnn / "host.json").read_text())
    assert ours["output"] == json.loads((cnn / "io.json").read_text())["output"]


def test_the_metadata_has_normalization_and_labels(cnn_file: Path, tmp_path: Path) -> None:
    """As tables of metadata_schema.fbs, and in a zip archive behind the file; MetadataDisplayer of
    tflite-support 0.4.4 shows them."""
    imported = import_qonnx(read(cnn_file), "net")
    steps = (HostStep(HostKind.SUB, (3.0,), (1,)), HostStep(HostKind.DIV, (4.0,), (1, 1, 1, 1)))
    head = dataclasses.replace(imported.head, steps=steps)
    codes = np.zeros((1, 1, 6, 6), np.int64)
    ends = codes, Interpreter(imported.graph).run(codes)
    program = Program(imported.graph, head, imported.tail, *ends, "", ("cat", "dog", "cow"))
    assert Tflite().emit(program, tmp_path) == []
    with zipfile.ZipFile(tmp_path / MODEL) as archive:
        assert archive.read("labels.txt") == b"cat\ndog\ncow\n"
    run_file(tmp_path / MODEL, np.zeros((1, 36), np.int8), "litert")
    model = schema.ModelT.InitFromPackedBuf((tmp_path / MODEL).read_bytes(), 0)
    (standard,) = [m for m in model.metadata if m.name == b"TFLITE_METADATA"]
    content = bytearray(bytes(model.buffers[standard.buffer].data))
    graph = first(Table(content, int.from_bytes(content[:4], "little")), 3)
    unit = first(first(graph, 2), 4)
    assert unit.Get(Uint8Flags, unit.Pos + unit.Offset(4)) == 1  # NormalizationOptions
    options = Table(content, unit.Indirect(unit.Pos + unit.Offset(6)))
    mean, std = (options.GetVectorAsNumpy(Float32Flags, options.Offset(4 + 2 * k)) for k in (0, 1))
    assert (mean.tolist(), std.tolist()) == ([3.0], [4.0])
    file = first(first(graph, 3), 6)
    assert text(file, 0) == "labels.txt"
    assert file.Get(Uint8Flags, file.Pos + file.Offset(8)) == 2  # TENSOR_AXIS_LABELS


@pytest.mark.parametrize(
    ("steps", "wanted"),
    [
        ((), ([0.0], [1.0])),
        (
            (HostStep(HostKind.MUL, (2.0, 4.0), (2, 1)), HostStep(HostKind.ADD, (1.0,), (1,))),
            ([-0.5, -0.25], [0.5, 0.25]),
        ),
        ((HostStep(HostKind.SUB, (0.0, 1.0, 2.0), (3,)),), None),  # along another axis
        ((HostStep(HostKind.RESHAPE, (6.0,)),), None),
    ],
)
def test_normalization_is_mean_and_std_of_each_channel(
    steps: tuple[HostStep, ...], wanted: tuple[list[float], list[float]] | None
) -> None:
    head = HostInput((2, 3), steps, 1.0, 0, True, Rounding.HALF_EVEN, QType(8, signed=True))
    found = normalization(head)
    assert (None if found is None else (found[0].tolist(), found[1].tolist())) == wanted


def first(table: Table, slot: int) -> Table:
    """The first table of a vector of tables."""
    return Table(table.Bytes, table.Indirect(table.Vector(table.Offset(4 + 2 * slot))))


def text(table: Table, slot: int) -> str:
    return table.String(table.Pos + table.Offset(4 + 2 * slot)).decode()


MOCK = """
#include <cstdint>
#include <memory>
namespace tflite {
struct FlatBufferModel {
  static std::unique_ptr<FlatBufferModel> BuildFromFile(const char*) {
    return std::make_unique<FlatBufferModel>();
  }
};
struct Interpreter {  // "runs" the network by giving out what it was told
  std::int8_t input[36];
  std::int32_t output[3];
  void SetNumThreads(int) {}
  int AllocateTensors() { return 0; }
  int Invoke() { for (int i = 0; i < 3; ++i) output[i] = 1000 * i + input[i]; return 0; }
  template <class T> T* typed_input_tensor(int) { return input; }
  template <class T> T* typed_output_tensor(int) { return output; }
};
namespace ops { namespace builtin { struct BuiltinOpResolver {}; } }
struct InterpreterBuilder {
  InterpreterBuilder(FlatBufferModel&, ops::builtin::BuiltinOpResolver&) {}
  int operator()(std::unique_ptr<Interpreter>* made) {
    *made = std::make_unique<Interpreter>();
    return 0;
  }
};
}
"""
MAIN = """
#include "network.cpp"
#include <cstdio>
int main() {
  std::vector<float> x(36);
  for (float& value : x) if (std::scanf("%f", &value) != 1) return 1;
  for (double y : Network("model.tflite")(x)) std::printf("%.17g ", y);
}
"""


def test_the_cpp_snippet_quantizes_and_dequantizes_as_the_host(cnn: Path, tmp_path: Path) -> None:
    """Built with g++ against a runtime that gives back its input."""
    for name in ("interpreter", "interpreter_builder", "kernels/register", "model_builder"):
        header = tmp_path / "tensorflow" / "lite" / f"{name}.h"
        header.parent.mkdir(parents=True, exist_ok=True)
        header.write_text(MOCK if name == "interpreter" else "")
    shutil.copy(cnn / "network.cpp", tmp_path)
    (tmp_path / "main.cpp").write_text(MAIN)
    built = ["g++", "-std=c++17", "-Wall", "-Werror", "-I.", "main.cpp", "-o", "main"]
    subprocess.run(built, cwd=tmp_path, check=True)
    rng = np.random.default_rng(1)
    host = Host.load(cnn / "host.json")
    ties = rng.integers(0, 600, 36) / 2 * 0.25  # every other one between two codes, some beyond
    for x in (rng.uniform(-3, 80, 36).astype(np.float32), ties.astype(np.float32)):
        given = " ".join(repr(float(value)) for value in x)
        done = subprocess.run(
            ["./main"], cwd=tmp_path, input=given, capture_output=True, text=True, check=True
        )
        numbers = host.quantize(x.reshape(1, 1, 6, 6)).reshape(-1)[:3] - 128
        wanted = host.scores((1000 * np.arange(3) + numbers)[None])[0]
        assert np.array_equal(np.array(done.stdout.split(), float), wanted)


def test_tflite_runtime_is_exact_with_powers_of_two(cnn_file: Path, tmp_path: Path) -> None:
    """It rounds ties up, and the network to even: two kernels share the steps of a layer."""
    artifact = compiled(cnn_file, tmp_path / "artifact", runtime="tflite-runtime")
    assert not json.loads((artifact / "report.json").read_text())["warnings"]
    found = operators(artifact / MODEL)
    assert (found.count("CONV_2D"), found.count("FULLY_CONNECTED"), found.count("ADD")) == (2, 4, 4)


@pytest.mark.parametrize("network", ["cnn_file", "thirds_file"])
def test_xnnpack_of_tflite_runtime_is_exact(
    request: pytest.FixtureRequest, tmp_path: Path, network: str
) -> None:
    file: Path = request.getfixturevalue(network)
    more = {"runtime": "tflite-runtime", "xnnpack": "true"}
    artifact = compiled(file, tmp_path / "artifact", **more)
    report = json.loads((artifact / "report.json").read_text())
    assert not report["warnings"]
    metrics = {m["name"]: m for m in report["metrics"]}
    assert "CONV_2D" in metrics["by XNNPACK"]["source"]
    assert "CONV_2D" not in metrics["by runtime"]["source"]
    code = (
        "import numpy as np; from run_tflite import Network; v = np.load('vectors.npz'); "
        "network = Network('model.tflite', 'tflite-runtime'); "
        "assert np.array_equal(network.codes(v['inputs'][:50]), v['expected'][:50])"
    )
    subprocess.run([sys.executable, "-c", code], cwd=artifact, check=True)


def test_xnnpack_that_does_not_run_falls_back_and_says_so(
    cnn_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without(
        model: Path, numbers: NDArray[np.int8], runtime: str, xnnpack: bool = False, rounds: int = 0
    ) -> Run:
        if xnnpack:
            raise ToolMissing("no such function")
        return run_file(model, numbers, runtime, rounds=rounds)

    monkeypatch.setattr("targets.tflite.target.run_file", without)
    more = {"runtime": "tflite-runtime", "xnnpack": "true"}
    artifact = compiled(cnn_file, tmp_path / "artifact", **more)
    report = json.loads((artifact / "report.json").read_text())
    (warning,) = report["warnings"]
    assert "NOT in effect" in warning and "no such function" in warning
    names = [m["name"] for m in report["metrics"]]
    assert "by runtime" in names and "by XNNPACK" not in names
    latencies = [m["kind"] for m in report["metrics"] if m["name"] == "latency on one thread"]
    assert latencies == ["measured"], "of other kernels than LiteRT's none is estimated"
    assert not json.loads((artifact / "io.json").read_text())["xnnpack"]


def test_xnnpack_that_gives_other_codes_falls_back(
    cnn_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file for XNNPACK's rounding, run by the default kernels under its name."""

    def other(
        model: Path, numbers: NDArray[np.int8], runtime: str, xnnpack: bool = False, rounds: int = 0
    ) -> Run:
        done = run_file(model, numbers, runtime, rounds=rounds)
        return Run(done.outputs, done.builtin, []) if xnnpack else done

    for module in ("target", "simulation"):
        monkeypatch.setattr(f"targets.tflite.{module}.run_file", other)
    more = {"runtime": "tflite-runtime", "xnnpack": "true"}
    report = json.loads((compiled(cnn_file, tmp_path / "out", **more) / "report.json").read_text())
    assert "does not match the reference" in report["warnings"][0]


def test_xnnpack_is_an_option_of_tflite_runtime() -> None:
    with pytest.raises(UsageError, match="LiteRT always runs XNNPACK"):
        Tflite(xnnpack=True)


@pytest.fixture(scope="module")
def thirds_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two dense layers of 8 bits whose scales are no powers of two."""
    rng = np.random.default_rng(8)
    net = Net((24,))
    y = net.quant("x", 0.013, 8, signed=False)
    for number, ins, outs in ((1, 24, 32), (2, 32, 6)):
        w = net.quant(net.constant(rng.normal(0, 0.3, (outs, ins))), 0.0071, 8, narrow=True)
        y = net.node("Gemm", [y, w], f"fc{number}", transB=1)
        if number == 1:
            y = net.quant(net.node("Relu", [y]), 0.017, 8, signed=False, name="act1")
    return net.save(tmp_path_factory.mktemp("thirds") / "thirds.onnx", y)


def test_tflite_runtime_differs_and_says_so(thirds_file: Path, tmp_path: Path) -> None:
    """It rounds twice: refused, let pass with the figures, or compared step by step."""

    def request(exact: str) -> Request:
        options = {"runtime": "tflite-runtime", "exact": exact}
        return Request(str(thirds_file), "tflite", options, tmp_path / exact, tmp_path)

    with pytest.raises(Mismatch, match="first difference: layer act1") as caught:
        compile_model(request("required"), Events())
    assert "exact=measured" in str(caught.value)
    assert not (tmp_path / "required").exists()
    report = compile_model(request("measured"), Events())
    assert not report.agreement.matches
    text = render(report).splitlines()
    assert text[0] == "thirds on tflite differs from the reference"
    assert f"largest difference {report.agreement.largest})" in text[1]
    assert 0 < report.agreement.outputs_equal < report.agreement.outputs
    assert compile_model(request("measured"), Events()).agreement == report.agreement  # kept
    assert compile_model(request("proven"), Events()).agreement.matches


def test_a_file_with_another_weight_is_found_out(cnn: Path, tmp_path: Path) -> None:
    """Where it differs is read from the file itself."""
    model = schema.ModelT.InitFromPackedBuf((cnn / MODEL).read_bytes(), 0)
    (tensor,) = [t for t in model.subgraphs[0].tensors if t.name == b"fc1_weight"]
    model.buffers[tensor.buffer].data = model.buffers[tensor.buffer].data ^ 1
    (tmp_path / MODEL).write_bytes(packed(model))
    graph = Graph.from_json((cnn / "graph.json").read_text())
    simulation = Tflite().simulation(graph, tmp_path)
    with np.load(cnn / "vectors.npz") as vectors:
        codes = vectors["inputs"][:50]
    reference, found = Interpreter(graph).trace(codes), simulation.trace(codes)
    assert {name for name in found if not np.array_equal(found[name], reference[name])} == {
        "act2",
        "act3",
        graph.output.name,
    }


@pytest.mark.parametrize("kept", [0, 3, 100, 2000])
def test_a_truncated_file_is_refused(cnn: Path, tmp_path: Path, kept: int) -> None:
    (tmp_path / MODEL).write_bytes((cnn / MODEL).read_bytes()[:kept])
    graph = Graph.from_json((cnn / "graph.json").read_text())
    simulation = Tflite().simulation(graph, tmp_path)
    codes = np.zeros((1, 1, 6, 6), np.int64)
    with pytest.raises(UsageError, match=r"model\.tflite"):
        simulation.run(codes)
    with pytest.raises(UsageError, match=r"model\.tflite"):
        simulation.trace(codes)


def test_check_counts_the_confusion_between_classes(cnn_file: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    x = rng.uniform(0, 64, (300, 1, 6, 6)).astype(np.float32)
    labels = rng.integers(0, 3, 300)
    np.savez(tmp_path / "data.npz", x=x, y=labels)
    request = Request(str(cnn_file), "tflite", {}, tmp_path / "out", tmp_path)
    report = check_model(request, tmp_path / "data.npz", Events())
    assert report.agreement.matches
    counts = np.array(report.confusion)
    assert np.array_equal(counts.sum(axis=1), np.bincount(labels))
    assert counts.trace() / 300 == report.accuracy["simulation"].value
    assert report.to_json()["confusion"] == counts.tolist()
    assert f"  {0:>3}: " in render(report)
    named = render(dataclasses.replace(report, classes=("cat", "horse", "cow")))
    assert "    cat: " in named and "  horse: " in named


def test_a_changed_artifact_is_refused_before_it_runs(cnn: Path, tmp_path: Path) -> None:
    artifact = shutil.copytree(cnn, tmp_path / "artifact")
    content = bytearray((artifact / MODEL).read_bytes())
    content[len(content) // 2] ^= 1
    (artifact / MODEL).write_bytes(content)
    np.save(tmp_path / "x.npy", np.zeros((1, 6, 6), np.int64))
    with pytest.raises(UsageError, match="was changed"):
        run_artifact(artifact, tmp_path / "x.npy")


def test_inputs_of_the_wrong_shape_or_type_are_refused(cnn: Path, tmp_path: Path) -> None:
    for wrong in (np.zeros((6, 5), np.int64), np.full((1, 6, 6), 256), np.full((1, 6, 6), np.nan)):
        np.save(tmp_path / "x.npy", wrong)
        with pytest.raises(UsageError, match=r"shape|codes|NaN|finite|number"):
            run_artifact(cnn, tmp_path / "x.npy")


def test_a_broken_runtime_is_told_from_a_broken_file(
    cnn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under numpy 2: the import succeeds, building an interpreter does not."""
    package = tmp_path / "broken" / "tflite_runtime"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "interpreter.py").write_text(
        "class Interpreter:\n    def __init__(self, **_):\n"
        "        raise SystemError('compiled using NumPy 1.x')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "broken"))
    numbers = np.zeros((1, 36), np.int8)
    with pytest.raises(ToolMissing, match=r"broken here: SystemError.*numpy 1"):
        run_file(cnn / MODEL, numbers, "tflite-runtime")


def test_what_int8_does_not_hold_is_refused(tmp_path: Path) -> None:
    net = Net((4,))
    x = net.quant("x", 0.25, 12)
    w = net.quant(net.constant(np.ones((2, 4))), 0.25, 4)
    path = net.save(tmp_path / "net.onnx", net.node("Gemm", [x, w], "fc", transB=1))
    graph = import_qonnx(read(path), "net").graph
    (offence,) = Tflite().check(graph)
    assert "12 bits" in offence.reason
    with pytest.raises(Unsupported):
        compiled(path, tmp_path / "out")


def test_more_axes_than_the_format_has_are_refused() -> None:
    value = Value("x", (2, 2, 2, 2, 2), QType(4, signed=True), (Fraction(1),))
    moved = dataclasses.replace(value, name="y")
    node = Node("turn", Transpose((1, 0, 2, 3, 4)), ("x",), moved)
    (offence,) = Tflite().check(Graph.build("deep", value, (node,)))
    assert offence.node == "turn" and "5 axes" in offence.reason


def test_convolutions_in_three_dimensions_are_refused(tmp_path: Path) -> None:
    net = Net((1, 3, 3, 3))
    x = net.quant("x", 0.25, 8)
    w = net.quant(net.constant(np.ones((2, 1, 2, 2, 2))), 0.25, 4)
    path = net.save(tmp_path / "net.onnx", net.node("Conv", [x, w], "conv", kernel_shape=[2] * 3))
    with pytest.raises(Unsupported, match=r"(?s)conv.*use 1-D or 2-D convolutions"):
        compiled(path, tmp_path / "out")


@pytest.mark.parametrize("scale", [2.0**-60, 2.0**60])
def test_scales_that_the_runtimes_reject_are_written_as_others(
    tmp_path: Path, scale: float
) -> None:
    """Only ratios of scales count, and the host's come from host.json."""
    net = Net((4,))
    x = net.quant("x", scale, 8)
    w = net.quant(net.constant(np.arange(8).reshape(2, 4) / 4), 0.25, 4)
    y = net.quant(net.node("Gemm", [x, w], "fc", transB=1), 4 * scale, 6)
    w = net.quant(net.constant(np.eye(2)), 0.25, 4)
    artifact = compiled(
        net.save(tmp_path / "net.onnx", net.node("Gemm", [y, w], "fc2", transB=1)),
        tmp_path / "out",
    )
    model = schema.ModelT.InitFromPackedBuf((artifact / MODEL).read_bytes(), 0)
    kept = [t.quantization for t in model.subgraphs[0].tensors if t.quantization is not None]
    written = np.concatenate([q.scale for q in kept if q.scale is not None])
    assert 2.0**-40 <= written.min() and written.max() <= 2.0**40


def test_check_compiles_again_where_the_file_was_cut(cnn_file: Path, tmp_path: Path) -> None:
    artifact = compiled(cnn_file, tmp_path / "out")
    whole = (artifact / MODEL).read_bytes()
    (artifact / MODEL).write_bytes(whole[:1000])
    rng = np.random.default_rng(5)
    x = rng.uniform(0, 64, (20, 1, 6, 6)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x, y=np.zeros(20, np.int64))
    notes: list[str] = []
    request = Request(str(cnn_file), "tflite", {}, artifact, tmp_path)
    report = check_model(request, tmp_path / "data.npz", Events(note=notes.append))
    assert report.agreement.matches and any("compiling again" in note for note in notes)
    assert (artifact / MODEL).read_bytes() == whole


@pytest.mark.parametrize("weights", ["int4", "int2"])
def test_packed_weights_are_refused_where_the_runtime_has_no_kernel(
    cnn_file: Path, tmp_path: Path, weights: str
) -> None:
    with pytest.raises(Unsupported, match="use runtime=litert"):
        compiled(cnn_file, tmp_path / "out", weights=weights, runtime="tflite-runtime")


@pytest.mark.parametrize("weights", ["int4", "int2"])
def test_packed_weights_are_exact_and_smaller(
    cnn: Path, cnn_file: Path, tmp_path: Path, weights: str
) -> None:
    """fc1 has rows of 27, which do not end with a byte; fc3 gives int32, by another kernel."""
    packed = compiled(cnn_file, tmp_path / "packed", weights=weights)
    saved = (cnn / MODEL).stat().st_size - (packed / MODEL).stat().st_size
    assert saved >= 8 * 16 * (8 - int(weights[3:])) // 8 - 8  # tensors are aligned
    notes = json.loads((packed / "report.json").read_text())["warnings"]
    assert notes == [f"weights packed as {weights}: fc2", "weights left in int8: fc1"]


def test_a_simulation_of_nothing_says_so(cnn: Path, tmp_path: Path) -> None:
    graph = Graph.from_json((cnn / "graph.json").read_text())
    for target in (
        Tflite(exact=Exact.MEASURED),
        Tflite(runtime=Runtime.TFLITE_RUNTIME, xnnpack=True),
    ):
        with pytest.raises(FlowError, match="compile again"):
            target.simulation(graph, tmp_path)
