"""The state of one lowering: tensors and operators so far, and where each graph value lies."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.errors import Offence
from flow.graph import Graph, Node, Value
from flow.layout import Layout
from flow.ops import IntArray, Shape
from targets.tflite.arithmetic import Arithmetic
from targets.tflite.model import DType, Kind, Operator, Tensor
from targets.tflite.ways import Kernels

_NORMAL = (2.0**-40, 2.0**40)  # scales that leave room for their products in float32


class Refused(Exception):
    """A node that cannot be lowered: why, and what the user can change."""

    def __init__(self, reason: str, fix: str):
        super().__init__(reason)
        self.reason, self.fix = reason, fix


@dataclass(frozen=True, eq=False)
class Stored:
    """A graph value in the file: code = number - zero, in the places that `layout` says. The
    tensor's own zero-point may be another number: it only says what kernels subtract."""

    tensor: Tensor
    zero: int
    layout: Layout

    @property
    def shift(self) -> int:
        """The code that kernels take for 0."""
        return self.tensor.zero_point - self.zero


@dataclass(frozen=True)
class Unproven:
    """Channels of a node whose requantization could not be proven, and how many of the steps of
    the worst one are missed by an accumulator."""

    node: str
    channels: tuple[int, ...]
    missed: int


@dataclass(frozen=True)
class Rounded:
    """How a node was requantized: by so many `kernels` that share its steps, with rows for
    `corrections` of single steps, with codes that are `shifted` and moved back, as a `dense` layer
    of the windows of a convolution, or, without an arithmetic, by what `instead` says."""

    arithmetic: Arithmetic | None = None
    bias: DType = DType.INT32
    kernels: int = 1
    corrections: int = 0
    shifted: bool = False
    dense: bool = False
    instead: str = ""


@dataclass(eq=False)
class Lowered:
    """The file's content, or the offences that stand in its way."""

    tensors: list[Tensor] = field(default_factory=list)
    operators: list[Operator] = field(default_factory=list)
    offences: list[Offence] = field(default_factory=list)
    unproven: list[Unproven] = field(default_factory=list)
    rounded: dict[str, Rounded] = field(default_factory=dict)  # by the node that wants the codes
    packed: dict[str, DType] = field(default_factory=dict)  # dense layers: type of the weights
    values: dict[str, Stored] = field(default_factory=dict)
    ends: tuple[Stored, ...] = ()  # input and output


@dataclass(frozen=True, eq=False)
class Mark:
    """How far a lowering was."""

    tensors: int
    operators: int
    unproven: int
    values: dict[str, Stored]


@dataclass(frozen=True)
class Choices:
    """The target's options that change the file."""

    kernels: Kernels
    weights: DType
    dense_version: int
    proven: bool  # whether a requantization that no multiplier gives is compared step by step
    # For XNNPACK in tflite-runtime, which leaves dense layers with several scales to other kernels,
    # and refuses a RESHAPE to another scale.
    old_delegate: bool
    shared: bool  # whether its steps are shared by several kernels before that


