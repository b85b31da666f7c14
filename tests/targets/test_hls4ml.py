"""The hls4ml target: C simulation against the interpreter, and the project on its own."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from flow.artifact import read_manifest
from flow.driver import compile_model, prove, run_artifact
from flow.errors import Mismatch, ToolFailed, UsageError
from flow.graph import Graph, Node, Value
from flow.importer import import_qonnx
from flow.metric import Kind
from flow.onnx_file import read
from flow.ops import Dense, DepthToSpace, IntArray, MaxPool, Op, Requant, Slice, Table
from flow.outline import outline
from flow.plan import Events, Plan, Request, _matrices
from flow.qat.formats import Activation
from flow.qat.recipe import Granularity, Scale, apply_options
from flow.qat.train import train
from flow.qtype import QType
from flow.report.run import read_run
from flow.report.vendor.folder import read_folder
from flow.requant import Rounding
from flow.surrogate.hls4ml import valid_reuse_factors
from flow.surrogate.recipes import recipe_outline
from flow.synthesis_report import report_synthesis
from models import MODELS
from targets.hls4ml.lower import lower
from targets.hls4ml.target import Hls4ml
from tests.network.nets import Net, random_net

VENDOR = Path(__file__).resolve().parents[1] / "report" / "vendor" / "data"
IO_TYPES = ("io_parallel", "io_stream")
STRATEGIES = ("latency", "resource")


def compiled(model: Path, out: Path, **options: str) -> Path:
    """Compile an .onnx file and give the artifact's folder."""
    request = Request(str(model), "hls4ml", options, out, out.parent)
    report = compile_model(request, Events())
    assert report.agreement.matches
    return out


@pytest.mark.parametrize(
    ("scale", "granularity"),
    [(Scale.PO2, Granularity.TENSOR), (Scale.FLOAT, Granularity.CHANNEL)],
)
@pytest.mark.parametrize("model", ["digits_mlp", "digits_cnn"])
def test_trained_models_are_exact(
    tmp_path: Path, model: str, scale: Scale, granularity: Granularity
) -> None:
    """Both io types and both strategies; scales as trained, so as awkward as they come."""
    recipe = dataclasses.replace(
        MODELS[model](), scale=scale, granularity=granularity, float_epochs=2, epochs=1
    )
    trained = train(recipe, tmp_path / "training")
    graph = import_qonnx(read(trained.model), model).graph
    for row in recipe.summary():  # what the recipe promised before any training
        made = graph.value(row.name if row.act is None else f"{row.name}_act")
        assert made.shape == row.output_shape
        assert row.act is None or made.qtype == QType(row.act, signed=False)
    for io_type, strategy in itertools.product(IO_TYPES, STRATEGIES):
        artifact = compiled(
            trained.model,
            tmp_path / f"{io_type}-{strategy}",
            io_type=io_type,
            strategy=strategy,
            reuse_factor="4" if strategy == "resource" else "1",
        )
        report = json.loads((artifact / "report.json").read_text())
        assert report["outputs_equal"] == report["outputs_total"] >= 10_000


@pytest.mark.parametrize("seed", range(5))
def test_random_networks_are_exact(tmp_path: Path, seed: int) -> None:
    """Signed, narrow, per-channel, unaligned biases, every rounding that hls4ml can have."""
    rng = np.random.default_rng(500 + seed)
    done = 0
    while not done:
        path = random_net(rng, tmp_path / "net.onnx", po2=bool(seed % 2))
        if Hls4ml().check(import_qonnx(read(path), "net").graph):
            continue  # a rounding that is refused, which other tests look at
        compiled(path, tmp_path / "artifact", io_type=IO_TYPES[seed % 2])
        done += 1


