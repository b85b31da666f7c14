"""Reading ONNX files into plain data: the only module that imports onnx.

Files are untrusted: sizes are bounded before anything is allocated, nothing outside the file is
read, and whatever is damaged is a UsageError that names the place.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.errors import UsageError

MAX_BYTES = 512 << 20
MAX_NODES = 20_000
SMALL_TYPES = ("int4", "uint4")  # integers that numpy knows only through an extension
# Operations that onnxruntime writes in its own domain, with ONNX's meaning.
_SAME_AS_ONNX = ("QuantizeLinear", "DequantizeLinear")

Attribute = int | float | str | tuple[int, ...] | tuple[float, ...] | tuple[str, ...] | NDArray[Any]


@dataclass(frozen=True, eq=False)
class RawNode:
    """One ONNX node. `name` is its own, or its first output's where it has none."""

    name: str
    op: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Attribute]


@dataclass(frozen=True)
class RawInput:
    """A graph input: shape with the batch first, None where a dimension is not fixed; `dtype` is
    numpy's name, or ONNX's where numpy has none."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str = "float32"


@dataclass(frozen=True, eq=False)
class OnnxFile:
    """A whole file: nodes in an order in which each follows what it reads."""

    path: Path
    sha256: str
    opset: int
    inputs: tuple[RawInput, ...]
    outputs: tuple[str, ...]
    constants: dict[str, NDArray[Any]]
    nodes: tuple[RawNode, ...]


def read(path: Path) -> OnnxFile:
    """Read and check an ONNX file.

    Raises:
        UsageError: no such file, not ONNX, too large, damaged, or it refers to other files.
    """
    raw = _bytes(path)
    from google.protobuf.message import DecodeError

    try:
        return _read(path, raw)
    except DecodeError as error:
        raise UsageError(f"{path} is not an ONNX file, or damaged: {error}") from error


def _read(path: Path, raw: bytes) -> OnnxFile:
    import onnx

    model = onnx.ModelProto()
    model.ParseFromString(raw)
    graph = model.graph
    if not graph.node or not graph.input or not graph.output:
        raise UsageError(
            f"{path} is not an ONNX file with a network in it: no nodes, input or output"
        )
    if len(graph.node) > MAX_NODES:
        raise UsageError(f"{path}: {len(graph.node)} nodes, at most {MAX_NODES} are read")
    constants: dict[str, NDArray[Any]] = {}
    for tensor in graph.initializer:
        name = _text(path, tensor.name)
        if name in constants:
            raise UsageError(f"{path}: the tensor {name!r} is there twice")
        constants[name] = _array(path, tensor)
    nodes = tuple(_node(path, proto) for proto in graph.node)
    for node in nodes:
        if node.op == "Constant" and node.domain == "":
            if node.outputs[0] in constants:
                raise UsageError(f"{path}: the tensor {node.outputs[0]!r} is there twice")
            constants[node.outputs[0]] = _constant(path, node)
    nodes = tuple(node for node in nodes if node.op != "Constant" or node.domain)
    inputs = tuple(_input(path, info) for info in graph.input if info.name not in constants)
    outputs = tuple(_text(path, info.name) for info in graph.output)
    _check_order(path, nodes, {i.name for i in inputs} | set(constants), outputs)
    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)
    return OnnxFile(path, hashlib.sha256(raw).hexdigest(), opset, inputs, outputs, constants, nodes)


def run_reference(node: RawNode, opset: int, inputs: list[NDArray[Any] | None]) -> NDArray[Any]:
    """The node's first output by onnx's own reference implementation, in the inputs' precision.

    Raises:
        UsageError: it cannot run these inputs.
    """
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    names = ["" if x is None else f"i{index}" for index, x in enumerate(inputs)]
    outputs = [f"o{index}" for index in range(len(node.outputs))]
    attributes: dict[str, Any] = dict(node.attributes)
    proto = helper.make_node(node.op, names, outputs, **attributes)
    feed = {name: x for name, x in zip(names, inputs, strict=True) if x is not None}
    try:
        made = ReferenceEvaluator(proto, opsets={"": opset}).run(None, feed)
    except Exception as error:  # the reference raises whatever numpy or its own checks raise
        raise UsageError(f"node {node.name!r} ({node.op}) cannot be evaluated: {error}") from error
    outcome: Any = made
    return np.asarray(outcome[0])


def cut(file: OnnxFile, source: str, shape: tuple[int, ...], wanted: tuple[str, ...]) -> bytes:
    """The file's network from the float32 tensor `source` (shape with the batch) to the tensors
    `wanted` (floats, or outputs of the file), as an ONNX file; the file's own inputs stay where
    something else reads them.

    Raises:
        UsageError: the file was changed since it was read.
    """
    import onnx
    from onnx import helper

    raw = _bytes(file.path)
    if hashlib.sha256(raw).hexdigest() != file.sha256:
        raise UsageError(f"{file.path} was changed while it was used; run again")
    model = onnx.ModelProto()
    model.ParseFromString(raw)
    needed, nodes = set(wanted), []
    for node in reversed(model.graph.node):
        if needed & set(node.output) - {source}:
            needed.update(node.input)
            nodes.append(node)
    made = {name for node in nodes for name in node.output if name != source}
    inputs = [helper.make_tensor_value_info(source, onnx.TensorProto.FLOAT, list(shape))]
    inputs += [i for i in model.graph.input if i.name in needed - made - {source}]
    constants = [t for t in model.graph.initializer if t.name in needed]
    known = {t.name for t in constants}
    own = {info.name: info for info in model.graph.output}
    real = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes[::-1],
        "part",
        [i for i in inputs if i.name not in known],
        [own.get(name) or helper.make_tensor_value_info(name, real, None) for name in wanted],
        constants,
    )
    part = helper.make_model(
        graph, opset_imports=list(model.opset_import), ir_version=model.ir_version
    )
    return bytes(part.SerializeToString())


def _bytes(path: Path) -> bytes:
    try:
        if not path.exists():
            raise UsageError(f"{path}: no such file")
        if not path.is_file():
            raise UsageError(f"{path} is not a file; give the path to an .onnx file")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise UsageError(f"{path}: {size >> 20} MiB, at most {MAX_BYTES >> 20} MiB are read")
        if size == 0:
            raise UsageError(f"{path} is not an ONNX file: it is empty")
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error


def _text(path: Path, name: str | bytes) -> str:
    """A name; protobuf gives bytes where it is no UTF-8."""
    if isinstance(name, bytes):
        raise UsageError(f"{path} is not an ONNX file, or damaged: the name {name!r} is not UTF-8")
    return name


def _array(path: Path, tensor: Any) -> NDArray[Any]:
    import onnx
    from onnx import numpy_helper

    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise UsageError(
            f"{path}: tensor {tensor.name!r} is kept in another file, which is not read; "
            f"save the model as one file (onnx.save with save_as_external_data=False)"
        )
    size = 1
    for extent in tensor.dims:
        size *= max(extent, 0)
    if any(extent < 0 for extent in tensor.dims) or size * 8 > 8 * MAX_BYTES:
        raise UsageError(
            f"{path}: tensor {tensor.name!r} has an impossible shape {list(tensor.dims)}"
        )
    try:
        array = numpy_helper.to_array(tensor)
    except Exception as error:  # onnx raises whatever numpy, protobuf or its own checks raise here
        raise UsageError(f"{path}: tensor {tensor.name!r} is damaged: {error}") from error
    if array.dtype.kind not in "fiub" and array.dtype.name not in SMALL_TYPES:
        raise UsageError(
            f"{path}: tensor {tensor.name!r} holds {array.dtype}, which is not read; "
            f"export with floats or integers"
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise UsageError(
            f"{path}: tensor {tensor.name!r} holds NaN or infinity; train or export again"
        )
    return array


def _node(path: Path, proto: Any) -> RawNode:
    attributes = {_text(path, a.name): _attribute(path, proto, a) for a in proto.attribute}
    if not proto.output:
        raise UsageError(f"{path}: node {proto.name!r} ({proto.op_type}) has no output")
    domain = _text(path, proto.domain)
    same = domain == "com.microsoft" and proto.op_type in _SAME_AS_ONNX
    return RawNode(
        _text(path, proto.name or proto.output[0]),
        _text(path, proto.op_type),
        "" if domain == "ai.onnx" or same else domain,
        tuple(_text(path, name) for name in proto.input),
        tuple(_text(path, name) for name in proto.output),
        attributes,
    )


def _attribute(path: Path, node: Any, attribute: Any) -> Attribute:
    import onnx

    kinds = onnx.AttributeProto
    if attribute.type == kinds.INT:
        return int(attribute.i)
    if attribute.type == kinds.FLOAT:
        return float(attribute.f)
    if attribute.type == kinds.STRING:
        return bytes(attribute.s).decode("utf-8", "replace")
    if attribute.type == kinds.INTS:
        return tuple(int(i) for i in attribute.ints)
    if attribute.type == kinds.FLOATS:
        return tuple(float(f) for f in attribute.floats)
    if attribute.type == kinds.STRINGS:
        return tuple(bytes(s).decode("utf-8", "replace") for s in attribute.strings)
    if attribute.type == kinds.TENSOR:
        return _array(path, attribute.t)
    if attribute.type in (kinds.GRAPH, kinds.GRAPHS):
        return "a graph"  # of If, Loop, Scan: the importer lists these with all it cannot lower
    raise UsageError(
        f"{path}: node {node.name!r} ({node.op_type}): attribute {attribute.name!r} is of a kind "
        f"that is not read (graphs, sparse tensors, types)"
    )


def _constant(path: Path, node: RawNode) -> NDArray[Any]:
    for key in ("value", "value_float", "value_int", "value_floats", "value_ints"):
        if key in node.attributes:
            value = np.asarray(node.attributes[key])
            if value.dtype.kind not in "fiub" or not np.isfinite(value).all():
                raise UsageError(
                    f"{path}: node {node.name!r} (Constant) holds NaN, infinity or no number"
                )
            return value.astype(np.float32) if "float" in key else value
    raise UsageError(f"{path}: node {node.name!r} (Constant) has no value that can be read")


def _input(path: Path, info: Any) -> RawInput:
    if not info.type.HasField("tensor_type"):
        raise UsageError(f"{path}: input {info.name!r} is not a tensor")
    dims = info.type.tensor_type.shape.dim
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in dims)
    return RawInput(_text(path, info.name), shape, _type_name(info.type.tensor_type.elem_type))


def _type_name(kind: int) -> str:
    from onnx import TensorProto

    if kind == TensorProto.UNDEFINED:  # left out by hand-made files
        return "float32"
    if kind not in TensorProto.DataType.values():
        return f"number {kind}, unknown to ONNX"
    name = str(TensorProto.DataType.Name(kind)).lower()
    return {"float": "float32", "double": "float64"}.get(name, name)


def _check_order(
    path: Path, nodes: tuple[RawNode, ...], known: set[str], outputs: tuple[str, ...]
) -> None:
    """Each tensor is written once, and before it is read: no cycles, nothing dangling."""
    known = known | {""}  # an empty name is an optional input left out
    for node in nodes:
        for name in node.inputs:
            if name not in known:
                raise UsageError(
                    f"{path}: node {node.name!r} ({node.op}) reads {name!r}, which nothing before "
                    f"it computes"
                )
        for name in node.outputs:
            if name and name in known:
                raise UsageError(f"{path}: node {node.name!r} writes {name!r} a second time")
            known.add(name)
    for name in outputs:
        if not name or name not in known:
            raise UsageError(f"{path}: the output {name!r} is computed by no node")
