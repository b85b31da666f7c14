"""Float32 runtimes that other people use for the same files: running them for all tensors."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow import packages
from flow.errors import ToolFailed, UsageError
from flow.importer import Imported
from flow.importer.lowering import QONNX_DOMAINS
from flow.near_ties import wanted
from flow.onnx_file import OnnxFile, cut
from flow.ops import IntArray

Values = dict[str, NDArray[Any]]
_Sample = Callable[[Values], Values]  # from inputs to wanted tensors, a batch of one


class Runtime(Enum):
    """A runtime; the names are their distributions'."""

    ONNXRUNTIME = "onnxruntime"
    QONNX = "qonnx"

    @classmethod
    def of(cls, file: OnnxFile) -> Runtime:
        """The one that knows the file's operations."""
        return cls.QONNX if _custom(file) else cls.ONNXRUNTIME

    def require(self) -> None:
        """Raises ToolMissing where it, or what it runs on, is not installed."""
        packages.require(self.value)
        packages.require(Runtime.ONNXRUNTIME.value)  # qonnx runs ONNX's own operations with it


class FloatTool:
    """One network in one runtime, node by node as the file says: no fusion, which would round
    elsewhere."""

    def __init__(self, runtime: Runtime, file: OnnxFile, imported: Imported):
        """Raises ToolMissing; UsageError where the runtime does not know the file's operations;
        ToolFailed where it does not take the file."""
        runtime.require()
        if runtime is Runtime.ONNXRUNTIME and (op := _custom(file)):
            raise UsageError(
                f"TOOL=onnxruntime does not know {op}, which {file.path} is made of; use TOOL=qonnx"
            )
        self.runtime, self._graph, self._source = runtime, imported.graph, imported.source
        self._wanted = wanted(file, imported)
        # All lie before the last one, and qonnx shows them without being asked.
        asked = self._wanted if runtime is Runtime.ONNXRUNTIME else self._wanted[-1:]
        content = cut(file, imported.source, (1, *imported.graph.input.shape), asked)
        # What else reads the file's input reads its shape only, else the import had refused it.
        given = file.inputs[0]
        extents = tuple(extent or 1 for extent in given.shape)
        self._others = {} if given.name == imported.source else {given.name: np.zeros(extents)}
        load = _onnxruntime if runtime is Runtime.ONNXRUNTIME else _qonnx
        self._sample: _Sample = self._guarded(load, content, self._wanted)

    def trace(self, codes: IntArray) -> Values:
        """Every wanted tensor of the file (n, ...) for the input's codes, sample by sample.

        Raises:
            ToolFailed: the runtime stops with an error.
        """
        value = self._graph.input
        scale = np.array([float(s) for s in value.scale])
        reals = ((codes - value.zero_point) * scale).astype(np.float32)
        rows = [
            self._guarded(self._sample, {self._source: row[None], **self._others}) for row in reals
        ]
        return {name: np.concatenate([row[name] for row in rows]) for name in self._wanted}

    def _guarded(self, call: Callable[..., Any], *arguments: Any) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of qonnx, about shapes of scalars
                return call(*arguments)
        except Exception as error:  # whatever its libraries raise
            raise ToolFailed(f"{self.runtime.value} cannot run the file: {error}") from error


def _custom(file: OnnxFile) -> str | None:
    """The first operation that only QONNX knows."""
    return next((node.op for node in file.nodes if node.domain in QONNX_DOMAINS), None)


def _onnxruntime(content: bytes, names: tuple[str, ...]) -> _Sample:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    taken = {
        i.name: np.dtype(np.float64 if "double" in i.type else np.float32)
        for i in session.get_inputs()
    }

    def run(inputs: Values) -> Values:
        feed = {name: inputs[name].astype(dtype, copy=False) for name, dtype in taken.items()}
        return dict(zip(names, session.run(list(names), feed), strict=True))

    return run


def _qonnx(content: bytes, names: tuple[str, ...]) -> _Sample:
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.transformation.infer_shapes import InferShapes

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "part.onnx"
        path.write_bytes(content)
        model = ModelWrapper(str(path)).transform(InferShapes())
    taken = {i.name for i in model.graph.input}

    def run(inputs: Values) -> Values:
        feed = {name: x.astype(np.float32) for name, x in inputs.items() if name in taken}
        context = execute_onnx(model, feed, return_full_exec_context=True)
        return {name: np.array(context[name]) for name in names}

    return run
