"""Energy and time of one inference, term by term, each by its formula and the device's numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod

import numpy as np

from flow.graph import Graph
from flow.interp import Interpreter
from flow.metric import Metric
from flow.ops import IntArray, Requant
from targets.analog.amounts import Amount
from targets.analog.build import coverage
from targets.analog.device import Conversion, Device, Digital, Light, Read
from targets.analog.engine import Layer
from targets.analog.files import to_values
from targets.analog.steps import chain_of

SAMPLES = 64  # whose codes tell what arrays are driven with
NONE = Amount(0.0, 0.0, 0.0)


def activity(
    graph: Graph, layers: Sequence[Layer], device: Device, samples: IntArray
) -> dict[str, float]:
    """Of each layer, in microsiemens: the conductances of all its devices, each times the pulse
    that it gets, as a share of the longest one, added over the reads of an inference; the mean over
    some input codes (n, *input shape)."""
    found = dict.fromkeys((layer.mapped.name for layer in layers), 0.0)
    interpreter, part = Interpreter(graph), samples[:SAMPLES]
    held = [to_values(layer.mapped.levels, device).sum(axis=2) for layer in layers]
    for sample in range(len(part)):
        values = interpreter.trace(part[sample : sample + 1])
        for layer, conductances in zip(layers, held, strict=True):
            mapped, node = layer.mapped, layer.mapped.product.node
            pulses = layer.drive.applied(mapped.product.vectors(values[node.inputs[0]])[0])
            given = np.abs(pulses).sum(axis=1) / layer.most
            found[mapped.name] += float((given * conductances).sum()) / len(part)
    return found


def costs(
    graph: Graph, layers: Sequence[Layer], device: Device, active: Mapping[str, float]
) -> list[Metric]:
    """Every term that the device has numbers for, and their sums; layers, positions and passes are
    one after another, tiles of a layer side by side."""
    energies = list(_energies(graph, layers, device, active))
    found = [amount.metric(name, "pJ", source) for name, amount, source in energies]
    if energies:
        names = ", ".join(name.removesuffix(" energy") for name, _, _ in energies)
        left = "" if device.nl_adc is None else "; of nonlinear ramps none is known"
        total = sum((amount for _, amount, _ in energies), NONE)
        found.append(total.metric("energy", "pJ", f"sum of {names}{left}; memory is not in it"))
    return [*found, *_latency(layers, device)]


def reads(layer: Layer) -> int:
    """How often a layer's arrays are read for one inference, all at once."""
    return layer.mapped.product.positions * len(layer.drive.weights)


def conversions(layer: Layer) -> int:
    """How often an ADC or a ramp's comparator converts for one inference."""
    return layer.mapped.unit.size * len(layer.mapped.row_blocks) * reads(layer)


def computed(graph: Graph, layer: Layer) -> tuple[str, ...]:
    """The nodes that a layer's nonlinear ramp is."""
    chain = () if layer.ramp is None else chain_of(graph, layer.mapped.product.node)
    return tuple(node.name for node in chain)


def _lines(layer: Layer) -> int:
    """Inputs of all tiles, times reads: how often one is driven."""
    groups, inputs, _ = layer.mapped.levels.shape
    return groups * inputs * len(layer.mapped.column_blocks) * reads(layer)


Term = tuple[str, Amount, str]


def _energies(
    graph: Graph, layers: Sequence[Layer], device: Device, active: Mapping[str, float]
) -> Iterator[Term]:
    if device.read is not None and active:
        yield _array(device.read, sum(active[layer.mapped.name] for layer in layers))
    if device.drive is not None:
        count, each = sum(map(_lines, layers)), Amount.of(device.drive.pj)
        source = f"{count:,} lines driven, each pJ {_told(device.drive.pj)}: {device.drive.source}"
        yield "DAC energy", each * float(count), source
    if device.adc is not None and device.conversion is not None:
        plain = [layer for layer in layers if layer.ramp is None]
        yield _adc(device.conversion, device.adc.bits, sum(map(conversions, plain)))
    if device.light is not None:
        yield from _light(device.light, layers)
    if device.digital is not None:
        yield from _digital(graph, layers, device.digital)