@pytest.fixture(scope="module")
def cnn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small compiled network with a fused and an unfused requantization and a pool."""
    folder = tmp_path_factory.mktemp("cnn")
    rng = np.random.default_rng(7)
    net = Net((1, 6, 6))
    x = net.quant("x", 0.25, 4, signed=False)
    w = net.quant(net.constant(rng.normal(0, 0.5, (3, 1, 3, 3))), 0.125, 4, narrow=True)
    y = net.node("Conv", [x, w], "conv1", pads=[1] * 4, kernel_shape=[3, 3])
    y = net.quant(net.node("Relu", [y]), 0.25, 4, signed=False, name="act1")
    y = net.node("MaxPool", [y], "pool", kernel_shape=[2, 2], strides=[2, 2])
    y = net.node("Flatten", [y], "flat", axis=1)
    w = net.quant(net.constant(rng.normal(0, 0.4, (5, 27))), 0.1, 4, narrow=True)
    y = net.node("Gemm", [y, w], "fc1", transB=1)
    y = net.quant(net.node("Relu", [y]), 0.3, 4, signed=False, name="act2")
    w = net.quant(net.constant(rng.normal(0, 0.4, (3, 5))), 0.1, 4, narrow=True)
    path = net.save(folder / "cnn.onnx", net.node("Gemm", [y, w], "fc2", transB=1))
    return compiled(path, folder / "artifact")


def test_the_project_checks_itself_without_us(cnn: Path, tmp_path: Path) -> None:
    """Copied elsewhere, with an empty environment: passes; with one expected output changed, or one
    weight, it fails and says where."""
    project = shutil.copytree(cnn / "project", tmp_path / "elsewhere")
    environment = {"PATH": "/usr/bin:/bin"}

    def check() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["./check.sh"], cwd=project, env=environment, capture_output=True, text=True
        )

    done = check()
    assert done.returncode == 0, done.stderr
    assert "PASSED" in done.stdout
    predictions = project / "tb_data" / "tb_output_predictions.dat"
    lines = predictions.read_text().splitlines()
    numbers = lines[4].split()
    numbers[1] = str(int(numbers[1]) + 1)
    lines[4] = " ".join(numbers)
    predictions.write_text("\n".join(lines) + "\n")
    done = check()
    assert done.returncode == 1
    assert f"vector 4, output 1: reference {numbers[1]}" in done.stderr


def test_the_project_names_no_place_of_this_machine(cnn: Path) -> None:
    for path in (cnn / "project").rglob("*"):
        if path.is_file():
            assert str(cnn).encode() not in path.read_bytes(), path


def test_the_same_inputs_give_the_same_project(cnn: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(cnn / "model.onnx", tmp_path / "cnn.onnx"))
    again = compiled(path, tmp_path / "again")
    first, second = (read_manifest(folder)["files"] for folder in (cnn, again))
    assert first == second


def test_the_host_snippet_needs_only_numpy(cnn: Path, tmp_path: Path) -> None:
    """host.py quantizes and dequantizes as the graph says, alone in a folder of its own."""
    for name in ("host.py", "host.json"):
        shutil.copy(cnn / name, tmp_path)
    vectors = arrays(cnn)
    np.save(tmp_path / "x.npy", vectors["inputs"] * 0.25)
    np.save(tmp_path / "out.npy", vectors["expected"])
    code = (
        "import numpy as np\nfrom host import Host\nhost = Host.load('host.json')\n"
        "np.save('codes.npy', host.quantize(np.load('x.npy')))\n"
        "np.save('y.npy', host.dequantize(np.load('out.npy')))\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "codes.npy"), vectors["inputs"])
    graph = Graph.from_json((cnn / "graph.json").read_text())
    scale = float(graph.output.scale[0])
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), vectors["expected"] * scale)


def test_an_injected_fault_is_found_in_its_layer(cnn: Path, tmp_path: Path) -> None:
    """One weight of fc1's third output is changed in the built project: the outputs differ, and the
    trace names fc1's result, channel 2, with both values."""
    artifact = shutil.copytree(cnn, tmp_path / "faulty")
    graph = Graph.from_json((artifact / "graph.json").read_text())
    target = Hls4ml()
    constants = artifact / "project" / "firmware" / "weights"
    dense = next(layer for layer in lower(graph).layers if layer.name == "fc1")
    text = _weights_of(constants, dense.inputs * 5)
    numbers = [float(n) for n in text.read_text().split(",")]
    vectors = arrays(artifact)
    # hls4ml lays dense weights out as (in, out): a column is an output's.
    for row in range(dense.inputs):
        numbers[row * 5 + 2] = 0.0
    text.write_text(", ".join(f"{n:.8f}" for n in numbers))
    simulation = target.simulation(graph, artifact)
    with pytest.raises(Mismatch) as caught:
        prove(graph, simulation, vectors["inputs"], vectors["expected"])
    message = str(caught.value)
    assert "matches reference: NO" in message
    assert "first difference: layer fc1, vector" in message
    assert "channel 2" in message
    assert "reference" in message
    assert "artifact 0" in message


