"""How long a compile takes, against hls4ml alone on the same QONNX file, in the same run.

Both sides run in fresh processes without torch, in turn, so that a slow minute of the machine hits
both. Ours: import, integer graph, proofs of the requantizations, project, g++. hls4ml's: its
documented recipe (clean-up, channels-last, Gemm to MatMul, convert, compile), which gives no proof.
Run with `make bench`.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 5
LIMIT = 1.3  # the figure asked for

OURS = """
import sys
from pathlib import Path
from flow.importer import import_qonnx
from flow.interp import Interpreter
from flow.onnx_file import read
from flow.target import Program
from flow.vectors import make_vectors
from targets.hls4ml.target import Hls4ml
imported = import_qonnx(read(Path(sys.argv[1])), "net")
graph, target = imported.graph, Hls4ml()
assert not target.check(graph)
vectors = make_vectors(graph.input, None)
expected = Interpreter(graph).run(vectors)
target.emit(Program(graph, imported.head, imported.tail, vectors, expected), Path(sys.argv[2]))
assert "torch" not in sys.modules
"""

PEER = """
import sys
from hls4ml.converters import convert_from_onnx_model
from hls4ml.utils import config_from_onnx_model
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.channels_last import ConvertToChannelsLastAndClean
from qonnx.transformation.gemm_to_matmul import GemmToMatMul
from qonnx.util.cleanup import cleanup_model
model = cleanup_model(ModelWrapper(sys.argv[1]))
model = model.transform(ConvertToChannelsLastAndClean())
model = cleanup_model(model.transform(GemmToMatMul()))
config = config_from_onnx_model(
    model, granularity="name", backend="Vitis", default_precision="fixed<16,6>"
)
project = convert_from_onnx_model(
    model, output_dir=sys.argv[2], backend="Vitis", io_type="io_parallel", hls_config=config
)
project.compile()
assert "torch" not in sys.modules
"""


def timed(script: str, model: Path) -> float:
    """Seconds of one fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        since = time.perf_counter()
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", script, str(model), folder],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return time.perf_counter() - since


def main() -> int:
    """Prints a table; 1 where a ratio is above the limit."""
    from flow.plan import Events, Plan, Request

    worst = 0.0
    print(f"seconds, median of {ROUNDS} interleaved rounds; limit of the ratio {LIMIT}")
    for name in ("digits_mlp", "digits_cnn"):
        for scales in ({"scale": "po2"}, {"scale": "float", "granularity": "channel"}):
            plan = Plan(Request(name, "hls4ml", scales), Events())
            model = plan.file.path
            # hls4ml's reader crashes on per-channel dense scales: there its time is of power-of-two
            # scales per tensor, the same layers.
            peer = Plan(Request(name, "hls4ml", {"scale": "po2"}), Events()).file.path
            ours, theirs = [], []
            for _ in range(ROUNDS):
                ours.append(timed(OURS, model))
                theirs.append(timed(PEER, peer))
            ratio = statistics.median(ours) / statistics.median(theirs)
            worst = max(worst, ratio)
            print(
                f"{name:11} {' '.join(scales.values()):14} bitwright {statistics.median(ours):5.2f}"
                f"  hls4ml alone {statistics.median(theirs):5.2f}  ratio {ratio:.2f}"
            )
    return int(worst > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
