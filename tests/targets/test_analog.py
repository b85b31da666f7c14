"""Graphs on analog arrays without noise: exact for every way of laying them out, and only then."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow.artifact import read_manifest
from flow.driver import compile_model, prove, run_artifact
from flow.errors import FlowError, Mismatch, Unsupported, UsageError
from flow.graph import Graph
from flow.interp import Interpreter
from flow.ops import Dense, IntArray
from flow.plan import Events, Request
from flow.qtype import QType
from flow.vectors import corners, make_vectors
from targets.analog.build import equip, lossless, reaches
from targets.analog.converters import Converter, Drive
from targets.analog.device import (
    Adc,
    AdcKind,
    Dac,
    DacKind,
    Device,
    Range,
    device_text,
    read_device,
)
from targets.analog.engine import Engine, Hardware, Layer
from targets.analog.files import ARRAYS
from targets.analog.mapping import Arrays, Mapped, Scheme
from targets.analog.programmed import Condition
from targets.analog.simulation import AnalogSimulation
from targets.analog.target import Analog
from tests.network.nets import Net
from tests.network.unknown_op import Unknown
from tests.targets.analog_nets import (
    IDEAL,
    codes_of,
    conv_net,
    dense_net,
    graph_of,
    ints,
    layers_of,
    matrix_layer,
)

PHOTONIC = read_device("photonic", device_text("photonic"))
SERIAL = Dac(DacKind.BIT_SERIAL, 1, "test")


def leaky(device: Device) -> Device:
    """Whose devices do not reach 0."""
    assert device.conductance is not None
    return replace(device, conductance=replace(device.conductance, min_us=7.3, max_us=25.1))


@st.composite
def layouts(draw: st.DrawFn) -> tuple[Device, Arrays]:
    rows = draw(st.integers(1, 40))
    scheme = draw(st.sampled_from(Scheme))
    bits = draw(st.integers(1, 4))
    # A weight of 4 bits takes up to 3 slices, a pair of devices each.
    columns = draw(st.integers(8, 30))
    by_column = draw(st.booleans()) and scheme in (Scheme.DIFFERENTIAL, Scheme.SIGNED)
    device = PHOTONIC if scheme is Scheme.SIGNED else draw(st.sampled_from([IDEAL, leaky(IDEAL)]))
    if scheme is not Scheme.SIGNED and draw(st.booleans()):
        device = replace(device, dac=SERIAL)
    return device, Arrays(rows, columns, scheme, bits, by_column)


@given(layouts(), st.sampled_from([dense_net(), conv_net(), conv_net(2), conv_net(4)]))
@settings(max_examples=60, deadline=None)
def test_any_layout_is_the_interpreter(layout: tuple[Device, Arrays], graph: Graph) -> None:
    """Every value of every layer, at the corners of the input's range and at random codes."""
    codes = make_vectors(graph.input, None)[:25]
    found = AnalogSimulation(graph, layers_of(graph, *layout)).trace(codes)
    expected = Interpreter(graph).trace(codes)
    for node in graph.nodes:
        assert np.array_equal(found[node.output.name], expected[node.output.name]), node.name


@given(st.integers(0, 10_000), st.integers(1, 20), st.integers(2, 16), st.sampled_from(Scheme))
@settings(max_examples=40, deadline=None)
def test_levels_are_what_devices_can_hold(seed: int, rows: int, bits: int, scheme: Scheme) -> None:
    rng = np.random.default_rng(seed)
    weights = ints(rng, (6, 9), (1 << (bits - 1)) - 1)
    device = PHOTONIC if scheme is Scheme.SIGNED else IDEAL
    layer = matrix_layer(weights, 3, device, Arrays(rows, 64, scheme)).mapped
    least = -1 if scheme is Scheme.SIGNED else 0
    assert layer.levels.min() >= least and layer.levels.max() <= 1
    whole = layer.digits.reshape(9, 6, -1) @ layer.factors
    assert np.array_equal(whole.T, weights)


