"""Running the .tflite file from Python: needs numpy and ai-edge-litert (or tflite-runtime).

    from run_tflite import Network
    network = Network("model.tflite")
    scores = network(x)             # floats (n, ...) as the network was trained on, to real scores
    scores = network.wav("a.wav")   # or a recording, where the network takes sound

The host's quantization (host.py), and what makes features of sound (features.py), lie beside this
file. As a program it runs the file on numbers
that are laid out already:  python run_tflite.py model.tflite in.npy out.npz --runtime litert
A file that was made for tflite-runtime's XNNPACK (io.json says so) is run with it.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MODULES = {
    "litert": "ai_edge_litert.interpreter",
    "tflite-runtime": "tflite_runtime.interpreter",
}


class Network:
    """A .tflite file with the host's part at both ends."""

    def __init__(self, path: str | Path, runtime: str = "litert"):
        constants = Path(path).with_name("host.json")
        self.places = json.loads(Path(path).with_name("io.json").read_text())
        self.host = _beside(path, "host").Host.load(constants)
        self.front_end = None
        if "features" in self.host.constants:
            self.front_end = _beside(path, "features").FrontEnd.load(constants)
        xnnpack = runtime == "tflite-runtime" and self.places["xnnpack"]
        self.interpreter = build(Path(path), runtime, xnnpack)

    def __call__(self, x: NDArray[Any]) -> NDArray[np.float64]:
        """Float inputs (n, ...) to the network's real outputs (n, ...)."""
        real: NDArray[np.float64] = self.host.dequantize(self.codes(self.host.quantize(x)))
        return real

    def wav(self, path: str | Path) -> NDArray[np.float64]:
        """A .wav file to the network's real outputs (n, ...), one for each of its inputs."""
        if self.front_end is None:
            raise ValueError("this network takes no sound")
        return self(self.front_end.wav(path).reshape(-1, *self.host.shape))

    def codes(self, codes: NDArray[Any]) -> NDArray[np.int64]:
        """Input codes (n, *shape) to output codes (n, *shape)."""
        first, last = self.places["input"], self.places["output"]
        flat = codes.reshape(len(codes), -1)
        numbers = np.empty_like(flat)
        numbers[:, first["order"]] = flat + first["zero"]
        (out,) = run(self.interpreter, numbers)
        made: NDArray[np.int64] = out[:, last["order"]] - last["zero"]
        return made.reshape(len(out), *last["shape"])


def _beside(path: str | Path, name: str) -> Any:
    """The module of that name in the file's folder."""
    sys.path.insert(0, str(Path(path).resolve().parent))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.pop(0)


def build(path: Path, runtime: str = "litert", xnnpack: bool = False) -> Any:
    """The runtime's interpreter of a file, on one thread; with XNNPACK's integer kernels in
    tflite-runtime, which has them but does not use them by default.

    Raises:
        OSError, AttributeError: its library does not have them.
    """
    module = importlib.import_module(MODULES[runtime])
    more = {"experimental_delegates": [Xnnpack(module)]} if xnnpack else {}
    interpreter = module.Interpreter(model_path=str(path), num_threads=1, **more)
    interpreter.allocate_tensors()
    return interpreter


class Xnnpack:
    """XNNPACK with its kernels for signed and unsigned 8 bits, by the C functions that the wheel's
    library exports (xnnpack_delegate.h of TensorFlow Lite 2.14)."""

    def __init__(self, module: Any):
        (library,) = Path(module.__file__).parent.glob("_pywrap_tensorflow_interpreter_wrapper*")
        create = ctypes.CDLL(str(library)).TfLiteXNNPackDelegateCreate
        create.restype, create.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
        self._options = (ctypes.c_uint32 * 64)(1, 1 | 2)  # threads, flags; all else is 0
        self._delegate = create(ctypes.byref(self._options))
        if not self._delegate:
            raise OSError("TfLiteXNNPackDelegateCreate gave nothing")

    def _get_native_delegate_pointer(self) -> int:
        return int(self._delegate)


