"""What a model is, before any training: layers, bits and training settings, all frozen.

A recipe knows its graph's shapes and bits without torch; `flow.qat.train` turns it into a network.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from flow.errors import UsageError
from flow.options import (
    option_types,
    parse_value,
    require_range,
    show_value,
    unknown_name,
    with_options,
)


class Scale(Enum):
    """What values a quantizer's scale may take."""

    PO2 = "po2"  # powers of two: requantization is a shift
    FLOAT = "float"  # any positive float32


class Granularity(Enum):
    """How many scales a weight tensor has."""

    TENSOR = "tensor"
    CHANNEL = "channel"  # one per output channel


@dataclass(frozen=True)
class Dense:
    """Fully connected layer with bias; followed by a quantized ReLU unless it is the last one."""

    name: str
    features: int


@dataclass(frozen=True)
class Conv:
    """2-D convolution with bias and a square kernel, followed by a quantized ReLU, or, without
    `relu`, by a signed quantizer. Its input is the layer `source`, None for the one before it."""

    name: str
    channels: int
    kernel: int
    stride: int = 1
    padding: int = 0
    relu: bool = True
    source: str | None = None


@dataclass(frozen=True)
class Add:
    """The sum of the layer before it and the layer `other`, of the same shape, each on a scale of
    its own; followed by a quantized ReLU."""

    name: str
    other: str


@dataclass(frozen=True)
class MaxPool:
    """2-D max-pool; stride = kernel, windows that do not fit are dropped."""

    name: str
    kernel: int


@dataclass(frozen=True)
class GlobalPool:
    """Mean over height and width, (C, H, W) to (C,), quantized again."""

    name: str


@dataclass(frozen=True)
class Flatten:
    """(C, H, W) to (C*H*W,), channel first."""

    name: str


Layer = Dense | Conv | Add | MaxPool | GlobalPool | Flatten
Weighted = Dense | Conv
Quantized = Dense | Conv | Add | GlobalPool  # their outputs get a quantizer of their own

INPUT = "input"  # what a layer's source is called that takes the network's input


@dataclass(frozen=True)
class LayerBits:
    """Shape and bits of one layer as built: `weight`, `bias` None where there are none, `act` None
    where the output has no quantizer of its own."""

    name: str
    kind: str
    output_shape: tuple[int, ...]
    weight: int | None
    bias: int | None
    act: int | None


# Fields that OPTS may set for one layer: `OPTS="conv1.weight_bits=8"`.
LAYER_FIELDS = ("weight_bits", "bias_bits", "act_bits")