def test_tiles_cover_every_device_once() -> None:
    for arrays in (Arrays(5, 8, Scheme.DIFFERENTIAL), Arrays(7, 4, Scheme.OFFSET)):
        layer = layers_of(conv_net(2), IDEAL, arrays)[0].mapped
        seen = np.zeros(layer.levels.shape, dtype=int)
        for tile in layer.tiles:
            part = seen[tile.group, tile.rows, tile.columns]
            assert part.shape[0] <= arrays.rows and part.shape[1] <= arrays.columns
            part += 1
        assert (seen == 1).all()


def test_negative_swapped_pairs_flip_the_sign() -> None:
    layer = matrix_layer(ints(np.random.default_rng(0), (4, 6), 7), 3, IDEAL)
    mapped = layer.mapped
    swapped = replace(layer, mapped=replace(mapped, plus=mapped.minus, minus=mapped.plus))
    assert isinstance(mapped.plus, slice)
    graph = graph_of(QType(3, True, narrow=True), (6,), mapped.product.node.op)
    codes = make_vectors(graph.input, None)[:20]
    right = AnalogSimulation(graph, [layer]).run(codes)
    wrong = AnalogSimulation(graph, [swapped]).run(codes)
    assert right.any() and np.array_equal(right, -wrong)


# converters ------------------------------------------------------------------------------------


def _with_adc(layer: Layer, bits: int) -> Layer:
    adc = Adc(AdcKind.SAR, bits, Range.FULL, 0.0, 0.0, "test")
    return replace(layer, converter=Converter.of(lossless(layer.mapped, layer.drive), adc, None))


@given(st.integers(0, 10_000), st.integers(1, 30), st.booleans(), st.sampled_from(Scheme))
@settings(max_examples=40, deadline=None)
def test_the_lossless_width_is_enough_and_needed(
    seed: int, rows: int, serial: bool, scheme: Scheme
) -> None:
    """At the inputs that reach the largest sums, one bit less is seen, where steps are of full
    range; the width is what the largest sum itself needs."""
    rng = np.random.default_rng(seed)
    device = PHOTONIC if scheme is Scheme.SIGNED else IDEAL
    if serial and scheme is not Scheme.SIGNED:
        device = replace(device, dac=SERIAL)
    layer = matrix_layer(ints(rng, (5, 30), 7), 15, device, Arrays(rows, 64, scheme))
    graph = graph_of(codes_of(layer), (30,), layer.mapped.product.node.op)
    codes = np.concatenate([make_vectors(graph.input, None)[:50], _extremes(layer.mapped, graph)])
    width = lossless(layer.mapped, layer.drive).bits
    hardware = Hardware(device if scheme is not Scheme.SIGNED else IDEAL, Condition())

    def run(bits: int) -> IntArray:
        if scheme is Scheme.SIGNED:
            return Engine(graph, [_with_adc(layer, bits)], None).run(codes, [0])[0]
        return Engine(graph, [_with_adc(layer, bits)], hardware).run(codes, [0])[0]

    expected = Interpreter(graph).run(codes)
    assert np.array_equal(run(width), expected)
    if width > 1:
        assert not np.array_equal(run(width - 1), expected)


def _extremes(layer: Mapped, graph: Graph) -> IntArray:
    """Inputs at which each reading of a tile is largest and smallest."""
    low, high = graph.input.qtype.low, graph.input.qtype.high
    up = np.where(layer.digits[0].T > 0, high, low)
    return np.concatenate([up, np.where(up == high, low, high)]).astype(np.int64)


def test_ranges_are_calibrated_by_samples() -> None:
    """The highest code stands for the largest sum of a row block that samples reach."""
    graph = dense_net()
    samples = make_vectors(graph.input, None)[-40:]
    pcm = read_device("pcm", device_text("pcm"))
    assert pcm.adc is not None
    narrow = replace(pcm, adc=replace(pcm.adc, bits=5))
    arrays = Arrays(9, 64, Scheme.DIFFERENTIAL)
    layers = layers_of(graph, narrow, arrays)
    found = reaches(graph, layers, samples)
    op = graph.nodes[0].op
    assert isinstance(op, Dense)
    sums = [samples[:, a : a + 9] @ op.weight[:, a : a + 9].T for a in (0, 9, 18)]
    assert found["n1"] == max(np.abs(part).max() for part in sums)
    again = equip({layer.number: layer.mapped for layer in layers}, narrow, found)
    assert again[0].converter.step == found["n1"] / 15 < layers[0].converter.step
    assert (again[0].converter.low, again[0].converter.high) == (-16, 15)


