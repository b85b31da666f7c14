"""What a model is, before any training: layers, bits and training settings, all frozen.

A recipe knows its graph's shapes and bits without torch; `flow.qat.train` turns it into a network.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from flow.artifact import json_digest
from flow.errors import UsageError
from flow.features_snippet import FrontEnd
from flow.options import (
    option_types,
    parse_value,
    require_range,
    show_value,
    unknown_name,
    with_options,
)
from flow.qat.formats import (
    ACT_FORMATS,
    WEIGHT_FORMATS,
    Activation,
    ActRounding,
    Format,
    Numbers,
    Rule,
)
from flow.qat.formats import Granularity as Granularity
from flow.qat.formats import Scale as Scale


@dataclass(frozen=True)
class Dense:
    """Fully connected layer with bias; followed by a quantized ReLU, or what else the recipe's
    `activation` is, unless it is the last one."""

    name: str
    features: int


Extent = int | tuple[int, int]  # (height, width), or one number for both


@dataclass(frozen=True)
class Conv:
    """2-D convolution with bias, followed by a quantized ReLU, or, without `relu`, by a signed
    quantizer. Its input is the layer `source`, None for the one before it."""

    name: str
    channels: int
    kernel: Extent
    stride: Extent = 1
    padding: Extent = 0
    relu: bool = True
    source: str | None = None


@dataclass(frozen=True)
class Depthwise:
    """2-D convolution with bias of every channel by a filter of its own, followed by a quantized
    ReLU."""

    name: str
    kernel: Extent
    stride: Extent = 1
    padding: Extent = 0


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


Layer = Dense | Conv | Depthwise | Add | MaxPool | GlobalPool | Flatten
Weighted = Dense | Conv | Depthwise
Quantized = (
    Dense | Conv | Depthwise | Add | GlobalPool
)  # their outputs get a quantizer of their own

UNLABELLED = ("machines",)  # data sets without classes: networks learn to give their inputs again
INPUT = "input"  # what a layer's source is called that takes the network's input


class Keep(Enum):
    """Which epoch's weights are kept: those best on the validation split, or the last one's, where
    that split is too small to choose among epochs that differ by less than its noise."""

    BEST = "best"
    LAST = "last"


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


_VALUES = 160_000_000  # outputs of layers that are held at a time; some modules hold them thrice

# The bits of formats that leave no choice.
_FORMAT_BITS = {Format.BINARY: 1, Format.TERNARY: 2}

_SEED_STEP = 1_000_003  # between those of teachers

# Fields of a recipe that its float twin does not depend on.
_QUANTIZED_ONLY = (
    *("name", "input_bits", "weight_bits", "act_bits", "bias_bits", "scale", "granularity"),
    *("act_granularity", "weight_format", "integer_bits", "auto_scale", "rounding", "output_bits"),
    *("rule", "ewgs_delta", "bops_weight", "epochs"),
)

# Fields that OPTS may set for one layer: `OPTS="conv1.weight_bits=8"`.
LAYER_FIELDS = ("weight_bits", "bias_bits", "act_bits", "weight_format", "act_format")
_BITS = {"weight_bits": (2, 16), "act_bits": (2, 16), "bias_bits": (2, 32)}
_FORMATS = {"weight_format": WEIGHT_FORMATS, "act_format": ACT_FORMATS}


@dataclass(frozen=True)
class Teacher:
    """Float networks whose answers are learned beside the labels.

    They have `layers` of their own and `float_epochs`, and in all else are trained as the recipe's
    float twin, each of the `networks` with another seed. Of the loss, `share` is then the
    divergence from the mean of their answers, all softened by `temperature`: G. Hinton, O. Vinyals
    and J. Dean, Distilling the Knowledge in a Neural Network (2015), arXiv 1503.02531.
    """

    layers: tuple[Layer, ...]
    float_epochs: int
    networks: int = 1
    share: float = 0.7
    temperature: float = 3.0

    def __post_init__(self) -> None:
        require_range("networks of a teacher", self.networks, 1, 100)
        require_range("share of a teacher", self.share, 0, 1)
        require_range("temperature of a teacher", self.temperature, 0.1, 100)


@dataclass(frozen=True)
class Recipe:
    """A trainable model. Every int, float and Enum field can be set from OPTS.

    `input_shape` is without the batch, (C, H, W) or (features,). With `standardize` every feature
    is shifted and scaled on the host to mean 0 and deviation 1 of the training data, and quantized
    signed; without, inputs must not be negative unless their format is asymmetric. `front_end`
    makes the inputs of sound, in training and on the host. The numbers'
    formats, `integer_bits`, `auto_scale`, `rule` and `ewgs_delta` are explained at
    `flow.qat.formats`; `rounding` is that of activations. With `output_bits` the network's output
    is quantized, signed; with 0 it stays the last layer's accumulator, which loses nothing.
    `activation` is what all layers have in the place of the ReLU; other functions are tables of the
    layer's sums in the integer graph, of which there may be 65,536 at most. With
    `bops_weight` w the bits of layers are learned: w times the network's bit operations, in those
    of the recipe's own bits, is added to the loss. `overrides` holds (layer, field, value) triples
    with fields from LAYER_FIELDS. `augment` is the strength of random shifts, rotations and
    scalings of training images (of sounds: shifts, speed and noise), 0 for none. With a `teacher`
    the float twin and the quantized network learn from other networks too. `untrained` takes
    seeded random weights and inputs instead of training, where only the hardware matters: there is
    no accuracy then.
    """

    name: str
    data: str
    input_shape: tuple[int, ...]
    layers: tuple[Layer, ...]
    input_bits: int = 8
    weight_bits: int = 4
    act_bits: int = 5
    bias_bits: int = 16
    output_bits: int = 0
    scale: Scale = Scale.PO2
    granularity: Granularity = Granularity.TENSOR
    act_granularity: Granularity = Granularity.TENSOR
    weight_format: Format = Format.INTEGER
    act_format: Format = Format.INTEGER
    activation: Activation = Activation.RELU
    input_format: Format = Format.INTEGER
    integer_bits: int = 2
    auto_scale: bool = True
    rounding: ActRounding = ActRounding.HALF_EVEN
    rule: Rule = Rule.STE
    ewgs_delta: float = 0.2
    bops_weight: float = 0.0
    float_epochs: int = 60
    epochs: int = 60
    batch_size: int = 64
    learning_rate: float = 3e-3
    augment: float = 0.0
    keep: Keep = Keep.BEST
    standardize: bool = False
    untrained: bool = False
    seed: int = 0
    overrides: tuple[tuple[str, str, int | Format], ...] = ()
    front_end: FrontEnd | None = None
    teacher: Teacher | None = None

    def __post_init__(self) -> None:
        _require_input(self.input_format, self.input_bits)
        for field in LAYER_FIELDS:
            _require_field(field, field, getattr(self, field))
        if self.act_granularity is Granularity.CHANNEL:
            raise UsageError(
                "option act_granularity: activations with one scale per channel cannot go into a "
                "dense layer or a full convolution, which add up over channels; use tensor"
            )
        self._check_activation()
        if self.output_bits:
            require_range("output_bits", self.output_bits, 2, 16)
        require_range("integer_bits", self.integer_bits, 1, 16)
        require_range("ewgs_delta", self.ewgs_delta, 0, 1)
        require_range("bops_weight", self.bops_weight, 0, 100)
        if self.bops_weight > 0 and self.rule is not Rule.STE:
            raise UsageError(
                f"option bops_weight: bit widths are learned with rule=ste, as the other rules are "
                f"made for a set number of bits, not with {self.rule.value}"
            )
        require_range("float_epochs", self.float_epochs, 1, 10_000)
        require_range("epochs", self.epochs, 1, 10_000)
        require_range("batch_size", self.batch_size, 2, 65_536)
        require_range("learning_rate", self.learning_rate, 1e-9, 10)
        require_range("augment", self.augment, 0, 4)
        require_range("seed", self.seed, 0, 2**32 - 1)
        if self.front_end is not None:
            made = (self.front_end.stack, self.front_end.width)
            if math.prod(made) != math.prod(self.input_shape):
                raise UsageError(
                    f"model {self.name}: its front end makes inputs of {made[0]} frames of "
                    f"{made[1]} numbers, which are not those of shape {self.input_shape}"
                )
        if self.reconstructs and self.summary()[-1].output_shape != self.input_shape:
            raise UsageError(
                f"model {self.name}: its outputs must be of its input's shape {self.input_shape}, "
                f"as the data set {self.data!r} has no classes"
            )
        self._check_teacher()
        weighted = {layer.name for layer in self.layers if isinstance(layer, Weighted)}
        quantized = {layer.name for layer in self.layers if isinstance(layer, Quantized)}
        for layer, field, value in self.overrides:
            if field not in LAYER_FIELDS:
                raise unknown_name("layer option", field, LAYER_FIELDS)
            known = quantized if field.startswith("act_") else weighted
            if layer not in known:
                raise unknown_name("layer", layer, known)
            if field.startswith("act_") and layer == self.layers[-1].name:
                raise UsageError(
                    f"option {layer}.{field}: the last layer has no activation to set; its output "
                    f"stays an accumulator, or is quantized with output_bits"
                )
            _require_field(f"{layer}.{field}", field, value)

    def _check_activation(self) -> None:
        """Raises UsageError where formats or roundings are made for a ReLU."""
        if self.activation is Activation.RELU:
            return
        said = f"option activation={self.activation.value}"
        layered = [value for _, field, value in self.overrides if field == "act_format"]
        if any(form is not Format.INTEGER for form in (self.act_format, *layered)):
            raise UsageError(f"{said} goes with act_format=integer only")
        if self.rounding is ActRounding.FLOOR:
            raise UsageError(
                f"{said} goes with rounding=half_even only: the half that floor has in the bias "
                f"would go through the function"
            )

    def _check_teacher(self) -> None:
        """Raises UsageError where a teacher's answers are not of the same questions."""
        if self.teacher is None:
            return
        if self.reconstructs:
            raise UsageError(
                f"model {self.name}: a teacher's answers are scores of classes, which the data set "
                f"{self.data!r} has none of"
            )
        theirs, ours = (recipe.summary()[-1].output_shape for recipe in (self.teachers[0], self))
        if theirs != ours:
            raise UsageError(
                f"model {self.name}: its teacher's outputs must be of shape {ours}, as its own, "
                f"not {theirs}"
            )

    @property
    def teachers(self) -> tuple[Recipe, ...]:
        """The recipes whose float twins are the teachers."""
        if self.teacher is None:
            return ()
        plain = dataclasses.replace(
            self,
            name=f"{self.name} teacher",
            layers=self.teacher.layers,
            float_epochs=self.teacher.float_epochs,
            act_format=Format.INTEGER,
            weight_format=Format.INTEGER,
            overrides=(),
            teacher=None,
        )
        seeds = [
            (self.seed + _SEED_STEP * number) % 2**32 for number in range(self.teacher.networks)
        ]
        return tuple(dataclasses.replace(plain, seed=seed) for seed in seeds)

    def bits(self, layer: str, field: str) -> int:
        """The bits that hold for one layer: what its format says, its override, or the recipe's."""
        if field == "act_bits" and layer == self.layers[-1].name:
            return self.output_bits
        kind = field.removesuffix("_bits")
        if kind != "bias" and (fixed := _FORMAT_BITS.get(self.format(layer, f"{kind}_format"))):
            return fixed
        found = self._of_layer(layer, field)
        assert isinstance(found, int)
        return found

    def format(self, layer: str, field: str) -> Format:
        """The format that holds for one layer's `weight_format` or `act_format`."""
        found = self._of_layer(layer, field)
        assert isinstance(found, Format)
        return found

    def _of_layer(self, layer: str, field: str) -> int | Format:
        for name, key, value in reversed(self.overrides):  # options come behind the model's own
            if (name, key) == (layer, field):
                return value
        found: int | Format = getattr(self, field)
        return found

    def weights(self, layer: str) -> Numbers:
        """Everything that decides how one layer's weights are quantized."""
        form = self.format(layer, "weight_format")
        return self._numbers(form, self.bits(layer, "weight_bits"), signed=True)

    def activations(self, layer: str) -> Numbers:
        """Everything that decides how one layer's activations are quantized."""
        bits = self.bits(layer, "act_bits")
        if layer == self.layers[-1].name:
            output = self._numbers(Format.INTEGER, bits, signed=True)
            return dataclasses.replace(output, learned=False)
        form = self.format(layer, "act_format")
        signed = form is Format.FIXED or (form is not Format.ASYMMETRIC and self.signed(layer))
        return self._numbers(form, bits, signed)

    def quantizes(self, layer: Layer) -> bool:
        """Whether the output of `layer` gets a quantizer of its own."""
        last = layer is self.layers[-1]
        return isinstance(layer, Quantized) and (not last or self.output_bits > 0)

    @property
    def inputs(self) -> Numbers:
        """Everything that decides how the network's input is quantized."""
        signed = self.standardize and self.input_format is not Format.ASYMMETRIC
        numbers = self._numbers(self.input_format, self.input_bits, signed)
        return dataclasses.replace(numbers, learned=False)

    def _numbers(self, form: Format, bits: int, signed: bool) -> Numbers:
        return Numbers(
            format=form,
            bits=bits,
            signed=signed,
            scale=self.scale,
            granularity=self.granularity,
            rule=self.rule,
            ewgs_delta=self.ewgs_delta,
            rounding=self.rounding,
            integer_bits=self.integer_bits,
            auto_scale=self.auto_scale,
            learned=self.bops_weight > 0 and form is Format.INTEGER,
        )

    @property
    def reconstructs(self) -> bool:
        """Whether the outputs are the inputs again, not scores of classes: such a network is
        trained by their mean squared difference, and rated by the area under the ROC curve."""
        return self.data in UNLABELLED

    def keeps_norm(self, layer: str) -> bool:
        """Whether a layer's BatchNorm stays itself instead of going into weights and bias.

        Binary weights have no room for its gains, and a sign needs its offsets.
        """
        weight, act = (self.format(layer, f) for f in ("weight_format", "act_format"))
        return weight is Format.BINARY or act in (Format.BINARY, Format.TERNARY)

    def end(self, layer: Layer) -> str:
        """The layer behind which the BatchNorm and activation of `layer` stand: itself, or, before
        a sign, the last of the max-pools that alone follow it (XNOR-Net's block order: a pool of
        signs would be nearly always 1)."""
        if self.format(layer.name, "act_format") not in (Format.BINARY, Format.TERNARY):
            return layer.name
        end = layer.name
        for following in self.layers[self.layers.index(layer) + 1 :]:
            users = [other for other in self.layers if end in self.sources(other)]
            if not isinstance(following, MaxPool) or users != [following]:
                break
            end = following.name
        return end

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
        last = layer is self.layers[-1]
        if isinstance(layer, Quantized) and not last:
            if self.format(name, "act_format") not in (Format.INTEGER, Format.FIXED):
                return True
        below = self.activation is Activation.TANH
        if isinstance(layer, Conv):
            return below or not layer.relu
        if isinstance(layer, Depthwise):
            return below
        if isinstance(layer, Dense | Add):
            return below or last
        return self.signed(self.sources(layer)[0])

    def summary(self) -> tuple[LayerBits, ...]:
        """Shapes and bits of every layer, in order; needs no torch.

        Raises:
            UsageError: a layer does not fit its input's shape, or takes its input from a layer that
                does not stand before it.
        """
        shapes = {INPUT: self.input_shape}
        rows = []
        for layer in self.layers:
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
            rows.append(
                LayerBits(
                    name=layer.name,
                    kind=type(layer).__name__,
                    output_shape=shape,
                    weight=self.bits(layer.name, "weight_bits") if weighted else None,
                    bias=self.bits(layer.name, "bias_bits") if weighted else None,
                    act=self.bits(layer.name, "act_bits") if self.quantizes(layer) else None,
                )
            )
        return tuple(rows)

    def at_once(self, most: int) -> int:
        """How many samples, at most `most`, can be in memory with the outputs of all layers."""
        return max(2, min(most, _VALUES // sum(math.prod(r.output_shape) for r in self.summary())))

    def to_json(self) -> dict[str, Any]:
        """Everything that decides the trained network, JSON-able."""
        fields = {f.name: show_value(getattr(self, f.name)) for f in dataclasses.fields(self)}
        fields["layers"] = _listed(self.layers)
        fields["overrides"] = [[*key, show_value(value)] for *key, value in self.overrides]
        if self.activation is Activation.RELU:
            del fields["activation"]
        if self.keep is Keep.BEST:
            del fields["keep"]
        del fields["front_end"]
        if self.front_end is not None:
            fields["front_end"] = self.front_end.to_json()
        del fields["teacher"]
        if self.teacher is not None:
            fields["teacher"] = {**vars(self.teacher), "layers": _listed(self.teacher.layers)}
        return fields

    def digest(self) -> str:
        """sha256 over `to_json`, hex."""
        return json_digest(self.to_json())

    def twin_digest(self) -> str:
        """sha256 over all that decides the float twin, hex: recipes that differ in nothing else
        start from the same one. Activations' formats do, as they choose the float functions."""
        deciding = {k: v for k, v in self.to_json().items() if k not in _QUANTIZED_ONLY}
        deciding["overrides"] = [row for row in deciding["overrides"] if row[1] == "act_format"]
        return json_digest(deciding)


def _listed(layers: tuple[Layer, ...]) -> list[dict[str, Any]]:
    return [{"kind": type(layer).__name__, **dataclasses.asdict(layer)} for layer in layers]


def pair(extent: Extent) -> tuple[int, int]:
    """(height, width)."""
    return extent if isinstance(extent, tuple) else (extent, extent)


def taps(layer: Weighted) -> int:
    """How many places of its input's height and width one output takes: 1 for Dense."""
    return 1 if isinstance(layer, Dense) else math.prod(pair(layer.kernel))


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
            layered.append((layer, field, parse_value(key, _kind(field), text)))
    changed = with_options(recipe, plain)
    return dataclasses.replace(changed, overrides=tuple(layered))


def _settable(cls: type) -> tuple[str, ...]:
    return tuple(name for name in option_types(cls) if name not in ("name", "data"))


def _kind(field: str) -> type:
    return Format if field in _FORMATS else int


def _require_field(name: str, field: str, value: int | Format) -> None:
    if isinstance(value, Format):
        _require_format(name, value, _FORMATS[field])
        return
    low, high = _BITS[field]
    if value == 1 and field != "bias_bits":
        raise UsageError(
            f"option {name} must be from {low} to {high}, not 1; for one bit set "
            f"{name.removesuffix('_bits')}_format=binary"
        )
    require_range(name, value, low, high)


def _require_format(name: str, value: Format, valid: tuple[Format, ...]) -> None:
    if value not in valid:
        names = ", ".join(form.value for form in valid)
        raise UsageError(f"option {name} must be one of {names}, not {value.value!r}")


def _require_input(form: Format, bits: int) -> None:
    if form is Format.BINARY or bits == 1:
        raise UsageError(
            "a binary input: the first layer is fed with floats, of which one bit would keep the "
            "sign only; set input_format=integer and input_bits from 2 to 16, and act_format=binary"
            " for the layers behind"
        )
    require_range("input_bits", bits, 2, 16)
    _require_format("input_format", form, (Format.INTEGER, Format.ASYMMETRIC))


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
    if isinstance(layer, Conv | Depthwise):
        channels = layer.channels if isinstance(layer, Conv) else channels
        windows = zip(*(pair(e) for e in (layer.kernel, layer.stride, layer.padding)), strict=True)
        height, width = (
            (extent + 2 * padding - kernel) // stride + 1
            for extent, (kernel, stride, padding) in zip((height, width), windows, strict=True)
        )
    else:
        height, width = height // layer.kernel, width // layer.kernel
    if height < 1 or width < 1:
        raise UsageError(f"layer {layer.name}: its kernel is larger than its input {shape}")
    return (channels, height, width)
