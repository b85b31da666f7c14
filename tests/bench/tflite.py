"""Latency, cold start, file size and memory of mnist_cnn's network, against peers in the same run.

Batch 1, one thread, 1,000 rounds in which every contestant has its turn, in a new random order each
round, so that a slow moment of the machine hits all. In its turn it runs three times and the last
is timed: its code and weights are in the caches again, as when it runs alone. Cold start and peak
memory are of a process of its own: from the import of the runtime to the first output. The weights
are untrained: speed does not depend on them. ai-edge-quantizer, which makes an int8 file of the
float one by calibration, is among the peers where it is installed (`pip install -e .[peers]`). The
last rows are what litert-benchmark says of the same files by itself, in steps of 10 us. Run with
`make bench SUITE=tflite`; writes reports/baseline/tflite_bench.csv.
"""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROUNDS, WARM_UP = 1000, 50
AGAIN = 2  # runs in a turn before the one that is timed
XNNPACK = "tflite-runtime by XNNPACK"
OWN = ("bitwright int8, LiteRT", "float, LiteRT")  # what litert-benchmark is asked for, too
DOT_PRODUCTS = ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")  # of int8, by the kernel
OUT = Path("reports/baseline/tflite_bench.csv")
MODEL = "mnist_cnn"
SHAPE = (1, 1, 28, 28)
Session = Callable[[], Any]


def build(folder: Path) -> dict[str, tuple[str, Path]]:
    """Every contestant's kind of session and file."""
    int8, int4 = (_ours(folder / name, name) for name in ("int8", "int4"))
    floats = folder / "float.tflite"
    floats.write_bytes(as_float(int8.read_bytes()))
    network, onnx = _torch(folder)
    made = {
        "bitwright int8, LiteRT": ("litert", int8),
        "bitwright int4, LiteRT": ("litert", int4),
        "bitwright int8, tflite-runtime": (
            "tflite-runtime",
            _ours(folder / "ruy", "int8", runtime="tflite-runtime", exact="measured"),
        ),
        "bitwright int8, tflite-runtime, XNNPACK": (
            XNNPACK,
            _ours(folder / "xnnpack", "int8", runtime="tflite-runtime", xnnpack="true"),
        ),
        "float, LiteRT": ("litert", floats),
        "float, ONNX Runtime": ("onnxruntime", onnx),
        "QDQ int8, ONNX Runtime": ("onnxruntime", _qdq(onnx, folder / "qdq.onnx")),
        "float, torch eager": ("torch", network),
    }
    if importlib.util.find_spec("ai_edge_quantizer"):
        made["int8 by ai-edge-quantizer, LiteRT"] = ("litert", _calibrated(floats))
    return made


def _ours(folder: Path, weights: str, **more: str) -> Path:
    from flow.driver import compile_model
    from flow.plan import Events, Request

    options = {"untrained": "true", "weights": weights, **more}
    compile_model(Request(MODEL, "tflite", options, folder, folder.parent), Events())
    return folder / "model.tflite"


def as_float(content: bytes) -> bytes:
    """The same network on floats: every int8 tensor and bias as float32, weights times scale."""
    from ai_edge_litert import schema_py_generated as schema

    from targets.tflite.flatbuffer import packed

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    (graph,) = model.subgraphs
    reshape = schema.BuiltinOperator.RESHAPE
    shapes = {
        int(op.inputs[1])
        for op in graph.operators
        if model.operatorCodes[op.opcodeIndex].builtinCode == reshape
    }
    for place, tensor in enumerate(graph.tensors):
        if place in shapes:
            continue
        data = model.buffers[tensor.buffer].data
        if tensor.buffer and data is not None:
            kind = np.int8 if tensor.type == schema.TensorType.INT8 else np.int32
            values = np.frombuffer(bytes(data), kind).reshape(tensor.shape).astype(np.float32)
            model.buffers[tensor.buffer].data = np.frombuffer((values / 100).tobytes(), np.uint8)
        tensor.type, tensor.quantization = schema.TensorType.FLOAT32, None
    return packed(model)


def _torch(folder: Path) -> tuple[Path, Path]:
    """(a pickle-free trace of the float twin, its ONNX file)."""
    import torch

    from flow.qat.network import float_network
    from models import MODELS

    torch.manual_seed(0)
    network = float_network(MODELS[MODEL]()).eval()
    weights, onnx = folder / "float.pt", folder / "float.onnx"
    torch.save(network.state_dict(), weights)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, (torch.zeros(SHAPE),), str(onnx), dynamo=False)
    return weights, onnx


def _calibrated(floats: Path) -> Path:
    from ai_edge_quantizer import quantizer, recipe

    made = quantizer.Quantizer(str(floats))
    made.load_quantization_recipe(recipe.static_wi8_ai8())
    rng = np.random.default_rng(0)
    (name, shape), key = _entry(floats), "serving_default"
    samples = [{name: rng.random(shape, np.float32)} for _ in range(16)]
    result = made.quantize(made.calibrate({key: samples}))
    out = floats.with_name("calibrated.tflite")
    result.export_model(str(out))
    return out


def _entry(path: Path) -> tuple[str, tuple[int, ...]]:
    """The name and shape of the signature's input."""
    from targets.tflite.snippet import build as interpreter_of

    runner = interpreter_of(path).get_signature_runner("serving_default")
    ((name, details),) = runner.get_input_details().items()
    return name, tuple(int(size) for size in details["shape"])


