"""What is known of a layout before any noise: counts, coverage, and what converters lose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from flow.graph import Graph
from flow.metric import Kind, Metric
from flow.target import LayerNote
from targets.analog.build import calibrated, coverage, lossless
from targets.analog.costs import computed, conversions, costs, reads
from targets.analog.device import Device, Optical
from targets.analog.engine import Layer

COUNTED = "counted in the mapping"


def metrics(
    graph: Graph, layers: tuple[Layer, ...], device: Device, active: Mapping[str, float]
) -> list[Metric]:
    """Of the whole network; `active` is `activity`, nothing where there were no samples."""
    done = coverage(graph, {layer.number: layer.mapped for layer in layers})
    tiles = sum(len(layer.mapped.tiles) for layer in layers)
    devices = sum(layer.mapped.levels.size for layer in layers)
    places = sum(
        len(layer.mapped.tiles) * layer.mapped.arrays.rows * layer.mapped.arrays.columns
        for layer in layers
    )
    share = f"{done.analog:,} of {done.total:,} multiply-accumulates"
    rows = (
        ("analog share", done.analog / max(done.total, 1), f"on arrays: {share}"),
        ("tiles", tiles, COUNTED),
        ("devices", devices, COUNTED),
        ("tile use", devices / max(places, 1), f"{devices:,} of {places:,} devices in the tiles"),
        ("conversions", sum(map(conversions, layers)), f"{COUNTED}, per inference"),
    )
    counted = [Metric(name, value, "1", Kind.MEASURED, source) for name, value, source in rows]
    return [*counted, *_cycles(layers, device), *costs(graph, layers, device, active)]


def _cycles(layers: tuple[Layer, ...], device: Device) -> list[Metric]:
    """Of the ADCs of one inference, layers and positions one after another."""
    adc = device.adc
    plain = tuple(layer for layer in layers if layer.ramp is None)
    found = []
    if adc is not None:
        each = adc.kind.cycles(adc.bits)
        count = sum(map(reads, plain))
        source = f"{count:,} reads one after another, {each} cycles each ({adc.kind.value})"
        found.append(Metric("conversion_cycles", count * each, "cycles", Kind.ASSUMED, source))
    if device.nl_adc is not None:
        cycles = sum(_ramp_cycles(layer) for layer in layers)
        source = "nonlinear ramps, one after another, 2^bits cycles each"
        found.append(Metric("ramp_cycles", cycles, "cycles", Kind.ASSUMED, source))
    return found


def _ramp_cycles(layer: Layer) -> int:
    """Of the layer's nonlinear ramps for one inference."""
    return 0 if layer.ramp is None else reads(layer) << layer.ramp.steps.bits


def notes(graph: Graph, layers: tuple[Layer, ...], device: Device) -> dict[str, LayerNote]:
    """Of single layers, and of tables that are converters."""
    found = {}
    for layer in layers:
        rows: list[tuple[str, float, str]] = [
            ("tiles", len(layer.mapped.tiles), COUNTED),
            ("tile use", layer.mapped.utilization, COUNTED),
        ]
        ramp, text = layer.ramp, ""
        if ramp is None:
            needed = lossless(layer.mapped, layer.drive).bits
            rows.append(("lossless ADC bits", needed, "derived from the weights, for any inputs"))
            if device.nl_adc is not None:
                text = "digital, behind the ordinary ADC: no table alone reads its sums"
        else:
            told = f"{COUNTED}, of the nonlinear ramp of each tile"
            rows.append(("ramp steps", len(ramp.steps.cuts), told))
            rows.append(("ramp devices", ramp.devices, told))
            bias = len(layer.mapped.product.constants)
            rows.append(("bias rows", bias, f"{COUNTED}: the bias is added before the ramp"))
            text = f"nonlinear ramp ADC of {ramp.steps.bits} bits"
        shown = tuple(Metric(name, n, "1", Kind.MEASURED, source) for name, n, source in rows)
        found[layer.mapped.name] = LayerNote(requant=text, metrics=shown)
    return found


def warnings(
    graph: Graph, layers: tuple[Layer, ...], device: Device, reach: Mapping[str, float]
) -> list[str]:
    """What the proof leaves out, what stays digital, and what converters lose."""
    mapped = {layer.mapped.name for layer in layers}
    ramps = {name for layer in layers for name in computed(graph, layer)}
    kept = Counter(node.op.name for node in graph.nodes if node.name not in mapped | ramps)
    done = coverage(graph, {layer.number: layer.mapped for layer in layers})
    found = [
        "the reference is matched by arrays without noise, read by converters that lose nothing; "
        "make check tells the accuracy with both",
        "digital: " + (", ".join(f"{count} {op}" for op, count in sorted(kept.items())) or "none"),
    ]
    if done.digital:
        found.append(
            f"digital_layers keeps {done.digital:,} of {done.total:,} multiply-accumulates off "
            f"the arrays"
        )
    if device.nl_adc is not None:
        found += _ramps(layers)
    if calibrated(device) and not reach:
        found.append(
            "there are no training samples to calibrate converters with: their range is all that "
            "the weights can make"
        )
    for layer in layers:
        found += _losses(layer, device)
    return found


def _ramps(layers: tuple[Layer, ...]) -> list[str]:
    """Which layers nonlinear ramps read, and which ordinary ADCs."""
    read, others = (
        [layer.mapped.name for layer in layers if (layer.ramp is not None) is ramp]
        for ramp in (True, False)
    )
    found = []
    if read:
        found.append(f"nonlinear ramps are the tables behind {', '.join(read)}")
    if others:
        found.append(
            f"no table alone reads the sums of {', '.join(others)}: read by their ordinary ADCs"
        )
    return found


def _losses(layer: Layer, device: Device) -> list[str]:
    """What the layer's converters lose even without noise."""
    name, drive, converter = layer.mapped.name, layer.drive, layer.converter
    needed = lossless(layer.mapped, drive).bits
    found = []
    if drive.dropped:
        held = drive.qtype.bits - drive.dropped
        found.append(
            f"layer {name}: its DACs of {held} bits are too narrow for codes of "
            f"{drive.qtype.bits}, whose lowest {drive.dropped} are lost"
        )
    if layer.ramp is None and device.adc is not None and device.adc.bits < needed:
        found.append(
            f"layer {name}: its ADCs of {device.adc.bits} bits are too narrow to lose nothing, "
            f"which takes {needed}: sums are read in steps of {converter.step:.4g}, "
            f"{_end(converter.low, converter.step)} to {_end(converter.high, converter.step)}"
        )
    most = int(layer.most)
    found += _steps(name, "inputs", most, device.input)
    found += _steps(name, "weights", int(layer.mapped.unit.max()), device.weight)
    return found


def _end(code: int | None, step: float) -> str:
    return "any" if code is None else f"{code * step:.4g}"


def _steps(name: str, what: str, most: int, law: Optical | None) -> list[str]:
    if law is None or law.precision % most == 0:
        return []
    return [
        f"layer {name}: its {what} of up to {most} are rounded to {law.precision} optical steps, "
        f"which do not hold them all"
    ]