@given(st.integers(1, 12), st.booleans(), st.integers(1, 12), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_what_is_applied_is_the_code(bits: int, signed: bool, dac: int, seed: int) -> None:
    qtype = QType(max(bits, 1 + signed), signed)
    codes = np.random.default_rng(seed).integers(qtype.low, qtype.high, (3, 5), endpoint=True)
    serial = Drive(qtype, serial=True)
    parts = serial.applied(codes).reshape(qtype.bits, 3, 5)
    assert set(np.unique(parts)) <= {0, 1}
    assert np.array_equal(np.tensordot(serial.weights, parts, 1), codes)
    narrow = Drive(qtype, dropped=max(qtype.bits - dac, 0))
    step = 1 << narrow.dropped
    applied = narrow.applied(codes)
    assert (applied % step == 0).all() and np.abs(applied - codes).max() <= step
    assert len(np.unique(applied)) <= 1 << max(dac, 1)


# what is refused -------------------------------------------------------------------------------


def test_an_op_without_a_meaning_is_refused() -> None:
    graph = graph_of(QType(4, True), (6,), Unknown(), dense_net(6).nodes[0].op)
    (offence,) = Analog(device="ideal").check(graph)
    assert offence.node == "n1" and "no meaning here, analog or digital" in offence.reason


def test_what_does_not_fit_a_tile_or_float64_is_refused() -> None:
    wide = graph_of(
        QType(40, True), (6,), Dense(np.full((2, 6), 99, np.int64), np.zeros(2, np.int64))
    )
    (offence,) = Analog(device="ideal").check(wide)
    assert "42 bits" in offence.reason and "digital_layers=n1" in offence.fix
    assert Analog(device="ideal", digital_layers="n1").check(wide) == []
    sliced = Analog(device="ideal", scheme=Scheme.BIT_SLICED, slice_bits=1, columns=5)
    found = sliced.check(dense_net())
    assert [offence.node for offence in found] == ["n1", "n3"]
    assert "6 devices of a row, the tiles have 5" in found[0].reason


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "pmc"}, "unknown device 'pmc' (did you mean 'pcm'?)"),
        ({"device": "nowhere/my.toml"}, "cannot be read"),
        ({"device": "photonic", "scheme": "offset"}, "device photonic does, leave it out"),
        ({"device": "photonic", "adc_bits": "6"}, "precision of its own"),
        ({"device": "ideal", "adc_bits": "6"}, "device ideal has none"),
        ({"scheme": "signed"}, "use differential, offset or bit_sliced"),
        ({"scheme": "offset", "by_column": "true"}, "all outputs share their levels"),
        ({"columns": "1"}, "columns must be at least 2, not 1"),
        ({"adc_bits": "33"}, "adc_bits must be from 0 to 32"),
        ({"digital_layers": "n1,n7"}, "unknown layer 'n7'"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        Analog().with_options(options).check(dense_net())
    assert message in str(raised.value)


# the flow --------------------------------------------------------------------------------------


def qonnx_file(folder: Path) -> Path:
    """Two layers: x of 8 bits, weights of 4, an activation of 4."""
    rng = np.random.default_rng(3)
    net = Net((12,))
    first = net.quant(net.constant(rng.integers(-7, 8, (6, 12)) * 0.25), 0.25, 4, name="w1")
    x = net.node("Gemm", [net.quant("x", 0.5, 8), first], "fc1", transB=1)
    x = net.quant(net.node("Relu", [x]), 8.0, 4, signed=False)
    second = net.quant(net.constant(rng.integers(-7, 8, (3, 6)) * 0.25), 0.25, 4, name="w2")
    return net.save(folder / "net.onnx", net.node("Gemm", [x, second], "fc2", transB=1))


def test_a_compile_proves_and_tells_what_is_where(tmp_path: Path) -> None:
    options = {"device": "pcm", "digital_layers": "fc2", "rows": "8"}
    request = Request(
        str(qonnx_file(tmp_path)), "analog", options, tmp_path / "out", tmp_path / "runs"
    )
    report = compile_model(request, Events())
    assert report.agreement.matches
    told = {metric.name: metric.value for metric in report.metrics}
    assert told["analog share"] == 72 / 90 and told["tiles"] == 2 and told["devices"] == 144
    # 6 outputs of 2 row blocks; SAR ADCs of 8 bits take 9 cycles, and 1.55 pJ at 165 dB.
    assert told["conversions"] == 12 and told["conversion_cycles"] == 9
    (energy,) = (metric for metric in report.metrics if metric.name == "ADC energy")
    assert energy.interval is not None
    assert energy.interval.low == pytest.approx(12 * 1.5525, rel=1e-3)
    notes = "\n".join(report.warnings)
    assert "digital: 1 dense, 1 requant" in notes and "digital_layers keeps 18 of 90" in notes
    assert "layer fc1: its ADCs of 8 bits are too narrow" in notes and "fc2: its" not in notes
    assert "no training samples to calibrate" in notes
    body = json.loads((tmp_path / "out" / "mapping.json").read_text())
    assert [row["name"] for row in body["layers"]] == ["fc1"]
    assert body["layers"][0]["row blocks"] == [[0, 8], [8, 12]]
    read_manifest(tmp_path / "out")


def test_what_the_artifact_holds_is_what_is_proven(tmp_path: Path) -> None:
    """A device that holds one level more or less is found, in its layer."""
    request = Request(str(qonnx_file(tmp_path)), "analog", {}, tmp_path / "out", tmp_path / "runs")
    compile_model(request, Events())
    graph = Graph.from_json((tmp_path / "out" / "graph.json").read_text())
    codes = corners(graph.input)
    expected = Interpreter(graph).run(codes)
    target = Analog()
    assert np.array_equal(
        prove(graph, target.simulation(graph, tmp_path / "out"), codes, expected), expected
    )
    with np.load(tmp_path / "out" / ARRAYS) as arrays:
        held = {name: arrays[name] for name in arrays.files}
    held["layer1"][0, 2, 1] += 25.0 / 7 * (1 if held["layer1"][0, 2, 1] < 12 else -1)
    np.savez(tmp_path / "out" / ARRAYS, **held)
    with pytest.raises(Mismatch, match="first difference: layer fc2"):
        prove(graph, target.simulation(graph, tmp_path / "out"), codes, expected)
    held["layer1"][0, 2, 1] = 40.0
    np.savez(tmp_path / "out" / ARRAYS, **held)
    with pytest.raises(FlowError, match="layer1 holds what its devices cannot"):
        target.simulation(graph, tmp_path / "out")


def test_an_artifact_needs_its_device_file_no_more(tmp_path: Path) -> None:
    """What was compiled runs anywhere; what the file holds is part of what made it."""
    path = tmp_path / "mine.toml"
    path.write_text(device_text("pcm"))
    options = {"device": str(path)}
    request = Request(str(qonnx_file(tmp_path)), "analog", options, None, tmp_path / "runs")
    folder = compile_model(request, Events()).artifact
    assert folder is not None and compile_model(request, Events()).up_to_date
    path.write_text(device_text("pcm").replace("rows = 512", "rows = 4"))
    other = compile_model(request, Events()).artifact
    assert other != folder
    path.unlink()
    np.save(tmp_path / "x.npy", np.ones((2, 12), np.float32))
    assert run_artifact(folder, tmp_path / "x.npy").report.agreement.matches
    with pytest.raises(UsageError, match="cannot be read"):
        compile_model(request, Events())


def test_every_offence_is_in_one_message(tmp_path: Path) -> None:
    options = {"scheme": "bit_sliced", "slice_bits": "1", "columns": "4"}
    request = Request(
        str(qonnx_file(tmp_path)), "analog", options, tmp_path / "out", tmp_path / "runs"
    )
    with pytest.raises(Unsupported) as raised:
        compile_model(request, Events())
    assert [offence.node for offence in raised.value.offences] == ["fc1", "fc2"]
    assert not (tmp_path / "out").exists()