class State:
    """Grown node by node."""

    def __init__(self, graph: Graph, choices: Choices):
        self.graph, self.choices = graph, choices
        self.result = Lowered()
        self.lost: set[str] = set()  # values whose node was refused, or follows one that was
        self.within: dict[str, Node] = {}  # sums that only the requantizations behind them compute
        self._names: set[str] = set()

    @property
    def codes(self) -> DType:
        """The type of the activations."""
        return self.choices.kernels.activations

    @property
    def made(self) -> dict[str, Stored]:
        return self.result.values

    def name(self, wanted: str) -> str:
        """A name that no tensor has yet."""
        name, number = wanted, 1
        while name in self._names:
            number += 1
            name = f"{wanted}_{number}"
        self._names.add(name)
        return name

    def tensor(self, name: str, shape: Shape, like: Tensor | None = None, **more: Any) -> Tensor:
        """A new tensor, with the type and quantization of `like`."""
        base = like or Tensor(name, shape, self.codes)
        made = replace(base, **{"name": self.name(name), "shape": shape, "data": None, **more})
        self.result.tensors.append(made)
        return made

    def constant(self, name: str, data: NDArray[Any], dtype: DType, **more: Any) -> Tensor:
        return self.tensor(name, data.shape, Tensor(name, (), dtype), data=data, **more)

    def integers(self, name: str, values: Any) -> Tensor:
        """A constant of plain int32 numbers: shapes, paddings, indices."""
        return self.constant(name, np.array(values, dtype=np.int32), DType.INT32)

    def operator(
        self, kind: Kind, inputs: tuple[Tensor, ...], output: Tensor, version: int = 1, **more: Any
    ) -> Tensor:
        names = tuple(tensor.name for tensor in inputs)
        if inputs[0].dtype is DType.INT16:
            bias = inputs[2].dtype if len(inputs) > 2 else None
            known, needed = self.choices.kernels.version(kind, bias)
            version, more = known or version, {**more, **needed}
        self.result.operators.append(Operator(kind, names, output.name, more, version))
        return output

    def reshaped(self, tensor: Tensor, shape: Shape, name: str, **label: Any) -> Tensor:
        """The same numbers under another shape, or under another scale and zero-point."""
        if tensor.shape == shape and not label:
            return tensor
        if label and self.choices.old_delegate:
            deeper = self.reshaped(tensor, (1, *shape), f"{name}_deeper")
            made = self.tensor(name, shape, tensor, **label)
            return self.operator(Kind.SQUEEZE, (deeper,), made, squeezeDims=[0])
        made = self.tensor(name, shape, tensor, **label)
        sizes = self.integers(f"{name}_shape", shape)
        return self.operator(Kind.RESHAPE, (tensor, sizes), made, newShape=list(shape))

    def gathered(self, tensor: Tensor, places: IntArray, shape: Shape, name: str) -> Tensor:
        """The numbers at `places` of the flattened tensor, as `shape`."""
        flat = self.reshaped(tensor, (1, prod(tensor.shape)), f"{name}_flat")
        index = self.integers(f"{name}_index", places.reshape(-1))
        taken = self.tensor(name, (1, places.size), tensor)
        self.operator(Kind.GATHER, (flat, index), taken, 2, axis=1, batchDims=0)
        return self.reshaped(taken, shape, f"{name}_shaped")

    def mark(self) -> Mark:
        """Where the lowering is, to go back to."""
        result = self.result
        lengths = len(result.tensors), len(result.operators), len(result.unproven)
        return Mark(*lengths, dict(result.values))

    def unproven_since(self, mark: Mark) -> bool:
        return len(self.result.unproven) > mark.unproven

    def back_to(self, mark: Mark) -> None:
        """Forget what was written since."""
        result = self.result
        del result.tensors[mark.tensors :]
        del result.operators[mark.operators :]
        del result.unproven[mark.unproven :]
        result.values = dict(mark.values)

    def ends(self, name: str) -> tuple[int, int]:
        """The least and the greatest code that a value can hold."""
        low, high = self.graph.bounds[name]
        return int(low.min()), int(high.max())


def place_of(held: DType, low: int, high: int) -> int:
    """The number of the code 0 where codes low..high lie in a type: 0 if they fit so."""
    return 0 if held.low <= low and high <= held.high else held.low - low


def device_shape(shape: Shape) -> Shape:
    """The tensor of a value: batch first, channels last."""
    return (1, *shape[1:], shape[0])


def scale_of(value: Value) -> float:
    """A value's scale as the file can say it: float32; 1 where channels differ or it is out of
    the range in which products of scales are normal numbers."""
    scale = float(np.float32(value.scale[0])) if len(set(value.scale)) == 1 else 1.0
    return scale if _NORMAL[0] <= scale <= _NORMAL[1] else 1.0
