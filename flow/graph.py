"""The integer graph: values, nodes, and its JSON form. Immutable; every rounding is a Requant."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass, field
from enum import Enum
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np

from flow.errors import UsageError
from flow.ops import OPS, Bounds, Op, Shape
from flow.qtype import QType
from flow.requant import Rounding

SCHEMA = 2
MAX_TEXT = 128 << 20  # characters of a graph's JSON; Python takes some ten times as much to read it
MAX_NODES = 20_000
MAX_CONSTANTS = 1 << 25  # entries of all weights and tables together
_RATIONAL = re.compile(r"-?[0-9]{1,4000}(/[0-9]{1,4000})?")


@dataclass(frozen=True)
class Value:
    """A tensor of codes: real = scale * (code - zero_point). `shape` is without the batch; `scale`
    has one entry, or one per channel (axis 0)."""

    name: str
    shape: Shape
    qtype: QType
    scale: tuple[Fraction, ...]
    zero_point: int = 0


@dataclass(frozen=True, eq=False)
class Node:
    """`op` applied to the values `inputs`, in its order, giving the value `output`."""

    name: str
    op: Op
    inputs: tuple[str, ...]
    output: Value


@dataclass(frozen=True, eq=False)
class Graph:
    """A network on integers: one input, nodes in order of execution, one output (the last value).

    Build it with `Graph.build`, which derives every bound; the constructor is for code that has
    them.
    """

    name: str
    input: Value
    nodes: tuple[Node, ...]
    bounds: dict[str, Bounds] = field(repr=False)

    @classmethod
    def build(cls, name: str, input: Value, nodes: tuple[Node, ...]) -> Graph:
        """The graph with the bounds of every value derived.

        Raises:
            UsageError: a shape or type does not fit; the node is named.
        """
        return cls(name, input, nodes, _derive_bounds(input, nodes))

    @property
    def output(self) -> Value:
        return self.nodes[-1].output if self.nodes else self.input

    def value(self, name: str) -> Value:
        """The value of that name. Raises KeyError."""
        return self._values[name]

    @cached_property
    def _values(self) -> dict[str, Value]:
        return {v.name: v for v in (self.input, *(node.output for node in self.nodes))}

    def shapes(self, node: Node) -> tuple[Shape, ...]:
        """The shapes of the node's inputs."""
        return tuple(self.value(name).shape for name in node.inputs)

    def consumers(self, name: str) -> tuple[Node, ...]:
        """The nodes that read the value `name`."""
        return tuple(node for node in self.nodes if name in node.inputs)

    def to_json(self) -> str:
        """Text that `from_json` reads back to an equal graph; equal graphs give equal text."""
        body = {
            "schema": SCHEMA,
            "name": self.name,
            "input": _value_json(self.input),
            "nodes": [
                {
                    "name": node.name,
                    "op": node.op.name,
                    "attributes": _op_json(node.op),
                    "inputs": list(node.inputs),
                    "output": _value_json(node.output),
                }
                for node in self.nodes
            ],
        }
        return json.dumps(body, separators=(",", ":"), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Graph:
        """Raises UsageError where the text is not a graph of this schema, or too large."""
        if len(text) > MAX_TEXT:
            raise UsageError(f"graph JSON must be at most {MAX_TEXT} characters, not {len(text)}")
        try:
            body = json.loads(text)
            if body["schema"] != SCHEMA:
                raise UsageError(f"graph JSON must be of schema {SCHEMA}, not {body['schema']!r}")
            if len(body["nodes"]) > MAX_NODES:
                raise UsageError(
                    f"graph JSON must have at most {MAX_NODES} nodes, not {len(body['nodes'])}"
                )
            nodes = tuple(
                Node(
                    row["name"],
                    _op_from_json(row["op"], row["attributes"]),
                    tuple(row["inputs"]),
                    _value_from_json(row["output"]),
                )
                for row in body["nodes"]
            )
            held = sum(_constants(node.op) for node in nodes)
            if held > MAX_CONSTANTS:
                raise UsageError(
                    f"graph JSON must hold at most {MAX_CONSTANTS} constants, not {held}"
                )
            return cls.build(body["name"], _value_from_json(body["input"]), nodes)
        except (KeyError, TypeError, ValueError, OverflowError, ZeroDivisionError) as error:
            raise UsageError(f"graph JSON is damaged: {error!r}") from error
        except RecursionError as error:
            raise UsageError("graph JSON is damaged: it is nested too deeply") from error


def _derive_bounds(input: Value, nodes: tuple[Node, ...]) -> dict[str, Bounds]:
    one = np.ones(1, dtype=np.int64)
    bounds: dict[str, Bounds] = {input.name: (one * input.qtype.low, one * input.qtype.high)}
    values = {input.name: input}
    for node in nodes:
        for name in node.inputs:
            if name not in values:
                raise UsageError(f"node {node.name}: its input {name!r} is not computed before it")
        if node.output.name in values:
            raise UsageError(f"node {node.name}: the value {node.output.name!r} is computed twice")
        shapes = tuple(values[name].shape for name in node.inputs)
        try:
            shape = node.op.output_shape(*shapes)
            low, high = node.op.bounds(shapes, tuple(bounds[name] for name in node.inputs))
        except (UsageError, ValueError) as error:
            raise UsageError(f"node {node.name} ({node.op.name}): {error}") from error
        if shape != node.output.shape:
            raise UsageError(
                f"node {node.name}: its output must be {shape}, not {node.output.shape}"
            )
        if len(node.output.scale) not in (1, shape[0]):
            raise UsageError(f"node {node.name}: {len(node.output.scale)} scales for {shape}")
        if int(low.min()) < node.output.qtype.low or int(high.max()) > node.output.qtype.high:
            raise UsageError(
                f"node {node.name}: its output can be {low.min()}..{high.max()}, "
                f"which {node.output.qtype} does not hold"
            )
        bounds[node.output.name] = (low, high)
        values[node.output.name] = node.output
    return bounds


def _value_json(value: Value) -> dict[str, Any]:
    return {
        "name": value.name,
        "shape": list(value.shape),
        "qtype": dataclasses.asdict(value.qtype),
        "scale": [str(scale) for scale in value.scale],
        "zero_point": value.zero_point,
    }


def _value_from_json(row: dict[str, Any]) -> Value:
    return Value(
        row["name"],
        tuple(row["shape"]),
        QType(**row["qtype"]),
        tuple(_rational(text) for text in row["scale"]),
        row["zero_point"],
    )


def _rational(text: str) -> Fraction:
    """What `str` makes of a Fraction; nothing else, for 1e999999999 would take all memory."""
    if not _RATIONAL.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is no fraction")
    return Fraction(text)


def _constants(op: Op) -> int:
    """Entries of the op's arrays."""
    held = (getattr(op, field.name) for field in dataclasses.fields(op))
    return sum(item.size for item in held if isinstance(item, np.ndarray))


def _op_json(op: Op) -> dict[str, Any]:
    return {f.name: _plain(getattr(op, f.name)) for f in dataclasses.fields(op)}


def _plain(item: Any) -> Any:
    if isinstance(item, np.ndarray):
        return item.tolist()
    if isinstance(item, Enum):
        return item.value
    if isinstance(item, QType):
        return dataclasses.asdict(item)
    if isinstance(item, Fraction):
        return str(item)
    if isinstance(item, tuple):
        return [_plain(entry) for entry in item]
    return item


_ARRAYS = ("weight", "bias", "cuts", "codes", "entries")


def _op_from_json(name: str, attributes: dict[str, Any]) -> Op:
    if name not in OPS:
        raise UsageError(f"graph JSON: unknown op {name!r}; valid: {', '.join(sorted(OPS))}")
    read: dict[str, Any] = {}
    for key, item in attributes.items():
        if isinstance(item, list) and key in _ARRAYS:
            read[key] = np.array(item, dtype=np.int64)
        elif key in ("scale", "offset"):
            read[key] = tuple(_rational(text) for text in item)
        elif key == "qtype":
            read[key] = QType(**item)
        elif key == "rounding":
            read[key] = Rounding(item)
        else:
            read[key] = tuple(item) if isinstance(item, list) else item
    return OPS[name](**read)
