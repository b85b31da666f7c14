"""Energy and time of one inference: each term counted anew, from what the hardware does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from flow.graph import Graph
from flow.interp import Interpreter
from flow.metric import Kind, Metric
from flow.ops import Conv, Dense, IntArray, Requant
from flow.vectors import make_vectors
from targets.analog.amounts import Amount
from targets.analog.build import coverage, equip, map_graph
from targets.analog.costs import activity, costs
from targets.analog.device import Adc, Dac, DacKind, Device, device_text, read_device
from targets.analog.engine import Layer
from targets.analog.mapping import Arrays, Scheme
from tests.targets.analog_nets import conv_net, dense_net, layers_of
from tests.targets.test_analog_ramp import of_tables

PCM, RRAM, RRAM_NL, PHOTONIC = (
    read_device(name, device_text(name)) for name in ("pcm", "rram", "rram_nl", "photonic")
)


def by_name(metrics: list[Metric]) -> dict[str, Metric]:
    return {metric.name: metric for metric in metrics}


def told(
    graph: Graph, layers: tuple[Layer, ...], device: Device, active: float = 0.0
) -> dict[str, Metric]:
    names = [layer.mapped.name for layer in layers]
    return by_name(costs(graph, layers, device, dict.fromkeys(names, active) if active else {}))


def test_amounts_are_ranges_of_what_is_known() -> None:
    one, two, three = (Amount.of(known) for known in ([2.0], [1.0, 3.0], [1.0, 2.0, 6.0]))
    assert (one.low, one.value, one.high, one.coverage) == (2, 2, 2, None)
    assert (two.value, two.coverage, three.value, three.coverage) == (2, 1 / 3, 2, 1 / 2)
    assert two + three == Amount(4, 2, 9, 1 / 3)
    assert two * three == Amount(4, 1, 18, 1 / 3)
    assert three * 2.0 == Amount(4, 2, 12, 1 / 2)
    assert one.metric("a", "pJ", "b").kind is Kind.ASSUMED
    assert two.metric("a", "pJ", "b").kind is Kind.ESTIMATED


@pytest.mark.parametrize("scheme", [Scheme.DIFFERENTIAL, Scheme.OFFSET])
@pytest.mark.parametrize("serial", [False, True])
def test_activity_is_that_of_every_device(scheme: Scheme, serial: bool) -> None:
    """Read by read, pulse by pulse: of a convolution's windows, of codes' bits."""
    device = replace(PCM, dac=Dac(DacKind.BIT_SERIAL if serial else DacKind.PWM, 8, "test"))
    assert device.conductance is not None
    device = replace(device, conductance=replace(device.conductance, min_us=2.0))
    graph = conv_net()
    layers = layers_of(graph, device, Arrays(64, 30, scheme))
    codes = make_vectors(graph.input, None)[:3]
    found = activity(graph, layers, device, codes)
    values = Interpreter(graph).trace(codes)
    for layer in layers:
        product, sums = layer.mapped.product, 0.0
        bits = layer.drive.qtype.bits
        for vector in _windows(product.node.op, values[product.node.inputs[0]]):
            for group in range(layer.mapped.groups):
                held = 2.0 + 23.0 * layer.mapped.levels[group]
                for code, conductances in zip(vector[group], held, strict=True):
                    if serial:
                        share = float(bin(int(code) & ((1 << bits) - 1)).count("1"))
                    else:
                        share = abs(int(code)) / layer.most
                    sums += share * float(conductances.sum())
        assert found[layer.mapped.name] == pytest.approx(sums / 3, rel=1e-9)


def _windows(op: object, x: IntArray) -> list[list[IntArray]]:
    """Each sample's and position's vectors, by group."""
    if isinstance(op, Dense):
        return [[row] for row in x]
    assert isinstance(op, Conv)
    top, left, bottom, right = op.pads
    pads = ((0, 0), (0, 0), (top, bottom), (left, right))
    x = np.pad(x, pads, constant_values=op.pad_value)
    high, wide = op.weight.shape[2:]
    found = []
    for sample in x:
        for row in range(0, sample.shape[1] - high + 1, op.stride[0]):
            for column in range(0, sample.shape[2] - wide + 1, op.stride[1]):
                part = sample[:, row : row + high, column : column + wide]
                found.append([each.ravel() for each in np.split(part, op.groups)])
    return found


def test_terms_of_a_crossbar_are_their_counts_times_what_each_takes() -> None:
    """Two layers of 24 and 10 inputs, in tiles of 10 rows and 8 columns, 4 outputs each."""
    graph = dense_net()
    layers = layers_of(graph, PCM, Arrays(10, 8, Scheme.DIFFERENTIAL))
    found = told(graph, layers, PCM, 50.0)
    # 24 lines to 3 column blocks, 10 to 2; 10 outputs of 3 row blocks, 5 of 1.
    assert found["DAC energy"].value == pytest.approx((24 * 3 + 10 * 2) * 0.41667)
    assert found["DAC energy"].kind is Kind.ASSUMED
    conversions = 10 * 3 + 5
    sndr = 6.02 * 8 + 1.76
    ends = [conversions * 1e12 * 10 ** ((sndr - fom) / 10) / 2 for fom in (165.0, 162.8)]
    adc = found["ADC energy"]
    assert adc.interval is not None and adc.kind is Kind.ESTIMATED
    assert [adc.interval.low, adc.interval.high] == pytest.approx(ends)
    assert adc.interval.coverage == pytest.approx(1 / 3)
    assert found["array energy"].value == pytest.approx(0.2**2 * 250 * 100 * 1e-3)
    assert found["accumulation energy"].value == pytest.approx(conversions * (0.021 + 0.1) / 2)
    assert found["requantization energy"].value == pytest.approx(10 * (3.1 + (0.021 + 0.1) / 2))
    terms = [metric for name, metric in found.items() if name.endswith(" energy")]
    assert found["energy"].value == pytest.approx(sum(metric.value for metric in terms))
    whole = found["energy"].interval
    assert whole is not None and whole.coverage == pytest.approx(1 / 3)
    lows = [m.value if m.interval is None else m.interval.low for m in terms]
    assert whole.low == pytest.approx(sum(lows))
    # Two reads of 250 ns, and two conversions of 9 cycles of a nanosecond.
    assert found["latency"].value == pytest.approx(2 * 250 + 2 * 9)
    assert all(metric.source for metric in found.values())


def test_terms_are_of_positions_and_passes() -> None:
    graph = conv_net()
    layers = layers_of(graph, RRAM)
    found = told(graph, layers, RRAM)
    count = lines = reads = 0
    for layer in layers:
        node = layer.mapped.product.node
        positions = int(np.prod(node.output.shape[1:]))
        passes = layer.drive.qtype.bits
        reads += positions * passes
        count += int(np.prod(node.output.shape)) * passes
        lines += layer.mapped.levels.shape[0] * layer.mapped.levels.shape[1] * positions * passes
    assert found["DAC energy"].value == pytest.approx(lines * 0.41667)
    assert found["accumulation energy"].value == pytest.approx(count * (0.021 + 0.1) / 2)
    assert found["latency"].value == pytest.approx(reads * (10 + 9))
    assert "array energy" not in found  # without samples it is not known what arrays get


def test_what_is_kept_digital_takes_products() -> None:
    graph = dense_net()
    mapped = map_graph(graph, Arrays(64, 64, Scheme.DIFFERENTIAL), ("n1",))
    found = told(graph, equip(mapped, PCM, {}), PCM)
    assert coverage(graph, mapped).digital == 240
    each = 3.1 + (0.021 + 0.1) / 2
    assert found["digital layers' energy"].value == pytest.approx(240 * each)


def test_ramps_take_their_cycles_and_no_known_energy() -> None:
    before = Requant((1,), (0,), dense_net().nodes[1].op.qtype, 0, 15)  # type: ignore[arg-type,attr-defined]
    graph = of_tables("dense", np.arange(16), before)
    layers = equip(map_graph(graph, Arrays(64, 64, Scheme.DIFFERENTIAL), (), True), RRAM_NL, {})
    assert layers[0].ramp is not None and layers[1].ramp is None
    found = told(graph, layers, RRAM_NL)
    assert "of nonlinear ramps none is known" in found["energy"].source
    assert "requantization energy" not in found  # the ramp is it
    assert found["accumulation energy"].value == pytest.approx(3 * (0.021 + 0.1) / 2)
    assert found["latency"].value == pytest.approx((10 + 16) + (10 + 9))
    unknown = replace(RRAM_NL, conversion=None)
    assert "latency" not in told(graph, layers, unknown)
    assert isinstance(RRAM_NL.adc, Adc)


def test_light_takes_power_for_a_cycle() -> None:
    graph = dense_net()
    layers = layers_of(graph, PHOTONIC, Arrays(10, 4, Scheme.SIGNED))
    found = told(graph, layers, PHOTONIC)
    lines, weights = 24 * 3 + 10 * 2, 240 + 50
    for name, value, low, high in (
        ("DAC energy", lines * 2.6, lines * 0.325, lines * 5.2),
        ("detector energy", 35 * 0.3, 35 * 0.0375, 35 * 0.6),
        ("modulator energy", lines * 1.41 * 0.1625, lines * 0.565 * 0.125, lines * 11.3 * 0.2),
        (
            "ring energy",
            2 * weights * 0.388 * 0.1625,
            2 * weights * 0.155 * 0.125,
            2 * weights * 3.1 * 0.2,
        ),
    ):
        metric = found[name]
        assert metric.interval is not None
        ends = metric.value, metric.interval.low, metric.interval.high
        assert ends == pytest.approx((value, low, high)), name
    assert found["latency"].value == pytest.approx(2 * 0.1625)


def test_a_device_without_numbers_tells_nothing() -> None:
    ideal = read_device("ideal", device_text("ideal"))
    graph = dense_net()
    assert told(graph, layers_of(graph, ideal), ideal) == {}
