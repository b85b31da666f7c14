"""Damaged networks: one random change of a valid file, of its bytes or of its contents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, numpy_helper

WHOLE = (
    -(1 << 62),
    -(1 << 31),
    -7,
    -1,
    0,
    1,
    2,
    3,
    5,
    63,
    4095,
    1 << 16,
    1 << 31,
    1 << 40,
    1 << 62,
)
REAL = (np.nan, np.inf, -np.inf, -1.0, 0.0, 1e-40, 1e-30, 0.3, 3.5, 64.0, 1e10, 3e38)
NAMES = ("", "x" * 100_000, "a b\n\x00c", "ünï", "../../etc", "é" * 3, "1")
OPS = (
    "Add",
    "ArgMax",
    "AveragePool",
    "BatchNormalization",
    "BipolarQuant",
    "Cast",
    "Clip",
    "Concat",
    "Conv",
    "DepthToSpace",
    "DequantizeLinear",
    "Div",
    "Exp",
    "Flatten",
    "Gather",
    "Gemm",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "Log",
    "MatMul",
    "MaxPool",
    "Mul",
    "MultiThreshold",
    "Pad",
    "Pow",
    "Quant",
    "QuantizeLinear",
    "ReduceMean",
    "Relu",
    "Reshape",
    "Resize",
    "Shape",
    "Sigmoid",
    "Slice",
    "Softmax",
    "Squeeze",
    "Sub",
    "TopK",
    "Transpose",
    "Trunc",
    "Unsqueeze",
    "Upsample",
)
LISTS = {
    "pads": (4, 8, 3),
    "strides": (2, 1),
    "dilations": (2, 3),
    "kernel_shape": (2, 1),
    "perm": (4, 2),
    "axes": (1, 2),
    "starts": (2,),
    "ends": (2,),
}
NUMBERS = ("group", "axis", "transA", "transB", "ceil_mode", "signed", "narrow", "to", "blocksize")
TEXTS = ("auto_pad", "mode", "rounding_mode", "coordinate_transformation_mode", "data_layout")

Change = Callable[[np.random.Generator, Any], None]


def pick(rng: np.random.Generator, things: Any) -> Any:
    return things[int(rng.integers(len(things)))]


def mutate(rng: np.random.Generator, data: bytes) -> bytes:
    """One damaged version of an ONNX file."""
    if rng.random() < 0.3:
        return _bytes(rng, data)
    model = onnx.ModelProto.FromString(data)
    for _ in range(int(rng.integers(1, 3))):
        pick(rng, CHANGES)(rng, model.graph)
    made: bytes = model.SerializeToString()
    return made


def _bytes(rng: np.random.Generator, data: bytes) -> bytes:
    kind, place = int(rng.integers(4)), int(rng.integers(len(data)))
    if kind == 0:
        return data[:place]
    if kind == 1:
        end = place + int(rng.integers(1, 40))
        return data[:place] + data[end:]
    if kind == 2:
        return data[:place] + bytes(rng.integers(0, 256, 5, dtype=np.uint8)) + data[place:]
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 6))):
        changed[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def _node(rng: np.random.Generator, graph: Any) -> Any:
    return pick(rng, graph.node) if len(graph.node) else graph.node.add()


def _duplicate(rng: np.random.Generator, graph: Any) -> None:
    graph.node.add().CopyFrom(_node(rng, graph))


def _insert_twin(rng: np.random.Generator, graph: Any) -> None:
    """The same node again under other output names, read by nobody or by all that follow."""
    node, place = _node(rng, graph), int(rng.integers(len(graph.node)))
    twin = onnx.NodeProto()
    twin.CopyFrom(node)
    twin.output[0] += "_twin"
    later = list(graph.node)[place:]
    graph.node.insert(place, twin)
    for other in later:
        for index, name in enumerate(other.input):
            if name == node.output[0] and rng.random() < 0.5:
                other.input[index] = twin.output[0]


def _remove(rng: np.random.Generator, graph: Any) -> None:
    graph.node.remove(_node(rng, graph))


def _bridge(rng: np.random.Generator, graph: Any) -> None:
    """A node taken out, its readers given what it read."""
    node = _node(rng, graph)
    source, output = (node.input or [""])[0], (node.output or [""])[0]
    graph.node.remove(node)
    for other in graph.node:
        for index, name in enumerate(other.input):
            if name == output:
                other.input[index] = source


def _exchange(rng: np.random.Generator, graph: Any) -> None:
    a, b = _node(rng, graph), _node(rng, graph)
    kept = onnx.NodeProto()
    kept.CopyFrom(a)
    a.CopyFrom(b)
    b.CopyFrom(kept)


def _swap_inputs(rng: np.random.Generator, graph: Any) -> None:
    node = _node(rng, graph)
    node.input[:] = list(rng.permutation(list(node.input)))


def _redirect(rng: np.random.Generator, graph: Any) -> None:
    """An input from anywhere: cycles, constants for activations, activations for constants."""
    node = _node(rng, graph)
    names = [n for other in graph.node for n in (*other.input, *other.output)] + ["", "nowhere"]
    if len(node.input):
        node.input[int(rng.integers(len(node.input)))] = pick(rng, names)


def _count_inputs(rng: np.random.Generator, graph: Any) -> None:
    node = _node(rng, graph)
    if len(node.input) and rng.random() < 0.6:
        del node.input[int(rng.integers(len(node.input)))]
    else:
        node.input.append(pick(rng, [n for other in graph.node for n in other.input] or [""]))


def _outputs(rng: np.random.Generator, graph: Any) -> None:
    node = _node(rng, graph)
    if rng.random() < 0.5:
        del node.output[:]
    else:
        node.output.append(pick(rng, NAMES + tuple(n for o in graph.node for n in o.output)))


def _operation(rng: np.random.Generator, graph: Any) -> None:
    node = _node(rng, graph)
    node.op_type = pick(rng, (*OPS, "Loop", "NoSuchThing", ""))
    node.domain = pick(rng, ("", "", "", node.domain, "qonnx.custom_op.general", "com.microsoft"))


def _name(rng: np.random.Generator, graph: Any) -> None:
    node = _node(rng, graph)
    name = pick(rng, NAMES)
    if rng.random() < 0.5:
        node.name = name
        return
    old = pick(rng, list(node.output) or [""])
    for other in graph.node:
        other.input[:] = [name if n == old else n for n in other.input]
        other.output[:] = [name if n == old else n for n in other.output]


def _attribute(rng: np.random.Generator, graph: Any) -> None:
    nodes = [node for node in graph.node if len(node.attribute)]
    if not nodes:
        return
    node = pick(rng, nodes)
    attribute = pick(rng, node.attribute)
    kind = int(rng.integers(5))
    if kind == 0:
        node.attribute.remove(attribute)
    elif kind == 1:
        attribute.type = pick(rng, AttributeProto.AttributeType.values())
    elif attribute.type == AttributeProto.INTS and len(attribute.ints):
        if kind == 2:
            attribute.ints.pop()
        else:
            attribute.ints[int(rng.integers(len(attribute.ints)))] = pick(rng, WHOLE)
    else:
        attribute.i, attribute.f = pick(rng, WHOLE), pick(rng, REAL)
        attribute.s = pick(rng, (b"", b"VALID", b"SAME_UPPER", b"\xff\xfe", b"ROUND", b"reflect"))


def _add_attribute(rng: np.random.Generator, graph: Any) -> None:
    node = _node(rng, graph)
    made: Any
    kind = int(rng.integers(3))
    if kind == 0:
        name = pick(rng, sorted(LISTS))
        few = [v for v in WHOLE if abs(v) < 10] if rng.random() < 0.6 else WHOLE
        made = [int(pick(rng, few)) for _ in range(pick(rng, LISTS[name]))]
    elif kind == 1:
        name, made = pick(rng, NUMBERS), int(pick(rng, WHOLE))
    else:
        name, made = pick(rng, TEXTS), pick(rng, ("SAME_LOWER", "linear", "ROUND", "?", "NHWC"))
    for index, attribute in enumerate(node.attribute):
        if attribute.name == name:
            del node.attribute[index]
            break
    node.attribute.append(onnx.helper.make_attribute(name, made))


def _tensor(rng: np.random.Generator, graph: Any) -> Any:
    return pick(rng, graph.initializer) if len(graph.initializer) else graph.initializer.add()


def _numbers(rng: np.random.Generator, graph: Any) -> None:
    """One entry, or all, of a constant."""
    tensor = _tensor(rng, graph)
    array = numpy_helper.to_array(tensor).copy()
    if not array.size:
        return
    value = pick(rng, REAL) if array.dtype.kind == "f" else pick(rng, WHOLE)
    with np.errstate(all="ignore"):
        number = np.array(value).astype(array.dtype)
    if rng.random() < 0.5:
        array[...] = number
    else:
        array.flat[int(rng.integers(array.size))] = number
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def _shape(rng: np.random.Generator, graph: Any) -> None:
    """A constant of another valid shape: an axis of no or half the extent, more or fewer axes."""
    tensor = _tensor(rng, graph)
    array = numpy_helper.to_array(tensor)
    kind = int(rng.integers(5))
    if kind == 0 and array.ndim:
        array = np.take(array, range(0), axis=int(rng.integers(array.ndim)))
    elif kind == 1 and array.ndim:
        axis = int(rng.integers(array.ndim))
        array = np.take(array, range((array.shape[axis] + 1) // 2), axis=axis)
    elif kind == 2:
        array = array.reshape(-1)
    elif kind == 3:
        array = array[None]
    else:
        array = np.stack([array, array], axis=-1)
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), tensor.name))


def _type(rng: np.random.Generator, graph: Any) -> None:
    tensor = _tensor(rng, graph)
    if rng.random() < 0.5:
        tensor.data_type = pick(rng, (*TensorProto.DataType.values(), 99, -1))
        return
    array = numpy_helper.to_array(tensor)
    with np.errstate(all="ignore"):
        array = array.astype(pick(rng, ("int8", "int64", "float64", "float16", "bool", "uint8")))
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def _dims(rng: np.random.Generator, graph: Any) -> None:
    """A declared shape that the contents do not have."""
    tensor = _tensor(rng, graph)
    if len(tensor.dims) and rng.random() < 0.8:
        tensor.dims[int(rng.integers(len(tensor.dims)))] = pick(rng, WHOLE)
    else:
        tensor.dims.append(pick(rng, WHOLE))


def _input(rng: np.random.Generator, graph: Any) -> None:
    kind = graph.input[0].type.tensor_type
    dims = kind.shape.dim
    choice = int(rng.integers(4))
    if choice == 0:
        kind.elem_type = pick(rng, (*TensorProto.DataType.values(), 99))
    elif choice == 1 and len(dims):
        del dims[int(rng.integers(len(dims)))]
    elif len(dims):
        pick(rng, dims).dim_value = pick(rng, WHOLE)
    else:
        graph.input.add().CopyFrom(graph.input[0])


def _end(rng: np.random.Generator, graph: Any) -> None:
    """Another output, or one more."""
    names = [n for node in graph.node for n in (*node.output, *node.input)] + ["nowhere", ""]
    if rng.random() < 0.8:
        graph.output[0].name = pick(rng, names)
    else:
        graph.output.add().name = pick(rng, names)


CHANGES: tuple[Change, ...] = (
    _duplicate,
    _insert_twin,
    _remove,
    _bridge,
    _exchange,
    _swap_inputs,
    _redirect,
    _count_inputs,
    _outputs,
    _operation,
    _operation,
    _name,
    _attribute,
    _attribute,
    _add_attribute,
    _add_attribute,
    _numbers,
    _numbers,
    _shape,
    _type,
    _dims,
    _input,
    _end,
)