def run(interpreter: Any, numbers: NDArray[Any]) -> list[NDArray[np.int64]]:
    """All outputs (n, size) of inputs (n, size), one by one: the file's batch is 1. The numbers are
    whole and fit the input's type, int8 or int16."""
    (given,) = interpreter.get_input_details()
    made = interpreter.get_output_details()
    outputs = [np.empty((len(numbers), int(np.prod(m["shape"]))), np.int64) for m in made]
    for row, one in enumerate(numbers):
        interpreter.set_tensor(given["index"], one.reshape(given["shape"]).astype(given["dtype"]))
        interpreter.invoke()
        for output, detail in zip(outputs, made, strict=True):
            output[row] = interpreter.get_tensor(detail["index"]).reshape(-1)
    return outputs


def seconds(interpreter: Any, numbers: NDArray[Any], rounds: int) -> NDArray[np.float64]:
    """Seconds of each of so many inferences, one after the other, with input and output copied; as
    many as a tenth of them are run before, to warm up."""
    (given,), (made, *_) = interpreter.get_input_details(), interpreter.get_output_details()
    rows = [row.reshape(given["shape"]).astype(given["dtype"]) for row in numbers]
    found = np.empty(rounds)
    for turn in range(-(rounds // 10) - 1, rounds):
        start = time.perf_counter()
        interpreter.set_tensor(given["index"], rows[turn % len(rows)])
        interpreter.invoke()
        interpreter.get_tensor(made["index"])
        if turn >= 0:
            found[turn] = time.perf_counter() - start
    return found


def operators(interpreter: Any) -> tuple[list[str], list[str]]:
    """Names of the operators that a delegate runs, and of those that the runtime runs itself."""
    every = interpreter._get_ops_details()
    plain = [op for op in every if op["op_name"] != "DELEGATE"]
    makers = {int(output): op for op in plain for output in op["outputs"]}
    taken: set[int] = set()
    for delegate in (op for op in every if op["op_name"] == "DELEGATE"):
        given = {int(i) for i in delegate["inputs"]}
        waiting = [int(o) for o in delegate["outputs"]]
        while waiting:
            tensor = waiting.pop()
            op = makers.get(tensor)
            if tensor not in given and op is not None and op["index"] not in taken:
                taken.add(op["index"])
                waiting += [int(i) for i in op["inputs"]]
    inside = [op["op_name"] for op in plain if op["index"] in taken]
    return inside, [op["op_name"] for op in plain if op["index"] not in taken]


def main() -> int:
    parser = argparse.ArgumentParser(description="run a .tflite file on integers (n, size)")
    parser.add_argument("model", type=Path)
    parser.add_argument("input", type=Path, help=".npy, int8 or int16")
    parser.add_argument("output", type=Path, help=".npz; or .json where it cannot be run")
    parser.add_argument("--runtime", choices=list(MODULES), default="litert")
    parser.add_argument("--xnnpack", action="store_true", help="of tflite-runtime")
    parser.add_argument("--rounds", type=int, default=0, help="time as many single inferences")
    args = parser.parse_args()
    try:
        interpreter = build(args.model, args.runtime, args.xnnpack)
        numbers = np.load(args.input, allow_pickle=False)
        outputs = run(interpreter, numbers)
        times = seconds(interpreter, numbers, args.rounds)
        inside, outside = operators(interpreter)
    except Exception as error:  # told to whoever started this program, in a file
        # A file that is refused is a ValueError or RuntimeError; all else is a broken runtime.
        model = isinstance(error, ValueError | RuntimeError)
        wrong = {"model": model, "text": f"{type(error).__name__}: {error}"}
        args.output.with_suffix(".json").write_text(json.dumps(wrong))
        return 0
    arrays = {f"output{place}": output for place, output in enumerate(outputs)}
    told = {"delegated": np.array(inside), "builtin": np.array(outside), "seconds": times}
    np.savez(args.output, **told, **arrays)
    return 0


if __name__ == "__main__":
    sys.exit(main())
