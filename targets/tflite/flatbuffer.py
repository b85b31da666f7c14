"""Writing a .tflite file with the schema bindings of ai-edge-litert, and naming its operators."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from flow.errors import UsageError
from targets.tflite.model import DType, Operator, Tensor

IDENTIFIER = b"TFL3"
SIGNATURE = "serving_default"


def write(
    name: str,
    tensors: Sequence[Tensor],
    operators: Sequence[Operator],
    ends: tuple[str, str],
    metadata: Mapping[str, bytes],
) -> bytes:
    """The file: one subgraph from the tensor ends[0] to ends[1], with a signature that names both
    `input` and `output`; `metadata` are buffers by name."""
    model = schema.ModelT()
    model.version = 3
    model.description = name
    model.buffers = [schema.BufferT()]  # the empty one, of every tensor that is no constant
    places = {tensor.name: place for place, tensor in enumerate(tensors)}
    graph = schema.SubGraphT()
    graph.name = name
    graph.tensors = [_tensor(tensor, model.buffers) for tensor in tensors]
    graph.inputs, graph.outputs = ([places[end]] for end in ends)
    codes = sorted({(op.kind.name, op.version) for op in operators})
    model.operatorCodes = [_code(*code) for code in codes]
    graph.operators = [
        _operator(op, codes.index((op.kind.name, op.version)), places) for op in operators
    ]
    model.subgraphs = [graph]
    model.signatureDefs = [_signature(*(places[end] for end in ends))]
    model.metadata = []
    for key, content in metadata.items():
        entry = schema.MetadataT()
        entry.name, entry.buffer = key, _buffer(content, model.buffers)
        model.metadata.append(entry)
    return packed(model)


def packed(model: Any) -> bytes:
    """A model of the schema's object API as a file."""
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def _tensor(tensor: Tensor, buffers: list[Any]) -> Any:
    made = schema.TensorT()
    made.name, made.shape, made.hasRank = tensor.name, list(tensor.shape), True
    made.type = getattr(schema.TensorType, tensor.dtype.value)
    if tensor.scale:
        made.quantization = schema.QuantizationParametersT()
        made.quantization.scale = list(tensor.scale)
        made.quantization.zeroPoint = [tensor.zero_point] * len(tensor.scale)
        made.quantization.quantizedDimension = tensor.axis
    if tensor.data is not None:
        made.buffer = _buffer(_packed_data(tensor.data, tensor.dtype), buffers)
    return made


def _buffer(content: bytes, buffers: list[Any]) -> int:
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(content, np.uint8)
    buffers.append(buffer)
    return len(buffers) - 1


def _packed_data(data: NDArray[Any], dtype: DType) -> bytes:
    """The bytes of a constant; several values of fewer than 8 bits share one, the first lowest."""
    values = np.ascontiguousarray(data, dtype=dtype.storage)
    if dtype.bits >= 8:
        return values.tobytes()
    each = 8 // dtype.bits
    flat = values.reshape(-1).view(np.uint8) & ((1 << dtype.bits) - 1)
    rows = np.pad(flat, (0, -len(flat) % each)).reshape(-1, each)
    shifted = rows << (np.arange(each, dtype=np.uint8) * dtype.bits)
    return bytes(np.bitwise_or.reduce(shifted.astype(np.uint8), axis=1).tobytes())


def _code(name: str, version: int) -> Any:
    code = schema.OperatorCodeT()
    code.builtinCode = getattr(schema.BuiltinOperator, name)
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)  # what older runtimes read
    code.version = version
    return code


def _operator(op: Operator, code: int, places: Mapping[str, int]) -> Any:
    made = schema.OperatorT()
    made.opcodeIndex = code
    made.inputs = [places[name] for name in op.inputs]
    made.outputs = [places[op.output]]
    made.builtinOptionsType = getattr(schema.BuiltinOptions, op.kind.value)
    made.builtinOptions = getattr(schema, f"{op.kind.value}T")()
    for key, value in op.options.items():
        if not hasattr(made.builtinOptions, key):
            raise AttributeError(f"{op.kind.value} has no field {key}")
        setattr(made.builtinOptions, key, value)
    return made


def _signature(first: int, last: int) -> Any:
    signature = schema.SignatureDefT()
    signature.signatureKey = SIGNATURE
    signature.inputs, signature.outputs = [_map("input", first)], [_map("output", last)]
    return signature


def _map(name: str, place: int) -> Any:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name, place
    return entry


def with_outputs(path: Path, names: Sequence[str]) -> bytes:
    """The file with the tensors of these names as its outputs.

    Raises:
        UsageError: it is no .tflite file, or has no such tensors.
    """
    content = path.read_bytes()
    if content[4:8] != IDENTIFIER:
        raise UsageError(f"{path} is no .tflite file; compile again")
    try:
        model = schema.ModelT.InitFromPackedBuf(content, 0)
        (graph,) = model.subgraphs
        places = {tensor.name.decode(): place for place, tensor in enumerate(graph.tensors)}
        graph.outputs = [places[name] for name in names]
    except (struct.error, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise UsageError(f"{path} is damaged: {error!r}; compile again") from error
    model.signatureDefs = []
    return packed(model)
