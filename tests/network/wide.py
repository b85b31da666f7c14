"""Random networks over every operation that is read, with branches; for comparing oracles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.network.nets import Net


@dataclass(frozen=True)
class Wire:
    """A tensor under construction: quantized per tensor, ready for a product."""

    name: str
    shape: tuple[int, ...]


class Wide:
    """Grows one random network; each step takes wires and adds one."""

    def __init__(self, rng: np.random.Generator, *, po2: bool):
        self.rng, self.po2 = rng, po2
        self.net = Net((3, 6, 6))
        self.wires = [Wire(self.quant("x", signed=True), (3, 6, 6))]

    def scale(self, low: float, high: float, shape: tuple[int, ...] = ()) -> NDArray[np.float64]:
        exponent = (
            self.rng.integers(int(low), int(high), shape)
            if self.po2
            else self.rng.uniform(low, high, shape)
        )
        return np.asarray(2.0**exponent)

    def quant(self, source: str, signed: bool | None = None, bits: int | None = None) -> str:
        signed = bool(self.rng.random() < 0.5) if signed is None else signed
        zero = float(self.rng.integers(-4, 9)) if self.rng.random() < 0.3 else 0.0
        return self.net.quant(
            source,
            float(self.scale(-4, 1)),
            bits or int(self.rng.integers(2, 8)),
            signed=signed,
            narrow=bool(self.rng.random() < 0.3),
            zero=zero,
            mode=str(self.rng.choice(["ROUND", "ROUND", "FLOOR", "CEIL", "DOWN", "HALF_UP"])),
        )

    def weight(self, shape: tuple[int, ...]) -> str:
        step = self.scale(-5, -2, (shape[0],) + (1,) * (len(shape) - 1))
        if self.rng.random() < 0.2:
            return self.net.node(
                "BipolarQuant",
                [self.net.constant(self.rng.normal(0, 1, shape)), self.net.constant(step)],
            )
        values = self.net.constant(self.rng.normal(0, 3, shape) * step)
        return self.net.quant(values, step, int(self.rng.integers(2, 6)))

    def image(self) -> Wire:
        images = [wire for wire in self.wires if len(wire.shape) == 3]
        return images[int(self.rng.integers(len(images)))]

    def step(self) -> None:
        """Add one operation and, where its result is not on a grid, a quantizer."""
        kinds: list[Callable[[], Wire]] = [
            self.conv,
            self.depthwise,
            self.norm,
            self.clip,
            self.max_pool,
            self.average,
            self.add,
            self.mul,
            self.concat,
            self.pad,
            self.slice,
            self.transpose,
            self.resize,
            self.depth_to_space,
            self.table,
            self.threshold,
            self.bipolar,
            self.constants,
            self.row,
        ]
        self.wires.append(kinds[int(self.rng.integers(len(kinds)))]())

    def conv(self) -> Wire:
        wire = self.image()
        channels, height, width = wire.shape
        outs = int(self.rng.integers(1, 5))
        kernel = tuple(int(k) for k in self.rng.integers(1, 3, 2))
        weight = self.weight((outs, channels, *kernel))
        if self.rng.random() < 0.3:
            made = self.net.node("Conv", [wire.name, weight], auto_pad="SAME_UPPER")
            return Wire(self.quant(made), (outs, height, width))
        pads = [int(p) for p in self.rng.integers(0, 2, 4)]
        bias = [self.net.constant(self.rng.normal(0, 1, outs))] if self.rng.random() < 0.5 else []
        made = self.net.node("Conv", [wire.name, weight, *bias], pads=pads)
        shape = (
            outs,
            height + pads[0] + pads[2] - kernel[0] + 1,
            width + pads[1] + pads[3] - kernel[1] + 1,
        )
        return Wire(self.quant(made), shape)

    def depthwise(self) -> Wire:
        wire = self.image()
        channels, height, width = wire.shape
        made = self.net.node("Conv", [wire.name, self.weight((channels, 1, 1, 1))], group=channels)
        return Wire(self.quant(made), (channels, height, width))

    def norm(self) -> Wire:
        wire = self.image()
        channels = wire.shape[0]
        constants = [
            self.rng.normal(0, 1, channels),
            self.rng.normal(0, 1, channels),
            self.rng.normal(0, 1, channels),
            self.rng.uniform(0.1, 2, channels),
        ]
        made = self.net.node(
            "BatchNormalization", [wire.name, *(self.net.constant(c) for c in constants)]
        )
        return Wire(self.quant(made), wire.shape)

    def clip(self) -> Wire:
        wire = self.image()
        bounds = sorted(self.rng.normal(0, 2, 2))
        made = self.net.node(
            "Clip", [wire.name, *(self.net.constant(np.float32(b)) for b in bounds)]
        )
        return Wire(self.quant(made), wire.shape)

    def max_pool(self) -> Wire:
        wire = self.image()
        made = self.net.node(
            "MaxPool", [wire.name], kernel_shape=[2, 2], strides=[1, 1], pads=[1, 0, 0, 1]
        )
        return Wire(made, wire.shape)

    def average(self) -> Wire:
        wire = self.image()
        channels, height, width = wire.shape
        if self.rng.random() < 0.3:
            made = self.net.node("GlobalAveragePool", [wire.name])
            made = self.quant(made)
            scales = self.net.constant(np.array([1, 1, 4, 4], dtype=np.float32))
            back = self.net.node(
                "Resize",
                [made, "", scales],
                mode="nearest",
                coordinate_transformation_mode="asymmetric",
                nearest_mode="floor",
            )
            return Wire(back, (channels, 4, 4))
        made = self.net.node(
            "AveragePool",
            [wire.name],
            kernel_shape=[2, 2],
            pads=[1, 1, 0, 0],
            count_include_pad=1,
        )
        return Wire(self.quant(made), (channels, height, width))

    def _twin(self, wire: Wire) -> Wire:
        """Another wire of the same shape."""
        same = [other for other in self.wires if other.shape == wire.shape]
        return same[int(self.rng.integers(len(same)))]

    def add(self) -> Wire:
        wire = self.image()
        op = "Add" if self.rng.random() < 0.7 else "Sub"
        made = self.net.node(op, [wire.name, self._twin(wire).name])
        return Wire(self.quant(made), wire.shape)

    def mul(self) -> Wire:
        wire = self.image()
        made = self.net.node("Mul", [wire.name, self._twin(wire).name])
        return Wire(self.quant(made), wire.shape)

    def concat(self) -> Wire:
        wire = self.image()
        made = self.net.node("Concat", [wire.name, self._twin(wire).name], axis=1)
        return Wire(self.quant(made), (2 * wire.shape[0], *wire.shape[1:]))

    def pad(self) -> Wire:
        wire = self.image()
        pads = self.net.constant(np.array([0, 0, 1, 0, 0, 0, 0, 1], dtype=np.int64))
        made = self.net.node("Pad", [wire.name, pads])
        return Wire(made, (wire.shape[0], wire.shape[1] + 1, wire.shape[2] + 1))

    def slice(self) -> Wire:
        wire = self.image()
        numbers = [[0, 1], [wire.shape[0], wire.shape[1]], [1, 2]]
        constants = [self.net.constant(np.array(n, dtype=np.int64)) for n in numbers]
        if wire.shape[1] < 3:
            return wire
        made = self.net.node("Slice", [wire.name, *constants])
        return Wire(made, (wire.shape[0], wire.shape[1] - 1, wire.shape[2]))

    def transpose(self) -> Wire:
        wire = self.image()
        made = self.net.node("Transpose", [wire.name], perm=[0, 1, 3, 2])
        return Wire(made, (wire.shape[0], wire.shape[2], wire.shape[1]))

    def resize(self) -> Wire:
        wire = self.image()
        if max(wire.shape[1:]) > 12:
            return wire
        scales = self.net.constant(np.array([1, 1, 2, 1], dtype=np.float32))
        made = self.net.node("Resize", [wire.name, "", scales], mode="nearest")
        return Wire(made, (wire.shape[0], 2 * wire.shape[1], wire.shape[2]))

    def depth_to_space(self) -> Wire:
        wire = self.image()
        if wire.shape[0] % 4:
            return wire
        mode = "DCR" if self.rng.random() < 0.5 else "CRD"
        made = self.net.node("DepthToSpace", [wire.name], blocksize=2, mode=mode)
        return Wire(made, (wire.shape[0] // 4, 2 * wire.shape[1], 2 * wire.shape[2]))

    def table(self) -> Wire:
        wire = self.image()
        op = str(
            self.rng.choice(["Sigmoid", "Tanh", "HardSwish", "HardSigmoid", "LeakyRelu", "Elu"])
        )
        made = self.net.node(op, [wire.name])
        if op == "Sigmoid" and self.rng.random() < 0.5:
            made = self.net.node("Mul", [wire.name, made])  # SiLU
        return Wire(self.quant(made), wire.shape)

    def threshold(self) -> Wire:
        wire = self.image()
        levels = np.sort(self.rng.normal(0, 2, (wire.shape[0], 3)), axis=1)
        made = self.net.node(
            "MultiThreshold",
            [wire.name, self.net.constant(levels)],
            out_scale=0.5,
            out_bias=-1.0,
            out_dtype="INT2",
        )
        return Wire(made, wire.shape)

    def bipolar(self) -> Wire:
        wire = self.image()
        scale = self.net.constant(np.float32(self.scale(-3, 1)))
        return Wire(self.net.node("BipolarQuant", [wire.name, scale]), wire.shape)

    def constants(self) -> Wire:
        wire = self.image()
        factor = self.net.constant(np.float32(self.scale(-2, 2)))
        shift = self.net.constant(self.rng.normal(0, 1, (wire.shape[0], 1, 1)))
        made = self.net.node("Mul", [wire.name, factor])
        made = self.net.node("Sub", [shift, made])
        made = self.net.node("Div", [made, self.net.constant(np.float32(0.75))])
        return Wire(self.quant(made), wire.shape)

    def row(self) -> Wire:
        """Through one dimension and back: reshape, 1-D convolution, pool, reshape."""
        wire = self.image()
        channels, height, width = wire.shape
        shape = self.net.constant(np.array([0, channels, -1], dtype=np.int64))
        made = self.net.node("Reshape", [wire.name, shape])
        made = self.net.node(
            "Conv", [made, self.weight((channels, channels, 3))], pads=[1, 1], dilations=[1]
        )
        made = self.quant(made)
        made = self.net.node("MaxPool", [made], kernel_shape=[3], strides=[1], pads=[1, 1])
        shape = self.net.constant(np.array([0, channels, height, width], dtype=np.int64))
        return Wire(self.net.node("Reshape", [made, shape]), wire.shape)

    def finish(self, path: Path) -> Path:
        """Flatten the newest wire into a dense layer, sometimes behind a ReLU6 and a softmax."""
        wire = self.wires[-1]
        made = self.net.node("Flatten", [wire.name], axis=1)
        size = int(np.prod(wire.shape))
        made = self.net.node("Gemm", [made, self.weight((3, size))], transB=1)
        return self.net.save(path, made)


def wide_net(rng: np.random.Generator, path: Path, *, po2: bool) -> Path:
    """A random network of a few steps, up to a dense layer."""
    wide = Wide(rng, po2=po2)
    for _ in range(int(rng.integers(2, 7))):
        wide.step()
    return wide.finish(path)
