"""A network on chips: the integer graph, with arrays in the place of its mapped layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

import numpy as np

from flow.graph import Graph, Node, Value
from flow.interp import check_codes
from flow.ops import Conv, IntArray
from targets.analog import crossbar, optical, together
from targets.analog.converters import Converter, Drive
from targets.analog.crossbar import take
from targets.analog.device import Device, Kind, Law, Optical
from targets.analog.draws import Draw, normals, stream
from targets.analog.grid import fraction_bits, to_grid
from targets.analog.mapping import FloatArray, Mapped, Tile, largest
from targets.analog.programmed import Condition, Draws, Programmed
from targets.analog.ramp import Ramp, read, thresholds

# Samples that a stream of random numbers is drawn for, at most, and the memory that they may take:
# both are part of what a result means.
BATCH, BATCH_BYTES = 512, 32 << 20
DRAWN = 1 << 18  # errors of devices that are drawn at a time
REPEATED = 1 << 16  # numbers that may be repeated for a pass in one go, which is twice as fast
CODE_BITS = 14  # behind the point, of inputs that are no integers any more


@dataclass(frozen=True, eq=False)
class Layer:
    """A mapped layer with what drives and reads it: a converter, or a nonlinear ramp."""

    mapped: Mapped
    number: int
    drive: Drive
    converter: Converter
    ramp: Ramp | None = None

    @property
    def exact(self) -> Layer:
        """The layer with converters that lose nothing."""
        return replace(self, drive=replace(self.drive, dropped=0), converter=Converter())

    @cached_property
    def most(self) -> float:
        """What no applied code's magnitude exceeds."""
        return float(max(np.abs(end).max() for end in self.drive.bounds(self.mapped)))


@dataclass(frozen=True, eq=False)
class Hardware:
    """A device under a condition, and the seed of its chips."""

    device: Device
    condition: Condition
    seed: int = 0


