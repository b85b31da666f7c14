"""The interpreter's speed, against qonnx's executor and onnxruntime, in the same run, interleaved.

1,000 images through digits_cnn; one thread each. onnxruntime runs the same network in its QCDQ form
(QuantizeLinear, DequantizeLinear). Run with `make bench`.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import numpy as np

ROUNDS = 5
QONNX_SAMPLES = 20  # qonnx takes one sample at a time; its time is scaled up
LIMITS = {"onnxruntime": 6.0, "qonnx": 0.01}


def timed(run: Callable[[], object]) -> float:
    since = time.perf_counter()
    run()
    return time.perf_counter() - since


def main() -> int:
    """Prints a table; 1 where a ratio is above its limit."""
    import onnxruntime
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.transformation.change_batchsize import ChangeBatchSize
    from qonnx.transformation.infer_shapes import InferShapes
    from qonnx.transformation.qonnx_to_qcdq import QuantToQCDQ
    from threadpoolctl import threadpool_limits

    from flow.interp import Interpreter
    from flow.plan import Events, Plan, Request

    # qonnx turns quantizers of up to 8 bits into QCDQ; the bias has 16 by default.
    plan = Plan(Request("digits_cnn", "hls4ml", {"bias_bits": "8"}), Events())
    interpreter = Interpreter(plan.imported.graph)
    assert plan.trained is not None
    with np.load(plan.trained.reference) as reference:
        x = np.resize(reference["x"], (1000, *reference["x"].shape[1:]))
    codes = plan.host.quantize(x)
    path = str(plan.file.path)
    one = ModelWrapper(path).transform(InferShapes())
    many = ModelWrapper(path).transform(ChangeBatchSize(len(x))).transform(InferShapes())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        many.transform(QuantToQCDQ()).model.SerializeToString(),
        options,
        providers=["CPUExecutionProvider"],
    )
    peers: dict[str, Callable[[], object]] = {
        "bitwright": lambda: interpreter.run(codes),
        "onnxruntime": lambda: session.run(None, {"x": x}),
        "qonnx": lambda: [execute_onnx(one, {"x": s[None]}) for s in x[:QONNX_SAMPLES]],
    }
    seconds: dict[str, list[float]] = {name: [] for name in peers}
    with threadpool_limits(1):
        for _ in range(ROUNDS):
            for name, run in peers.items():
                seconds[name].append(timed(run))
    median = {name: statistics.median(values) for name, values in seconds.items()}
    median["qonnx"] *= len(x) / QONNX_SAMPLES
    over = False
    for name, limit in LIMITS.items():
        ratio = median["bitwright"] / median[name]
        over |= ratio > limit
        print(
            f"1000 images, digits_cnn: bitwright {median['bitwright']:.3f} s, {name} "
            f"{median[name]:.3f} s, ratio {ratio:.4f} (limit {limit})"
        )
    return int(over)


if __name__ == "__main__":
    sys.exit(main())
