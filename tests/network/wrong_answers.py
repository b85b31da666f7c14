"""Files on which today's QONNX path to hls4ml gives wrong answers without a word, or crashes.

Each is a few lines of what training tools really export. `make wrong-answers` measures what
hls4ml's own ONNX reader does with them, beside what bitwright does, and writes
reports/baseline/wrong_answers.csv.
"""

from __future__ import annotations

import csv
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.network.nets import Net

TABLE = Path("reports/baseline/wrong_answers.csv")


def _dense(net: Net, source: str, outs: int, ins: int, scale: object = 0.125) -> str:
    rng = np.random.default_rng(outs * 100 + ins)
    weight = net.quant(net.constant(rng.normal(0, 0.4, (ins, outs))), scale, 4)
    return net.node("MatMul", [source, weight])


def _act(net: Net, source: str, scale: float = 0.25, **more: object) -> str:
    made = net.node("Relu", [source])
    return net.quant(made, scale, 4, signed=False, **more)  # type: ignore[arg-type]


def float_scales(path: Path) -> Path:
    net = Net((8,))
    y = _act(net, _dense(net, net.quant("x", 0.3, 6), 8, 8, 0.0371), 0.173)
    return net.save(path, _dense(net, y, 4, 8, 0.0519))


def per_channel_dense(path: Path) -> Path:
    net = Net((8,))
    scales = 2.0 ** -np.arange(2, 10).reshape(1, 8) + 0.05
    y = _act(net, _dense(net, net.quant("x", 0.25, 6), 8, 8, scales))
    return net.save(path, _dense(net, y, 4, 8))


def zero_point(path: Path) -> Path:
    net = Net((8,))
    x = net.quant("x", 0.25, 6, signed=False, zero=20.0)
    y = net.quant(_dense(net, x, 8, 8), 0.25, 5, signed=False, zero=7.0)
    return net.save(path, _dense(net, y, 4, 8))


def multi_layer_binary(path: Path) -> Path:
    net = Net((8,))
    rng = np.random.default_rng(3)

    def binary(source: str, outs: int, ins: int, name: str) -> str:
        weight = net.node(
            "BipolarQuant",
            [net.constant(rng.normal(0, 1, (ins, outs))), net.constant(np.float32(1.0))],
        )
        made = net.node("MatMul", [source, weight], f"{name}_fc")
        parts = [
            rng.normal(1, 0.2, outs),
            rng.normal(0, 0.5, outs),
            rng.normal(0, 1, outs),
            rng.uniform(1, 3, outs),
        ]
        constants = [net.constant(c) for c in parts]
        made = net.node("BatchNormalization", [made, *constants], f"{name}_norm")
        return net.node("BipolarQuant", [made, net.constant(np.float32(1.0))], f"{name}_sign")

    x = net.node("BipolarQuant", ["x", net.constant(np.float32(1.0))])
    y = binary(binary(x, 16, 8, "a"), 16, 16, "b")
    weight = net.node(
        "BipolarQuant", [net.constant(rng.normal(0, 1, (16, 4))), net.constant(np.float32(1.0))]
    )
    return net.save(path, net.node("MatMul", [y, weight], "last"))


def _image(net: Net) -> str:
    rng = np.random.default_rng(5)
    weight = net.quant(net.constant(rng.normal(0, 0.4, (4, 2, 3, 3))), 0.125, 4)
    made = net.node(
        "Conv",
        [net.quant("x", 0.25, 5), weight],
        pads=[1] * 4,
        kernel_shape=[3, 3],
        strides=[1, 1],
        dilations=[1, 1],
        group=1,
    )
    return _act(net, made)


def global_average_pool(path: Path) -> Path:
    net = Net((2, 4, 4))
    made = net.node("GlobalAveragePool", [_image(net)])
    made = net.node("Flatten", [net.quant(made, 0.125, 5, signed=False)], axis=1)
    return net.save(path, _dense(net, made, 4, 4))


def average_pool(path: Path) -> Path:
    net = Net((2, 4, 4))
    made = net.node("AveragePool", [_image(net)], kernel_shape=[2, 2], strides=[2, 2])
    made = net.node("Flatten", [net.quant(made, 0.125, 5, signed=False)], axis=1)
    return net.save(path, _dense(net, made, 4, 16))


def unfused_batch_norm(path: Path) -> Path:
    net = Net((8,))
    rng = np.random.default_rng(7)
    made = _dense(net, net.quant("x", 0.25, 6), 8, 8)
    parts = [
        rng.normal(1, 0.3, 8),
        rng.normal(0, 1, 8),
        rng.normal(0, 1, 8),
        rng.uniform(0.5, 2, 8),
    ]
    made = net.node("BatchNormalization", [made, *(net.constant(p) for p in parts)])
    return net.save(path, _dense(net, _act(net, made), 4, 8))