class Engine:
    """Runs codes through chips; without `hardware`, through arrays that hold what they shall. The
    chips that were asked for last stay programmed."""

    def __init__(self, graph: Graph, layers: Sequence[Layer], hardware: Hardware | None):
        self.graph, self.hardware = graph, hardware
        self.layers = {layer.mapped.name: layer for layer in layers}
        self._kernels = {
            node.name: node.op.kernel(
                graph.shapes(node), tuple(graph.bounds[name] for name in node.inputs)
            )
            for node in graph.nodes
            if node.name not in self.layers
        }
        self._last_read = _last_reads(graph)
        self._programmed: tuple[tuple[int, ...], dict[str, _Chips]] = ((), {})

    @cached_property
    def batch(self) -> int:
        """How many samples share a stream of random numbers; by the graph alone, so that draws do
        not depend on which layers are on arrays."""
        columns = (
            prod(node.op.weight.shape[1:]) * node.op.groups * prod(node.output.shape[1:])
            for node in self.graph.nodes
            if isinstance(node.op, Conv)
        )
        largest_value = max(prod(value.shape) for value in _values(self.graph))
        each = 24 * (largest_value + max(columns, default=0))
        return max(1, min(BATCH, BATCH_BYTES // each))

    @cached_property
    def sample_bytes(self) -> int:
        """Memory that one sample takes on one chip, about."""
        held = [prod(value.shape) for value in _values(self.graph)]
        products = (
            layer.mapped.groups
            * layer.mapped.product.positions
            * len(layer.drive.weights)
            * (3 * layer.mapped.levels.shape[1] + 4 * layer.mapped.unit.shape[1])
            for layer in self.layers.values()
        )
        return 8 * (3 * max(held) + max(products, default=0))

    def run(self, codes: IntArray, chips: Sequence[int], batch: int = 0) -> IntArray:
        """Output codes (chips, n, *output shape) of input codes (n, *input shape), which are the
        samples from batch * self.batch on, at most as many where chips differ.

        Raises:
            UsageError: the codes do not fit the graph.
        """
        last = self.graph.output.name
        return self.follow(codes, chips, batch, lambda name: name == last)[last]

    def follow(
        self,
        codes: IntArray,
        chips: Sequence[int],
        batch: int,
        keep: Callable[[str], bool],
        readings: Callable[[Layer, FloatArray], None] = lambda layer, found: None,
    ) -> dict[str, IntArray]:
        """As `run`, of every value that is to be kept; `readings` sees those of each layer."""
        check_codes(self.graph, codes)
        layers = self._on(tuple(chips))
        shape = len(chips), len(codes)
        values = {self.graph.input.name: codes.astype(np.int64, copy=False)[None]}
        kept: dict[str, IntArray] = {}
        if keep(self.graph.input.name):  # a graph may have no nodes
            kept[self.graph.input.name] = np.broadcast_to(codes, (shape[0], *codes.shape))
        for node in self.graph.nodes:
            inputs = [values[name] for name in node.inputs]
            if node.name in layers:
                made = layers[node.name].outputs(inputs[0], shape, batch, readings)
            else:
                made = self._digital(node, inputs)
            values[node.output.name] = made
            if keep(node.output.name):
                kept[node.output.name] = np.broadcast_to(made, (shape[0], *made.shape[1:]))
            for name in self._last_read[node.name]:
                del values[name]
        return kept

    def _digital(self, node: Node, inputs: list[IntArray]) -> IntArray:
        """Inputs (1 or chips, n, ...), 1 where no chip differs from another."""
        count = max(len(x) for x in inputs)
        whole = [np.broadcast_to(x, (count, *x.shape[1:])) for x in inputs]
        flat = [x.reshape(-1, *x.shape[2:]) for x in whole]
        made: IntArray = self._kernels[node.name](*flat)
        return made.reshape(count, -1, *made.shape[1:])

    def _on(self, chips: tuple[int, ...]) -> Mapping[str, _Chips]:
        if self._programmed[0] != chips:
            made = {
                name: _Chips(layer, self.hardware, chips, self.graph)
                for name, layer in self.layers.items()
            }
            self._programmed = (chips, made)
        return self._programmed[1]


class _Chips:
    """One layer on some chips."""

    def __init__(
        self, layer: Layer, hardware: Hardware | None, chips: tuple[int, ...], graph: Graph
    ):
        self.layer, self.hardware, self.chips = layer, hardware, chips
        self.bounds = graph.bounds[layer.mapped.product.node.output.name]
        self.fraction = fraction_bits(largest(layer.mapped.product))
        self.coded = 0 if self._modulator is None else CODE_BITS
        self.programmed = self._program()
        to_grid(self.programmed.weights, max(self.fraction - self.coded, 0))
        self.thresholds = None if layer.ramp is None else self._thresholds(layer.ramp)
        for variance in (self.programmed.variance, self.programmed.by_sample):
            if variance is not None:
                to_grid(variance, self.fraction)

        self.together, self.inside = self._together(), self._inside()

    @property
    def _modulator(self) -> Optical | None:
        return None if self.hardware is None else self.hardware.device.input

    def _together(self) -> list[FloatArray] | None:
        """Of each row block, what makes the noise of inputs and detectors of normal numbers; None
        where each has its own."""
        law, converter, made = self._modulator, self.layer.converter, self.programmed
        if self.hardware is None or law is None:
            return None
        normal = law.noise is converter.law is Law.GAUSSIAN
        if not normal or made.variance is not None or made.by_sample is not None:
            return None
        given = optical.deviation(law, self.layer.most, self.hardware.condition)
        read = self.hardware.condition.noise * converter.noise * converter.step
        blocks, readings = self.layer.mapped.row_blocks, made.weights.shape[-1]
        largest = float(np.abs(self.layer.mapped.product.weights).max(initial=0))
        sizes = {rows.stop - rows.start for rows in blocks}
        if not all(together.fits(size, readings, largest, given, read) for size in sizes):
            return None
        return [together.factors(made.weights[:, :, rows], given, read) for rows in blocks]

    def _draws(self, batch: int = 0) -> Draws:
        seed = 0 if self.hardware is None else self.hardware.seed
        return Draws(seed, self.chips, self.layer.number, batch)

    def _inside(self) -> bool:
        """Whether what converters can tell is inside the bounds, whatever they read."""
        mapped, converter = self.layer.mapped, self.layer.converter
        if converter.low is None or converter.high is None or self.layer.ramp is not None:
            return False
        if self.programmed.gain is not None or len(mapped.factors) > 1 or self.layer.drive.serial:
            return False
        (low, high), bias = self.bounds, mapped.product.bias
        reach = len(mapped.row_blocks) * converter.step
        least, most = reach * converter.low - 1, reach * converter.high + 1  # rounded, at the most
        return bool((least + bias >= low).all() and (most + bias <= high).all())

    def _program(self) -> Programmed:
        mapped = self.layer.mapped
        if self.hardware is None:
            return Programmed(held(mapped)[None])
        device, condition = self.hardware.device, self.hardware.condition
        if device.kind is Kind.PHOTONIC:
            return optical.program(mapped, device, condition, self._draws())
        return crossbar.program(mapped, device, condition, self._draws())

    def _thresholds(self, ramp: Ramp) -> list[list[FloatArray]]:
        """Of each chip and each tile."""
        tiles = len(self.layer.mapped.tiles)
        law = None if self.hardware is None else self.hardware.device.nl_adc
        if self.hardware is None or law is None:
            count = 1 if self.hardware is None else len(self.chips)
            return [[ramp.ideal] * tiles] * count
        return thresholds(ramp, tiles, law, self.hardware.condition, self._draws())

    def outputs(
        self,
        x: IntArray,
        shape: tuple[int, int],
        batch: int,
        see: Callable[[Layer, FloatArray], None],
    ) -> IntArray:
        """Codes (1 or c, n, *shape) to the node's output (1 or c, n, *output shape)."""
        product, passes = self.layer.mapped.product, self.layer.drive.weights
        vectors = product.vectors(x.reshape(-1, *x.shape[2:]))
        vectors = vectors.reshape(len(x), shape[1], *vectors.shape[1:]).transpose(0, 2, 1, 3, 4)
        flat = vectors.reshape(len(x), vectors.shape[1], -1, vectors.shape[-1])
        applied = self._driven(self.layer.drive.applied(flat), batch)
        total = self._sums(applied, batch, shape[1], see)
        if len(passes) > 1:
            parts = total.reshape(*total.shape[:2], len(passes), -1, total.shape[-1])
            total = np.tensordot(parts, passes.astype(np.float64), axes=([2], [0]))
        sums = self._digital(total)
        count, groups, _, outs = sums.shape
        split = sums.reshape(count, groups, shape[1], -1, outs).transpose(0, 2, 1, 3, 4)
        made = product.outputs(split.reshape(-1, groups, *split.shape[3:]))
        return made.reshape(count, shape[1], *made.shape[1:])

    def _digital(self, total: FloatArray) -> IntArray:
        """Whole numbers with the bias, clamped to what the network's own weights can make: the
        digital part's words are as wide as that, and what follows is defined for that."""
        _, groups, many, outs = total.shape

        def whole(part: IntArray) -> FloatArray:
            own = np.broadcast_to(part, (groups * outs,)).reshape(groups, 1, outs)
            made = own.astype(np.float64)
            return made.repeat(many, axis=1) if groups * many * outs <= REPEATED else made

        np.rint(total, out=total)
        total += whole(self.layer.mapped.product.bias)
        if not self.inside:
            np.maximum(total, whole(self.bounds[0]), out=total)
            np.minimum(total, whole(self.bounds[1]), out=total)
        return total.astype(np.int64)

    def _driven(self, codes: IntArray, batch: int) -> FloatArray:
        law, most = self._modulator, self.layer.most
        if self.hardware is None or law is None:
            return codes.astype(np.float64)
        qtype = self.layer.drive.qtype
        made = optical.modulated(codes, qtype, most, law.precision, self.coded)
        if self.together is not None:
            return made
        made = optical.driven(made, most, law, self.hardware.condition, self._draws(batch))
        return to_grid(made, self.coded)

    def _sums(
        self,
        x: FloatArray,
        batch: int,
        samples: int,
        see: Callable[[Layer, FloatArray], None],
    ) -> FloatArray:
        """Vectors (1 or c, groups, m, inputs) to sums (c, groups, m, outputs); m are passes,
        samples and positions."""
        mapped, made = self.layer.mapped, self.programmed
        total: FloatArray | None = None
        for block, rows in enumerate(mapped.row_blocks):
            readings = np.matmul(x[..., rows], made.weights[:, :, rows])
            if made.variance is not None:
                variance = made.variance[:, :, rows]
                readings += self._white(x[..., rows], variance, block, batch, Draw.WHITE)
            if made.by_sample is not None:
                variance = made.by_sample[:, :, rows]
                readings += self._kept(x[..., rows], variance, block, batch, samples)
            if self.together is not None:
                readings += self._errors_together(self.together[block], block, batch, x.shape[2])
            see(self.layer, readings)
            if self.layer.ramp is not None:
                return self._stepped(readings, self.layer.ramp)
            found = self.layer.converter.read(readings, self._errors(readings.shape, block, batch))
            if made.gain is not None:
                found *= made.gain[:, block, :, None]
            if total is None:
                total = found
            else:
                total += found
        assert total is not None
        if len(mapped.factors) == 1:
            return total
        parts = total.reshape(*total.shape[:3], -1, len(mapped.factors))
        whole: FloatArray = parts @ mapped.factors.astype(np.float64)
        return whole

    def _stepped(self, readings: FloatArray, ramp: Ramp) -> FloatArray:
        """Sums that have the codes which a layer's ramps give, in place."""
        assert self.thresholds is not None
        for place, chip in enumerate(self.thresholds):
            for tile, own in zip(self.layer.mapped.tiles, chip, strict=True):
                part = readings[place, tile.group][:, tile.readings]
                part[...] = read(ramp.steps, own, part)
        return readings

    def _white(
        self, x: FloatArray, variance: FloatArray, block: int, batch: int, draw: Draw
    ) -> FloatArray:
        """Noise of every product: the sum of independent normal errors of devices is normal."""
        sigma: FloatArray = np.sqrt(np.matmul(x * x, variance))
        for tile, streams in self._streams(draw, block, batch):
            part = sigma[:, tile.group, :, self._drawn(tile)]
            part *= normals(streams, part.shape[1:])
        return self._subtracted(sigma)

    def _errors_together(
        self, factors: FloatArray, block: int, batch: int, products: int
    ) -> FloatArray:
        draws = self._draws(batch)
        streams = [
            stream(draws.seed, chip, draws.layer, block, Draw.INPUT, batch) for chip in draws.chips
        ]
        return together.drawn(factors, products, streams)

    def _kept(
        self, x: FloatArray, variance: FloatArray, block: int, batch: int, samples: int
    ) -> FloatArray:
        """Noise of devices that is the same for all of a sample's products."""
        each = len(self.layer.drive.weights) * self.layer.mapped.product.positions
        if each == 1:
            return self._white(x, variance, block, batch, Draw.SAMPLE)
        passes, inputs, columns = len(self.layer.drive.weights), x.shape[-1], variance.shape[-1]
        shape = len(variance), x.shape[1], passes, samples, -1
        given = np.broadcast_to(x, (len(variance), *x.shape[1:])).reshape(*shape, inputs)
        found = np.empty((*given.shape[:-1], columns))
        for tile, streams in self._streams(Draw.SAMPLE, block, batch):
            for place, by in enumerate(streams):
                sigma = np.sqrt(variance[place, tile.group][:, self._drawn(tile)])
                many = max(1, DRAWN // sigma.size)
                for start in range(0, samples, many):
                    part = slice(start, min(start + many, samples))
                    errors = by.standard_normal((part.stop - start, *sigma.shape), dtype=np.float32)
                    moved = to_grid(errors * sigma, max(self.fraction - self.coded, 0))
                    own = found[place, tile.group][:, part, :, self._drawn(tile)]
                    own[...] = np.matmul(given[place, tile.group][:, part], moved)
        return self._subtracted(found.reshape(*found.shape[:2], -1, columns))

    def _drawn(self, tile: Tile) -> slice:
        """Which of a tile's columns or readings have errors of their own."""
        return tile.columns if self.layer.mapped.shares else tile.readings

    def _subtracted(self, errors: FloatArray) -> FloatArray:
        """Of readings, where errors are of columns that they share."""
        mapped = self.layer.mapped
        if not mapped.shares:
            return errors
        assert mapped.minus is not None
        difference: FloatArray = take(errors, mapped.plus) - take(errors, mapped.minus)
        return difference

    def _errors(self, shape: tuple[int, ...], block: int, batch: int) -> FloatArray | float:
        """Of the converters, in their steps."""
        converter = self.layer.converter
        scale = 0.0 if self.hardware is None else self.hardware.condition.noise
        noise = 0.0 if self.together is not None else converter.noise
        if not scale * (converter.offset + noise):
            return 0.0
        found = np.zeros(shape)
        if converter.offset:
            for tile, streams in self._streams(Draw.CONVERTER_OFFSET, block):
                part = found[:, tile.group, :, tile.readings]
                part += scale * converter.offset * normals(streams, (1, part.shape[2]))
        if noise:
            for tile, streams in self._streams(Draw.CONVERTER, block, batch):
                part = found[:, tile.group, :, tile.readings]
                part += scale * converter.drawn(streams, part.shape[1:])
        return found

    def _streams(
        self, draw: Draw, block: int, batch: int = 0
    ) -> Iterator[tuple[Tile, list[np.random.Generator]]]:
        """For each tile of a row block, its stream of each chip."""
        mapped, draws = self.layer.mapped, self._draws(batch)
        for number, tile in enumerate(mapped.tiles):
            if tile.rows == mapped.row_blocks[block]:
                key = (draws.layer, number, draw, batch)
                yield tile, [stream(draws.seed, chip, *key) for chip in draws.chips]


def held(mapped: Mapped) -> FloatArray:
    """What the readings multiply by where devices hold just what they shall."""
    plus = take(mapped.levels, mapped.plus)
    difference = plus if mapped.minus is None else plus - take(mapped.levels, mapped.minus)
    return difference * mapped.unit[:, None]


def _values(graph: Graph) -> tuple[Value, ...]:
    return (graph.input, *(node.output for node in graph.nodes))


def _last_reads(graph: Graph) -> dict[str, list[str]]:
    """By node: the values that no later node reads."""
    last = {name: node.name for node in graph.nodes for name in node.inputs}
    found: dict[str, list[str]] = {node.name: [] for node in graph.nodes}
    for value, node in last.items():
        found[node].append(value)
    return found