def arrays(artifact: Path) -> dict[str, IntArray]:
    """The artifact's test vectors."""
    with np.load(artifact / "vectors.npz") as archive:
        return dict(archive)


def _weights_of(folder: Path, size: int) -> Path:
    """The weight file with that many entries."""
    found = [p for p in folder.glob("w*.txt") if len(p.read_text().split(",")) == size]
    assert len(found) == 1
    return found[0]


def test_trace_covers_every_layer_that_computes(cnn: Path) -> None:
    graph = Graph.from_json((cnn / "graph.json").read_text())
    codes = arrays(cnn)["inputs"][:3]
    trace = Hls4ml().simulation(graph, cnn).trace(codes)
    assert set(trace) == {"act1", "pool", "fc1", "act2", "fc2"}


def test_a_moved_artifact_still_runs(cnn: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(cnn, tmp_path / "moved")
    np.save(tmp_path / "x.npy", np.linspace(0, 3, 2 * 36).reshape(2, 1, 6, 6))
    ran = run_artifact(moved, tmp_path / "x.npy")
    assert ran.report.agreement.matches
    assert ran.outputs.shape == (2, 3)


# Refusals -------------------------------------------------------------------------------------


def graph_of(shape: tuple[int, ...], *ops: Op) -> Graph:
    nodes, source = [], "x"
    one = (Fraction(1),)
    for index, op in enumerate(ops):
        shape_in = nodes[-1].output.shape if nodes else shape
        made = op.qtype if isinstance(op, Requant) else QType(40, signed=True)
        value = Value(f"n{index}", op.output_shape(shape_in), made, one)
        nodes.append(Node(f"n{index}", op, (source,), value))
        source = value.name
    return Graph.build("net", Value("x", shape, QType(4, signed=False), one), tuple(nodes))


def requant(**more: object) -> Requant:
    settings: dict[str, object] = {
        "scale": (Fraction(1, 6),),
        "offset": (Fraction(0),),
        "qtype": QType(4, signed=False),
        "low": 0,
        "high": 15,
        **more,
    }
    return Requant(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("graph", "stream", "reason"),
    [
        (graph_of((4, 2, 2), DepthToSpace(2)), False, "depth_to_space"),
        (graph_of((1, 4, 4), Slice((0, 1, 0), (1, 4, 4), (1, 1, 1))), False, "slice"),
        (graph_of((1, 6, 6), MaxPool((3, 3), (1, 1))), True, "stride equal to the window"),
        (graph_of((3,), Table(np.arange(16) * 7 % 11, 0)), True, "15 comparators"),
        (
            graph_of((3,), Dense(np.full((1, 3), 9), np.zeros(1, np.int64)), requant()),
            True,
            "comparators",
        ),
    ],
)
def test_what_would_not_be_exact_is_refused(graph: Graph, stream: bool, reason: str) -> None:
    options = {"io_type": "io_stream"} if stream else {}
    offences = Hls4ml().with_options(options).check(graph)
    assert len(offences) == 1
    assert reason in offences[0].reason
    assert offences[0].fix


def test_a_power_of_two_costs_no_multiplier() -> None:
    graph = graph_of(
        (3,), Dense(np.full((1, 3), 9), np.zeros(1, np.int64)), requant(scale=(Fraction(1, 8),))
    )
    layers = lower(graph).layers
    assert [layer.name for layer in layers] == ["input_codes", "n0"]
    assert str(layers[1].precision["result"]) == "ufixed<4,4,RND_CONV,SAT>"
    assert str(layers[1].precision["weight"]) == "fixed<5,2>"
    assert str(layers[1].precision["accum"]) == "ufixed<9,6>"


def test_floor_rounding_and_symmetric_clamps_have_their_types() -> None:
    dense = Dense(np.array([[9, -9, 1]]), np.zeros(1, np.int64))
    op = requant(
        scale=(Fraction(1, 8),),
        rounding=Rounding.FLOOR,
        qtype=QType(4, signed=True, narrow=True),
        low=-7,
        high=7,
    )
    layer = lower(graph_of((3,), dense, op)).layers[1]
    assert str(layer.precision["result"]) == "fixed<4,4,TRN,SAT_SYM>"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "Bambu"}, "backend must be one of Vitis, Vivado, Quartus, Catapult"),
        ({"backend": "Quartus"}, "strategy must be resource with backend=Quartus, not latency"),
        ({"backend": "Quartus", "strategy": "resource", "synthesize": "true"}, "must be false"),
        (
            {"backend": "Catapult", "fc1.strategy": "distributed_arithmetic"},
            r"fc1\.strategy must be latency or resource with backend=Catapult",
        ),
        (
            {"strategy": "distributed_arithmetic", "fc1.reuse_factor": "2"},
            r"fc1\.reuse_factor must be 1 with fc1\.strategy=distributed_arithmetic",
        ),
        ({"clock_ns": "fast"}, "clock_ns must be a finite number"),
        ({"clock_ns": "0"}, "clock_ns must be from"),
        ({"reuse_factor": "0"}, "reuse_factor must be from"),
        ({"reuse_factor": "1.5"}, "reuse_factor must be a whole number"),
        ({"part": "x; rm -rf"}, "part must be a device name"),
        ({"fold": "1"}, "unknown option 'fold'"),
        ({"fc1.clock_ns": "3"}, "unknown layer option 'clock_ns'"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Hls4ml().with_options(options)


def test_a_layer_s_reuse_factor_must_be_one_it_allows(cnn: Path) -> None:
    graph = Graph.from_json((cnn / "graph.json").read_text())
    options = {"strategy": "resource", "fc1.reuse_factor": "7"}
    with pytest.raises(UsageError, match=r"fc1.reuse_factor must be one of 1, 3, 9, 27, 135"):
        Hls4ml().with_options(options).check(graph)
    with pytest.raises(UsageError, match=r"unknown layer 'fc9'"):
        Hls4ml().with_options({"fc9.reuse_factor": "1"}).check(graph)
    assert Hls4ml().with_options({**options, "fc1.reuse_factor": "9"}).check(graph) == []


def test_a_layer_s_reuse_factor_is_checked_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And against the matrices that the graph will have, for every layer of every model."""
    monkeypatch.setattr("flow.qat.train.RANDOM_SAMPLES", (20, 4))
    for model in MODELS:
        recipe = dataclasses.replace(MODELS[model](), untrained=True)
        if recipe.activation is not Activation.RELU:  # tables of more steps are refused
            recipe = dataclasses.replace(recipe, act_bits=3)
        graph = import_qonnx(read(train(recipe, tmp_path / model).model), model).graph
        layers = {layer.name: layer for layer in lower(graph).layers if layer.inputs}
        matrices = _matrices(MODELS[model]())
        assert {name: layers[name].matrix for name in matrices} == matrices
    options = {"strategy": "resource", "fc1.reuse_factor": "7"}
    message = r"fc1.reuse_factor must be one of 1, 2, 4, 8, 16, 32, 64, .* not 7"
    with pytest.raises(UsageError, match=message):
        Plan(Request("digits_mlp", "hls4ml", options, None, tmp_path / "none"), Events())


def test_reuse_factors_are_hls4ml_s_own() -> None:
    """Differential: the documented rule against hls4ml's implementation."""
    from hls4ml.backends import get_backend

    backend = get_backend("Vitis")
    for inputs, outputs in itertools.product((1, 2, 3, 5, 8, 12, 27, 64), (1, 2, 3, 10, 16)):
        assert valid_reuse_factors(inputs, outputs) == backend.get_valid_reuse_factors(
            inputs, outputs
        )


def test_estimates_need_no_training() -> None:
    """A recipe tells what its graph does: shapes, bits and options decide."""
    target = Hls4ml().with_options({"strategy": "resource", "reuse_factor": "16"})
    recipe = apply_options(MODELS["digits_mlp"](), {"weight_bits": "8", "fc2.weight_bits": "4"})
    told = target.estimate(recipe_outline(recipe), None)
    found = {m.name: m for m in told.metrics}
    assert found["latency"].value == 3 * 16 + 2 * 3 - 1
    assert (found["interval"].value, found["interval"].kind) == (16, Kind.ESTIMATED)
    known = found["dsp in HLS report"].interval
    # Weights of 8 bits on activations of 5 to 8: no data tell; of 4 bits: none.
    assert known is not None and (known.low, known.high) == (0, (64 * 32 + 32 * 10) // 16)
    assert told.unknown["fc1 lut"] == "input bits 8, where designs seen have 16"
    convolved = Hls4ml().estimate(recipe_outline(MODELS["digits_cnn"]()), None)
    assert {m.name: m.kind for m in convolved.metrics}["interval"] is Kind.ASSUMED
    assert "latency" not in {m.name for m in convolved.metrics}
    assert convolved.unknown["lut in HLS report"] == "no design was seen with max_pool"
    assert "only dense layers" in convolved.unknown["conv1 lut"]


def test_layers_like_those_that_were_seen_are_told() -> None:
    """64 x 32 weights of 8 bits, 512 a multiplier, took 8,191 LUTs in C synthesis."""
    options = {"act_bits": "16", "weight_bits": "8", "input_bits": "16"}
    target = Hls4ml().with_options({"strategy": "resource", "reuse_factor": "512"})
    told = target.estimate(recipe_outline(apply_options(MODELS["jet_mlp"](), options)), None)
    found = {m.name: m for m in told.metrics}
    lut = found["fc2 lut"]
    assert lut.kind is Kind.ESTIMATED and lut.interval is not None
    assert lut.interval.low < 8191 < lut.interval.high < 1.1 * lut.value
    assert "Vitis HLS C synthesis" in lut.source and "Apache" not in lut.source
    wide = found["fc1 lut"]  # of 16 inputs, fewer than any that was seen
    assert wide.source.endswith("beyond all that were seen, hence wide")
    ratio = [m.interval.high / m.value for m in (lut, wide) if m.interval is not None]
    assert ratio[0] < ratio[1]
    assert set(told.unknown) == {"bram_18k by Vivado"}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_estimates_of_a_graph_are_the_compile_s(strategy: str, tmp_path: Path) -> None:
    net = Net((6,))
    last = net.quant("x", 0.25, 4)
    for number, out in enumerate((4, 2), start=1):
        codes = np.random.default_rng(0).integers(-7, 8, (out, 6 if number == 1 else 4))
        weight = net.quant(net.constant(codes / 4), 0.25, 4)
        last = net.node("Gemm", [last, weight], f"fc{number}", transB=1)
        last = net.quant(last, 0.5, 4) if number == 1 else last
    graph = import_qonnx(read(net.save(tmp_path / "net.onnx", last)), "net").graph
    target = Hls4ml().with_options({"strategy": strategy, "reuse_factor": "2"})
    compiled = {m.name: m for m in target.metrics(graph, tmp_path)}
    told = {m.name: m for m in target.estimate(outline(graph), graph).metrics}
    shared = told.keys() & compiled.keys()
    assert shared >= {"latency", "interval", "switching energy", "board energy"}
    assert [told[name].value for name in shared] == [compiled[name].value for name in shared]


# Vendor tools ---------------------------------------------------------------------------------


def fake_tool(
    folder: Path, name: str, status: int, clock: str = "10.00", reached: str = "4.049"
) -> None:
    """A program that writes its arguments and its folder, as a vendor tool would be called, and
    leaves a report: a real one's numbers under our design's name; no report without a clock."""
    script = folder / name
    reports = "dut_prj/solution1/syn/report"
    report = (VENDOR / "hls4ml" / "myproject_csynth.xml").read_text()
    report = report.replace(">myproject<", ">dut<").replace(">5.00<", f">{clock}<")
    report = report.replace(">4.049<", f">{reached}<")
    (folder / "report.xml").write_text(report)
    leave = f"mkdir -p {reports} && cp '{folder}/report.xml' {reports}/dut_csynth.xml\n"
    script.write_text(
        "#!/bin/sh\n"
        'case "$*" in *version*) echo v2024.1; exit 0;; esac\n'
        f'echo "$PWD: $@" > called\necho vendor says no\n{leave if clock else ""}exit {status}\n'
    )
    script.chmod(0o755)


@pytest.mark.parametrize(
    ("backend", "program", "arguments"),
    [
        ("Vitis", "vitis-run", "--mode hls --tcl build_prj.tcl"),
        ("Vivado", "vivado_hls", "-f build_prj.tcl"),
    ],
)
def test_synthesis_runs_the_vendor_s_tool(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    backend: str,
    program: str,
    arguments: str,
) -> None:
    net = Net((2,))
    x = net.quant("x", 0.25, 4)
    w = net.quant(net.constant([[0.5, 0.25]]), 0.25, 4)
    path = net.save(tmp_path / "net.onnx", net.node("Gemm", [x, w], "fc", transB=1))
    tools = tmp_path / "bin"
    tools.mkdir()
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    fake_tool(tools, program, 0)
    artifact = compiled(path, tmp_path / "a", backend=backend, synthesize="true")
    assert (artifact / "project" / "called").read_text().endswith(f"project: {arguments}\n")
    lut = {(m.name, m.kind): m for m in read_run(artifact).told.metrics}["lut", Kind.ESTIMATED]
    assert lut.value == 2532 and "C synthesis: the tool's estimate" in lut.source
    fake_tool(tools, program, 3)
    with pytest.raises(ToolFailed, match="vendor says no"):
        compiled(path, tmp_path / "b", backend=backend, synthesize="true")
    assert not (tmp_path / "b").exists()
    for clock, message in (
        ("", "left no report that can be read: .*holds no report"),
        ("5.00", r"clock 5 ns in .*dut_csynth.xml\), not 10 ns"),
    ):
        fake_tool(tools, program, 0, clock)
        (tmp_path / f"c{clock}" / "project").mkdir(parents=True)
        with pytest.raises(ToolFailed, match=message):
            Hls4ml().with_options({"backend": backend})._run_synthesis(tmp_path / f"c{clock}")
    fake_tool(tools, program, 0, reached="14.049")
    (tmp_path / "slow" / "project").mkdir(parents=True)
    Hls4ml().with_options({"backend": backend})._run_synthesis(tmp_path / "slow")
    (problem,) = read_folder(tmp_path / "slow" / "project").problems()
    assert problem.endswith("clock ap_clk: needs 14.049 ns, 10 ns asked")
    if backend == "Vitis":
        check_reports_against(artifact, tmp_path)


def check_reports_against(artifact: Path, tmp_path: Path) -> None:
    """`make report SYNTH=… ARTIFACT=…` on a copy that was synthesized elsewhere."""
    taken = tmp_path / "elsewhere"
    shutil.copytree(artifact / "project", taken)
    assert Hls4ml().modules(artifact) == {"config2": "fc"}
    report = report_synthesis(taken, artifact)
    assert report.to_json()["artifact"] == str(artifact)
    pairs = {pair.expected.name: pair for pair in report.pairs}
    assert pairs["latency"].reported.value == 10
    assert pairs["latency"].inside is False  # of another network, much larger
    assert "latency: 2 [1, 3] cycles estimated, 10 assumed (outside)" in report.text()
    assert report_synthesis(artifact, artifact).pairs == report.pairs
    xml = taken / "dut_prj/solution1/syn/report/dut_csynth.xml"
    for old, new, says in (
        ("xc7z020-clg400-1", "xc7z030-clg400-1", "part xc7z030-clg400-1 in Vivado HLS 2020.1"),
        (">dut<", ">other<", "design other in"),
        (">10.00<", ">7.00<", "clock 7 ns in"),
    ):
        before = xml.read_text()
        xml.write_text(before.replace(old, new))
        with pytest.raises(UsageError, match=says):
            report_synthesis(taken, artifact)
        xml.write_text(before)
    with (taken / "firmware" / "defines.h").open("a") as file:
        file.write("\n")
    with pytest.raises(UsageError, match=r"is of another design than .*defines.h differs"):
        report_synthesis(taken, artifact)
    shutil.rmtree(taken / "firmware")
    with pytest.raises(UsageError, match=r"cannot be told to be of .* is not there"):
        report_synthesis(taken, artifact)
