"""An operation that no table in here has."""

from __future__ import annotations

from dataclasses import dataclass

from flow.ops import Bounds, Kernel, Op, Shape


@dataclass(frozen=True, eq=False)
class Unknown(Op):
    """Gives its operand."""

    name = "unknown"

    def output_shape(self, *shapes: Shape) -> Shape:
        return shapes[0]

    def bounds(self, shapes: tuple[Shape, ...], bounds: tuple[Bounds, ...]) -> Bounds:
        return bounds[0]

    def kernel(self, shapes: tuple[Shape, ...], bounds: tuple[Bounds, ...]) -> Kernel:
        return lambda x: x
