"""A graph laid out on a device: which nodes are on tiles, and what drives and reads these."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from flow.errors import Offence
from flow.graph import Graph, Node
from flow.ops import IntArray
from flow.qtype import QType
from targets.analog.converters import Converter, Drive
from targets.analog.device import Device, Kind, Range
from targets.analog.engine import Engine, Layer
from targets.analog.mapping import Arrays, FloatArray, Mapped, mapped, trouble
from targets.analog.products import DIGITAL, PRODUCTS, Product
from targets.analog.ramp import Ramp
from targets.analog.steps import StepFunction, chain_of, steps_of

MEMORY = 256 << 20  # bytes that samples may take at a time


@dataclass(frozen=True)
class Coverage:
    """Multiply-accumulates of one inference: on arrays, of layers that were asked to stay digital,
    and of all."""

    analog: int
    digital: int
    total: int


def offences(
    graph: Graph, arrays: Arrays, digital: Collection[str], ramps: bool = False
) -> list[Offence]:
    """Every node that is neither a product that can be mapped, nor digital; with `ramps` also those
    whose table no nonlinear ramp can be."""
    found = []
    for node in graph.nodes:
        if isinstance(node.op, PRODUCTS) and node.name not in digital:
            wrong = trouble(Product.of(graph, node), arrays)
            if wrong is None and ramps:
                wrong = _ramp_trouble(graph, node, arrays)
            found += [] if wrong is None else [wrong]
        elif not isinstance(node.op, (*PRODUCTS, *DIGITAL)):
            reason = f"the operation {node.op.name} has no meaning here, analog or digital"
            found.append(Offence(node.name, reason, "leave it out, or use another target"))
    return found


def _ramp_trouble(graph: Graph, node: Node, arrays: Arrays) -> Offence | None:
    if not (chain := chain_of(graph, node)):
        return None
    steps = steps_of(graph, node, chain)
    if isinstance(steps, Offence):
        return steps
    product = Product.of(graph, node).stepped(steps)
    _, inputs, _ = product.weights.shape
    if inputs > arrays.rows:
        more = len(product.constants)
        return Offence(
            node.name,
            f"its {inputs} rows, {more} of them of the bias, are more than a tile's {arrays.rows}: "
            f"a nonlinear ramp cannot read sums that are added up digitally",
            f"use larger tiles, by rows={inputs}, or digital_layers={node.name}",
        )
    return trouble(product, arrays)


def products(graph: Graph) -> tuple[str, ...]:
    """The nodes that arrays can take."""
    return tuple(node.name for node in graph.nodes if isinstance(node.op, PRODUCTS))


def map_graph(
    graph: Graph, arrays: Arrays, digital: Collection[str], ramps: bool = False
) -> dict[int, Mapped]:
    """The mapped layers by their node's number; with `ramps`, those whose sums only a table reads
    are for a nonlinear ramp. There must be no `offences`."""
    return {
        number: mapped(_product(graph, node, ramps), arrays)
        for number, node in enumerate(graph.nodes)
        if isinstance(node.op, PRODUCTS) and node.name not in digital
    }


def _product(graph: Graph, node: Node, ramps: bool) -> Product:
    product = Product.of(graph, node)
    if not ramps or not (chain := chain_of(graph, node)):
        return product
    steps = steps_of(graph, node, chain)
    assert isinstance(steps, StepFunction)
    return product.stepped(steps)


def coverage(graph: Graph, layers: Mapping[int, Mapped]) -> Coverage:
    """How much of the work is on arrays."""
    macs = [node.op.macs(*graph.shapes(node)) for node in graph.nodes]
    analog = sum(macs[number] for number in layers)
    named = sum(
        macs[number]
        for number, node in enumerate(graph.nodes)
        if isinstance(node.op, PRODUCTS) and number not in layers
    )
    return Coverage(analog, named, sum(macs))


def lossless(layer: Mapped, drive: Drive) -> QType:
    """The fewest bits of an ADC that loses nothing of the layer's readings."""
    least, most = readings(layer, drive)
    return QType.covering(min(least, 0), max(most, 0))


def readings(layer: Mapped, drive: Drive) -> tuple[int, int]:
    """The least and the most that a reading can be without noise."""
    least, most = layer.sums(*drive.bounds(layer))
    return int(least.min()), int(most.max())


def equip(
    layers: Mapping[int, Mapped], device: Device, reach: Mapping[str, float]
) -> tuple[Layer, ...]:
    """The layers with the device's converters; `reach` are the largest magnitudes of readings, by
    node, where ranges are calibrated."""
    return tuple(_equipped(number, layer, device, reach) for number, layer in layers.items())


def laid_out(
    graph: Graph,
    arrays: Arrays,
    digital: Collection[str],
    device: Device,
    samples: Callable[[], IntArray | None],
) -> tuple[tuple[Layer, ...], dict[str, float]]:
    """The graph's layers with the device's converters, and the readings' reach where ranges are
    calibrated with `samples`. There must be no `offences`."""
    layers = map_graph(graph, arrays, digital, device.nl_adc is not None)
    codes = samples() if calibrated(device) else None
    reach = {} if codes is None else reaches(graph, equip(layers, device, {}), codes)
    return equip(layers, device, reach), reach


def _equipped(number: int, layer: Mapped, device: Device, reach: Mapping[str, float]) -> Layer:
    drive = Drive.of(layer, device.dac)
    if layer.product.steps is not None:
        return Layer(layer, number, drive, Converter(), Ramp(layer.product.steps))
    seen = reach.get(layer.name)
    if device.kind is Kind.PHOTONIC:
        ends = readings(layer, drive)
        return Layer(layer, number, drive, Converter.of_detector(*ends, device.detector, seen))
    return Layer(layer, number, drive, Converter.of(lossless(layer, drive), device.adc, seen))


def calibrated(device: Device) -> bool:
    """Whether a range is set by samples."""
    parts = (device.adc, device.detector)
    return any(part is not None and part.range is Range.CALIBRATED for part in parts)


def reaches(graph: Graph, layers: Sequence[Layer], samples: IntArray) -> dict[str, float]:
    """The largest magnitude of each layer's readings, without noise, over input codes."""
    found = {layer.mapped.name: 0.0 for layer in layers}

    def see(layer: Layer, values: FloatArray) -> None:
        name = layer.mapped.name
        found[name] = max(found[name], float(np.abs(values).max(initial=0.0)))

    engine = Engine(graph, [layer.exact for layer in layers], None)
    run_all(engine, samples, lambda part: engine.follow(part, [0], 0, lambda _: False, see))
    return found


def run_all(engine: Engine, codes: IntArray, run: Callable[[IntArray], object]) -> None:
    """Call `run` with samples by as many as fit the memory."""
    size = max(1, min(engine.batch, MEMORY // engine.sample_bytes))
    for start in range(0, len(codes), size):
        run(codes[start : start + size])