@dataclass(frozen=True)
class Recipe:
    """A trainable model. Every int, float and Enum field can be set from OPTS.

    `input_shape` is without the batch, (C, H, W) or (features,). With `standardize` every feature
    is shifted and scaled on the host to mean 0 and deviation 1 of the training data, and quantized
    signed; without, inputs must not be negative. `overrides` holds (layer, field, value) triples
    with fields from LAYER_FIELDS. `augment` is the strength of random shifts, rotations and
    scalings of training images, 0 for none. `untrained` takes seeded random weights and inputs
    instead of training, where only the hardware matters: there is no accuracy then.
    """

    name: str
    data: str
    input_shape: tuple[int, ...]
    layers: tuple[Layer, ...]
    input_bits: int = 8
    weight_bits: int = 4
    act_bits: int = 5
    bias_bits: int = 16
    scale: Scale = Scale.PO2
    granularity: Granularity = Granularity.TENSOR
    float_epochs: int = 60
    epochs: int = 60
    batch_size: int = 64
    learning_rate: float = 3e-3
    augment: float = 0.0
    standardize: bool = False
    untrained: bool = False
    seed: int = 0
    overrides: tuple[tuple[str, str, int], ...] = ()

    def __post_init__(self) -> None:
        require_range("input_bits", self.input_bits, 2, 16)
        for field in LAYER_FIELDS:
            _require_bits(field, field, getattr(self, field))
        require_range("float_epochs", self.float_epochs, 1, 10_000)
        require_range("epochs", self.epochs, 1, 10_000)
        require_range("batch_size", self.batch_size, 2, 65_536)
        require_range("learning_rate", self.learning_rate, 1e-9, 10)
        require_range("augment", self.augment, 0, 4)
        require_range("seed", self.seed, 0, 2**32 - 1)
        weighted = {layer.name for layer in self.layers if isinstance(layer, Weighted)}
        quantized = {layer.name for layer in self.layers if isinstance(layer, Quantized)}
        for layer, field, value in self.overrides:
            if field not in LAYER_FIELDS:
                raise unknown_name("layer option", field, LAYER_FIELDS)
            known = quantized if field == "act_bits" else weighted
            if layer not in known:
                raise unknown_name("layer", layer, known)
            if field == "act_bits" and layer == self.layers[-1].name:
                raise UsageError(
                    f"option {layer}.act_bits: the last layer's output stays an accumulator, "
                    f"it has no activation bits to set"
                )
            _require_bits(f"{layer}.{field}", field, value)

    def bits(self, layer: str, field: str) -> int:
        """The bits that hold for one layer: its override, else the recipe's."""
        for name, key, value in self.overrides:
            if (name, key) == (layer, field):
                return value
        return int(getattr(self, field))

    def sources(self, layer: Layer) -> tuple[str, ...]:
        """The names of the layers whose outputs `layer` takes; INPUT is the network's input."""
        index = self.layers.index(layer)
        before = self.layers[index - 1].name if index else INPUT
        if isinstance(layer, Conv) and layer.source is not None:
            return (layer.source,)
        if isinstance(layer, Add):
            return (before, layer.other)
        return (before,)

    def signed(self, name: str) -> bool:
        """Whether the layer `name`, or INPUT, can have negative outputs."""
        if name == INPUT:
            return self.standardize
        (layer,) = (layer for layer in self.layers if layer.name == name)
        if isinstance(layer, Conv):
            return not layer.relu
        if isinstance(layer, Dense | Add):
            return layer is self.layers[-1]
        return self.signed(self.sources(layer)[0])

    def summary(self) -> tuple[LayerBits, ...]:
        """Shapes and bits of every layer, in order; needs no torch.

        Raises:
            UsageError: a layer does not fit its input's shape, or takes its input from a layer that
                does not stand before it.
        """
        shapes = {INPUT: self.input_shape}
        rows = []
        for index, layer in enumerate(self.layers):
            sources = self.sources(layer)
            for source in sources:
                if source not in shapes:
                    raise UsageError(
                        f"layer {layer.name}: its input {source!r} must be one of the layers "
                        f"before it: {', '.join(shapes)}"
                    )
            shape = _output_shape(layer, [shapes[source] for source in sources])
            shapes[layer.name] = shape
            weighted = isinstance(layer, Weighted)
            requantized = isinstance(layer, Quantized) and index < len(self.layers) - 1
            rows.append(
                LayerBits(
                    name=layer.name,
                    kind=type(layer).__name__,
                    output_shape=shape,
                    weight=self.bits(layer.name, "weight_bits") if weighted else None,
                    bias=self.bits(layer.name, "bias_bits") if weighted else None,
                    act=self.bits(layer.name, "act_bits") if requantized else None,
                )
            )
        return tuple(rows)

    def to_json(self) -> dict[str, Any]:
        """Everything that decides the trained network, JSON-able."""
        fields = {f.name: show_value(getattr(self, f.name)) for f in dataclasses.fields(self)}
        fields["layers"] = [
            {"kind": type(layer).__name__, **dataclasses.asdict(layer)} for layer in self.layers
        ]
        return fields

    def digest(self) -> str:
        """sha256 over `to_json`, hex."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()


def option_names(recipe: Recipe) -> tuple[str, ...]:
    """The options that can be set for the whole model."""
    return _settable(type(recipe))


def is_recipe_option(recipe: Recipe, key: str) -> bool:
    """Whether the OPTS key `key` sets something of the recipe (a field, or `layer.field`)."""
    _, dot, field = key.rpartition(".")
    if dot:
        return field in LAYER_FIELDS
    return key in _settable(type(recipe))


def apply_options(recipe: Recipe, assignments: Mapping[str, str]) -> Recipe:
    """The recipe with OPTS applied, for example {"epochs": "5", "conv1.weight_bits": "8"}.

    Raises:
        UsageError: unknown name, or a value of the wrong type or range.
    """
    plain = {k: v for k, v in assignments.items() if "." not in k}
    for key in plain:
        if key not in _settable(type(recipe)):
            raise unknown_name("option", key, _settable(type(recipe)))
    layered = list(recipe.overrides)
    for key, text in assignments.items():
        layer, dot, field = key.rpartition(".")
        if dot:
            layered.append((layer, field, parse_value(key, int, text)))
    changed = with_options(recipe, plain)
    return dataclasses.replace(changed, overrides=tuple(layered))


def _settable(cls: type) -> tuple[str, ...]:
    return tuple(name for name in option_types(cls) if name not in ("name", "data"))


def _require_bits(name: str, field: str, value: int) -> None:
    low, high = {"weight_bits": (2, 16), "act_bits": (2, 16), "bias_bits": (2, 32)}[field]
    require_range(name, value, low, high)


def _output_shape(layer: Layer, inputs: list[tuple[int, ...]]) -> tuple[int, ...]:
    shape = inputs[0]
    if isinstance(layer, Dense):
        if len(shape) != 1:
            raise UsageError(f"layer {layer.name}: Dense needs a flat input, not {shape}")
        return (layer.features,)
    if isinstance(layer, Flatten):
        return (math.prod(shape),)
    if isinstance(layer, Add):
        if inputs[1] != shape:
            raise UsageError(
                f"layer {layer.name}: its inputs must have one shape, not {shape} and {inputs[1]}"
            )
        return shape
    if len(shape) != 3:
        raise UsageError(f"layer {layer.name}: needs a (C, H, W) input, not {shape}")
    channels, height, width = shape
    if isinstance(layer, GlobalPool):
        return (channels,)
    if isinstance(layer, Conv):
        channels = layer.channels
        height, width = (
            (extent + 2 * layer.padding - layer.kernel) // layer.stride + 1
            for extent in (height, width)
        )
    else:
        height, width = height // layer.kernel, width // layer.kernel
    if height < 1 or width < 1:
        raise UsageError(f"layer {layer.name}: its kernel is larger than its input {shape}")
    return (channels, height, width)