def _own_figure(path: Path) -> float:
    """The median that litert-benchmark gives, in us; it writes hundredths of a ms."""
    tool = Path(sys.executable).with_name("litert-benchmark")
    out = path.with_suffix(".json")
    runs = ["--num_runs", str(ROUNDS), "--warmup_runs", str(WARM_UP), "--num_threads", "1"]
    argv = [str(tool), "--model", str(path), *runs, "--result_json", str(out)]
    subprocess.run(argv, capture_output=True, check=True)
    return float(json.loads(out.read_text())["latency"]["median_ms"]) * 1e3


def _processor() -> str:
    """What it is, and whether it multiplies int8 in dot products; Linux only."""
    text = Path("/proc/cpuinfo").read_text()
    names = (line.partition(":")[2] for line in text.splitlines() if line.startswith("model name"))
    found = [flag for flag in DOT_PRODUCTS if flag in text.split()]
    products = f"int8 dot products: {', '.join(found)}" if found else "no int8 dot products"
    return f"{platform.machine()}, {next(names, 'name unknown').strip()}, {products}"


def _qdq(onnx: Path, out: Path) -> Path:
    import onnxruntime
    from onnxruntime import quantization as q

    class Reader(q.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            rng = np.random.default_rng(0)
            name = onnxruntime.InferenceSession(str(onnx)).get_inputs()[0].name
            self.rows = iter([{name: rng.random(SHAPE, np.float32)} for _ in range(16)])

        def get_next(self) -> Any:
            return next(self.rows, None)

    q.quantize_static(str(onnx), str(out), Reader(), per_channel=True)
    return out


def session(kind: str, path: Path) -> Session:
    """One inference as a function: set the input, run, read the output."""
    rng = np.random.default_rng(0)
    x = rng.random(SHAPE, np.float32)
    if kind == "torch":
        import torch

        from flow.qat.network import float_network
        from models import MODELS

        torch.set_num_threads(1)
        network = float_network(MODELS[MODEL]()).eval()
        network.load_state_dict(torch.load(path, weights_only=True))
        given = torch.from_numpy(x)

        def eager() -> Any:
            with torch.inference_mode():
                return network(given).numpy()

        return eager
    if kind == "onnxruntime":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        made = onnxruntime.InferenceSession(str(path), options)
        name = made.get_inputs()[0].name
        return lambda: made.run(None, {name: x})[0]
    from targets.tflite.snippet import build as interpreter_of

    xnnpack = kind == XNNPACK
    interpreter = interpreter_of(path, "tflite-runtime" if xnnpack else kind, xnnpack)
    entry, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    numbers = x.reshape(entry["shape"])
    if entry["dtype"] is np.int8:
        numbers = (numbers * 255 - 128).astype(np.int8)

    def invoke() -> Any:
        interpreter.set_tensor(entry["index"], numbers)
        interpreter.invoke()
        return interpreter.get_tensor(result["index"])

    return invoke


def cold(kind: str, path: Path) -> None:
    """Prints seconds to the first output and what it added to the process's peak memory, in MB."""
    before, start = _peak_kilobytes(), time.perf_counter()
    session(kind, path)()
    seconds = time.perf_counter() - start
    print(json.dumps([seconds, (_peak_kilobytes() - before) / 1024]))


def _peak_kilobytes() -> int:
    """This process's own peak; getrusage's begins with that of the process that started it."""
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmHWM")).split()[1])


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        contestants = build(Path(name))
        rows = {}
        for label, (kind, path) in contestants.items():
            argv = [sys.executable, "-W", "ignore", "-m", "tests.bench.tflite", kind, str(path)]
            done = subprocess.run(argv, capture_output=True, text=True, check=True)
            seconds, memory = json.loads(done.stdout.splitlines()[-1])
            rows[label] = [path.stat().st_size, seconds * 1e3, memory]
        sessions = {label: session(*given) for label, given in contestants.items()}
        times = interleaved(sessions)
        own = {label: _own_figure(contestants[label][1]) for label in OWN}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    percents = ("p50", "p90", "p99")
    head = ["contestant", *(f"{p} us" for p in percents), "cold start ms", "file B", "memory MB"]
    writer.writerow(head)
    for label, (size, start, memory) in rows.items():
        quantiles = np.percentile(times[label], [50, 90, 99]) * 1e6
        cells = [*(f"{q:.1f}" for q in quantiles), f"{start:.0f}", size, f"{memory:.1f}"]
        writer.writerow([label, *cells])
    for label, median in own.items():
        writer.writerow([f"{label}, litert-benchmark", f"{median:.0f}", "", "", "", "", ""])
    OUT.write_text(text.getvalue())
    print(text.getvalue(), end="")
    load = os.getloadavg()[0]
    print(_processor())
    print(f"{ROUNDS} interleaved runs each, batch 1, 1 thread, load average {load:.1f}")
    return 0


def interleaved(sessions: dict[str, Session]) -> dict[str, list[float]]:
    """Seconds of every run by contestant."""
    rng = np.random.default_rng(0)
    labels, times = list(sessions), {label: [] for label in sessions}
    for number in range(-WARM_UP, ROUNDS):
        for place in rng.permutation(len(labels)):
            run = sessions[labels[place]]
            for _ in range(AGAIN):
                run()
            start = time.perf_counter()
            run()
            if number >= 0:
                times[labels[place]].append(time.perf_counter() - start)
    return times


if __name__ == "__main__":
    if len(sys.argv) == 3:
        sys.exit(cold(sys.argv[1], Path(sys.argv[2])))
    sys.exit(main())