def float_bias(path: Path) -> Path:
    net = Net((8,))
    rng = np.random.default_rng(8)
    bias = net.constant(rng.normal(0, 1, 8))
    made = net.node("Add", [_dense(net, net.quant("x", 0.25, 6), 8, 8), bias])
    y = _act(net, made)
    return net.save(path, _dense(net, y, 4, 8))


def no_rounding_mode(path: Path) -> Path:
    net = Net((8,))
    y = _act(net, _dense(net, net.quant("x", 0.25, 6), 8, 8))
    made = _dense(net, y, 4, 8)
    for node in net.nodes:
        for attribute in list(node.attribute):
            if attribute.name == "rounding_mode":
                node.attribute.remove(attribute)
    return net.save(path, made)


def no_bias_input(path: Path) -> Path:
    net = Net((8,))
    rng = np.random.default_rng(9)
    weight = net.quant(net.constant(rng.normal(0, 0.4, (4, 8))), 0.125, 4)
    x = net.quant("x", 0.25, 6)
    return net.save(path, net.node("Gemm", [x, weight], transB=1))


FILES: dict[str, Callable[[Path], Path]] = {
    "float scales at default precision": float_scales,
    "one scale per channel of a dense layer": per_channel_dense,
    "zero-points other than 0": zero_point,
    "several binary layers": multi_layer_binary,
    "global average pool": global_average_pool,
    "average pool": average_pool,
    "BatchNorm that is not fused": unfused_batch_norm,
    "a float bias": float_bias,
    "no rounding_mode attribute": no_rounding_mode,
    "a Gemm without a bias": no_bias_input,
}

# hls4ml's documented recipe, in a process of its own: it may crash.
PEER = """
import sys
import numpy as np
from hls4ml.converters import convert_from_onnx_model
from hls4ml.utils import config_from_onnx_model
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.channels_last import ConvertToChannelsLastAndClean
from qonnx.transformation.gemm_to_matmul import GemmToMatMul
from qonnx.util.cleanup import cleanup_model
path, folder = sys.argv[1:]
x = np.load(folder + "/x.npy")
model = cleanup_model(ModelWrapper(path))
if x.ndim == 4:
    model = model.transform(ConvertToChannelsLastAndClean())
model = cleanup_model(model.transform(GemmToMatMul()))
config = config_from_onnx_model(
    model, granularity="name", backend="Vitis", default_precision="fixed<16,6>"
)
made = convert_from_onnx_model(
    model, output_dir=folder + "/p", backend="Vitis", io_type="io_parallel", hls_config=config
)
made.compile()
np.save(folder + "/y.npy", made.predict(x.astype(np.float64)))
"""


def measure(build: Callable[[Path], Path]) -> tuple[str, str]:
    """(what bitwright does, what hls4ml's reader does) with one file, on 500 random inputs; the
    share of samples whose outputs are all exactly the file's (float64)."""
    from flow.driver import compile_model
    from flow.errors import FlowError, Unsupported
    from flow.host import make_host
    from flow.importer import import_qonnx
    from flow.interp import Interpreter
    from flow.onnx_file import read
    from flow.plan import Events, Request

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = build(folder / "net.onnx")
        try:
            request = Request(str(path), "hls4ml", {}, folder / "artifact", folder)
            report = compile_model(request, Events())
            ours = f"exact ({report.agreement.outputs_equal} of {report.agreement.outputs} outputs)"
        except Unsupported as error:
            ours = f"refused: {error.offences[0].reason}"
        except FlowError as error:
            ours = f"WRONG: {error}"
        imported = import_qonnx(read(path), "net")
        host = make_host(imported.head, imported.tail)
        shape = imported.head.shape
        x = np.random.default_rng(0).normal(0, 2, (500, *shape)).astype(np.float32)
        expected = host.dequantize(Interpreter(imported.graph).run(host.quantize(x)))
        np.save(folder / "x.npy", x)
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", PEER, str(path), str(folder)],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            return ours, f"crashes: {done.stderr.strip().splitlines()[-1][:100]}"
        found = np.load(folder / "y.npy").reshape(expected.shape)
        equal = np.isclose(found, expected, rtol=0, atol=1e-9).all(axis=1).mean()
        best = (found.argmax(axis=1) == expected.argmax(axis=1)).mean()
        return ours, f"{100 * equal:.1f} % of samples exact, {100 * best:.1f} % same class, no word"


def main() -> int:
    """Measure all, write the table; 1 if bitwright is wrong anywhere."""
    rows = []
    for what, build in FILES.items():
        rows.append([what, *measure(build)])
        print(*rows[-1], sep=" | ", flush=True)
    with TABLE.open("w", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(["file", "bitwright", "hls4ml's ONNX reader"])
        writer.writerows(rows)
    return int(any(row[1].startswith("WRONG") for row in rows))


if __name__ == "__main__":
    sys.exit(main())