def _digital(graph: Graph, layers: Sequence[Layer], law: Digital) -> Iterator[Term]:
    """Terms of which there is nothing to do are left out."""
    add, multiply = Amount.of(law.add_pj), Amount.of(law.multiply_pj)
    adding = f"pJ an addition {_told(law.add_pj)}"
    both = f"a product and an addition each, {adding}, a product {_told(law.multiply_pj)}"
    analog = {name for layer in layers for name in computed(graph, layer)}
    rounded = sum(
        prod(node.output.shape)
        for node in graph.nodes
        if isinstance(node.op, Requant) and node.name not in analog
    )
    adds = sum(conversions(layer) for layer in layers if layer.ramp is None)
    kept = coverage(graph, {layer.number: layer.mapped for layer in layers}).digital
    for name, each, count, what in (
        ("accumulation energy", add, adds, f"conversions added up, {adding}"),
        ("requantization energy", multiply + add, rounded, f"values, {both}"),
        ("digital layers' energy", multiply + add, kept, f"weights' products, {both}"),
    ):
        if count:
            yield name, each * float(count), f"{count:,} {what}: {law.source}"


def _array(law: Read, siemens: float) -> Term:
    volts, pulse = Amount.of(law.volts), Amount.of(law.pulse_ns)
    told = f"V {_told(law.volts)}, ns {_told(law.pulse_ns)} at the largest code"
    source = (
        f"V^2 * pulse * {siemens:,.0f} uS, conductances times pulses' shares, mean of training "
        f"samples; {told}: {law.source}"
    )
    return "array energy", volts * volts * pulse * (siemens * 1e-3), source


def _adc(law: Conversion, bits: int, count: int) -> Term:
    each = Amount.of(sorted(1e12 * joules for joules in law.joules(bits)))
    shown = _told(law.fom_db)
    told = f"{count:,} conversions of {bits} bits at {shown} dB"
    return "ADC energy", each * float(count), f"ADCs alone, {told}: {law.source}"


def _light(law: Light, layers: Sequence[Layer]) -> Iterator[Term]:
    lines, sums = sum(map(_lines, layers)), sum(map(conversions, layers))
    weights = sum(layer.mapped.levels.size * reads(layer) for layer in layers)
    cycle = Amount.of(law.cycle_ns)
    for name, each, count, what in (
        ("DAC energy", law.dac_pj, lines, "inputs set"),
        ("detector energy", law.tia_pj, sums, "sums amplified"),
    ):
        source = f"{count:,} {what}, each pJ {_told(each)}: {law.source}"
        yield name, Amount.of(each) * float(count), source
    for name, each, count, what in (
        ("modulator energy", law.modulator_mw, lines, "modulators"),
        ("laser energy", law.laser_mw, lines, "lasers, one an input"),
        ("ring energy", law.ring_mw, 2 * weights, "rings, two a weight"),
    ):
        told = f"mW {_told(each)} for ns {_told(law.cycle_ns)}"
        source = f"{count:,} {what}, {told}, each: {law.source}"
        yield name, Amount.of(each) * cycle * float(count), source


def _latency(layers: Sequence[Layer], device: Device) -> Iterator[Metric]:
    total, light = NONE, device.light
    if light is not None:
        count = sum(map(reads, layers))
        source = f"{count:,} products, ns {_told(light.cycle_ns)} each: {light.source}"
        yield (Amount.of(light.cycle_ns) * float(count)).metric("latency", "ns", source)
        return
    if device.read is None:
        return
    told = [f"{sum(map(reads, layers)):,} reads, ns {_told(device.read.pulse_ns)} each"]
    cycles = {"ADCs": (0, 0.0), "ramps": (0, 0.0)}
    for layer in layers:
        total += Amount.of(device.read.pulse_ns) * float(reads(layer))
        if layer.ramp is not None and device.nl_adc is not None:
            name, each = "ramps", 1 << layer.ramp.steps.bits
            clock = device.nl_adc.clock_mhz
        elif device.adc is not None and device.conversion is not None:
            name, each = "ADCs", device.adc.kind.cycles(device.adc.bits)
            clock = device.conversion.clock_mhz
        else:
            return  # how long its conversion takes is not known
        count = reads(layer) * each
        cycles[name] = (cycles[name][0] + count, clock)
        spent = 1e3 * count / clock
        total += Amount(spent, spent, spent)
    told += [
        f"{count:,} cycles of {name} at {clock:g} MHz"
        for name, (count, clock) in cycles.items()
        if count
    ]
    source = f"one after another: {'; '.join(told)}: {device.read.source}; digital parts not in it"
    yield total.metric("latency", "ns", source)


def _told(known: Sequence[float]) -> str:
    return " to ".join(f"{number:g}" for number in known)
