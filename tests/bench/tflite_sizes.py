"""File sizes of integer networks against their float twins on the same operators.

`mlp_784` is a dense network 784-512-256-10 with 4-bit weights, large enough for headers not to
count; mnist_cnn is the shipped model. Weights are random: sizes do not depend on them.
Run with `make bench SUITE=tflite_sizes`; writes reports/baseline/tflite_sizes.csv.
"""

from __future__ import annotations

import csv
import io
import itertools
import sys
import tempfile
from pathlib import Path

import numpy as np

from flow.driver import compile_model
from flow.plan import Events, Request
from targets.tflite.simulation import MODEL
from tests.bench.tflite import as_float
from tests.network.nets import Net

OUT = Path("reports/baseline/tflite_sizes.csv")
SIZES = (784, 512, 256, 10)


def mlp(path: Path) -> Path:
    """Dense layers with weights of 4 bits and activations of 8."""
    rng = np.random.default_rng(0)
    net = Net(SIZES[:1])
    made = net.quant("x", 1 / 256, 8, signed=False)
    for number, (ins, outs) in enumerate(itertools.pairwise(SIZES), start=1):
        weight = net.constant(rng.normal(0, 0.1, (outs, ins)))
        weight = net.quant(weight, 1 / 32, 4, narrow=True)
        made = net.node("Gemm", [made, weight], f"fc{number}", transB=1)
        if outs != SIZES[-1]:
            made = net.quant(net.node("Relu", [made]), 1 / 32, 8, signed=False, name=f"act{number}")
    return net.save(path, made)


def compiled(model: str, weights: str, folder: Path) -> bytes:
    options = {"weights": weights}
    if "/" not in model:
        options["untrained"] = "true"
    compile_model(Request(model, "tflite", options, folder / weights, folder), Events())
    return (folder / weights / MODEL).read_bytes()


def main() -> int:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["network", "file", "bytes", "of float"])
    for name in ("mlp_784", "mnist_cnn"):
        with tempfile.TemporaryDirectory() as held:
            folder = Path(held)
            model = str(mlp(folder / f"{name}.onnx")) if name == "mlp_784" else name
            files = {weights: compiled(model, weights, folder) for weights in ("int8", "int4")}
        files = {"float": as_float(files["int8"]), **files}
        for kind, content in files.items():
            share = len(content) / len(files["float"])
            writer.writerow([name, kind, len(content), f"{share:.3f}"])
    OUT.write_text(text.getvalue())
    print(text.getvalue(), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
