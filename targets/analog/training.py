"""What a chip makes of weights, for training through it: programming, drift with its compensation,
and reading. Converters, inputs' noise and wires are left out."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from flow.errors import Unsupported, UsageError
from flow.graph import Node, Value
from flow.ops import Conv, IntArray
from flow.qtype import QType
from flow.target import Noise
from targets.analog import crossbar, optical
from targets.analog.crossbar import take
from targets.analog.device import Device, Kind
from targets.analog.draws import Draw, stream
from targets.analog.mapping import Arrays, FloatArray, Mapped, mapped, trouble
from targets.analog.products import Product
from targets.analog.programmed import Condition, Draws, Programmed

FIRST_CHIP = 1 << 40  # of training; no check simulates chips of such numbers
_NOT_OF_WEIGHTS = (
    *("dac", "adc", "nl_adc", "conversion", "input", "detector"),
    *("read", "drive", "digital", "light"),
)
METHOD = 2  # raise it when the same chips would be others


def noise_of_chips(
    device: Device, arrays: Arrays, condition: Condition, digital: Collection[str]
) -> Noise:
    """The noise of chips of a device under a condition; layers named in `digital` have none."""
    # Other converters and costs ask for no other training.
    rest: dict[str, Any] = dict.fromkeys(_NOT_OF_WEIGHTS)
    bare = replace(device, **rest)
    chips = _Chips(bare, arrays, condition, frozenset(digital))
    told = f"{METHOD} {bare} {arrays} {condition} {sorted(digital)}"
    return Noise(hashlib.sha256(told.encode()).hexdigest(), chips.draw)


def require_noise(name: str, device: Device, condition: Condition) -> None:
    """Raises UsageError where the device, which users know as `name`, has no noise of weights to
    train through, or wires."""
    if device.wire is not None and device.wire.ohm > 0:
        raise UsageError(
            f"option noise_aware: the wires of device {name} would have to be solved for every "
            f"batch; give a device without them, and check the trained network with this one"
        )
    programmed = device.programming, device.flicker, device.white
    stuck = device.stuck is not None and device.stuck.off + device.stuck.on > 0
    optics = device.weight is not None and device.weight.leakage > 0
    noise = condition.noise > 0 and (optics or any(programmed))
    if not (noise or stuck or (device.drift is not None and condition.time_s > 0)):
        raise UsageError(
            f"option noise_aware is of devices whose weights vary; those of device {name} do not, "
            f"with {condition.noise:g} times its noise and time_s={condition.time_s:g}: "
            f"leave it out"
        )


@dataclass(frozen=True)
class _Chips:
    device: Device
    arrays: Arrays
    condition: Condition
    digital: frozenset[str]

    def draw(self, layer: str, weights: IntArray, seed: int, number: int) -> FloatArray:
        """As `flow.target.Noise` asks for it. Raises Unsupported where the weights cannot be
        mapped."""
        if layer in self.digital:
            return weights.astype(np.float64)
        product = _product(layer, weights)
        if (wrong := trouble(product, self.arrays)) is not None:
            raise Unsupported("training through the noise of chips", [wrong])
        held = mapped(product, self.arrays)
        draws = Draws(seed, (FIRST_CHIP + number,), zlib.crc32(layer.encode()))
        law = optical if self.device.kind is Kind.PHOTONIC else crossbar
        made = law.program(held, self.device, self.condition, draws)
        return multiplied(held, made, draws).transpose(0, 2, 1)


def _product(layer: str, weights: IntArray) -> Product:
    """Weights (groups, outputs, inputs) as the product of a convolution of one position."""
    groups, outputs, inputs = weights.shape
    matrix = weights.reshape(groups * outputs, inputs, 1, 1)
    bias, none = np.zeros(groups * outputs, np.int64), np.zeros((groups, inputs), np.int64)
    wide = QType(62, signed=True)
    output = Value(layer, (groups * outputs, 1, 1), wide, ())
    node = Node(layer, Conv(matrix, bias, groups=groups), (f"{layer}.x",), output)
    shape = (groups * inputs, 1, 1)
    return Product(node, shape, weights.transpose(0, 2, 1), bias, none, none)


def multiplied(layer: Mapped, made: Programmed, draws: Draws) -> FloatArray:
    """What the whole layer of the first chip multiplies by, (groups, inputs, outputs): readings
    with the digital part's factors, and one draw of what varies with every product."""
    found = made.weights[0].copy()
    if made.variance is not None:
        by = stream(draws.seed, draws.chips[0], draws.layer, 0, Draw.WHITE)
        noise = np.sqrt(made.variance[0]) * by.standard_normal(made.variance[0].shape)
        if layer.shares:
            assert layer.minus is not None
            noise = take(noise, layer.plus) - take(noise, layer.minus)
        found += noise
    if made.gain is not None:
        for block, rows in enumerate(layer.row_blocks):
            found[:, rows] *= made.gain[0, block][:, None, :]
    parts = found.reshape(*found.shape[:2], -1, len(layer.factors))
    whole: FloatArray = parts @ layer.factors.astype(np.float64)
    return whole
