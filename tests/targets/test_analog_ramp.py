"""Nonlinear ramp ADCs: exact where their devices are, and wrong by what these err, added up."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from flow.driver import check_model, compile_model
from flow.errors import Offence, Unsupported, UsageError
from flow.graph import Graph
from flow.interp import Interpreter
from flow.metric import Kind
from flow.ops import Conv, Dense, IntArray, Op, Requant, Table
from flow.plan import Events, Request
from flow.qtype import QType
from flow.target import Trial
from flow.vectors import make_vectors
from targets.analog.build import equip, map_graph, offences
from targets.analog.chips import Question, ask
from targets.analog.device import Device, NlAdc, device_text, read_device
from targets.analog.engine import Engine, Hardware, Layer
from targets.analog.figures import notes, warnings
from targets.analog.mapping import Arrays, Scheme
from targets.analog.montecarlo import Wanted
from targets.analog.products import _bias_rows
from targets.analog.programmed import Condition
from targets.analog.ramp import Ramp, read
from targets.analog.simulation import AnalogSimulation
from targets.analog.steps import StepFunction, chain_of
from targets.analog.study import Bench, Study, answer
from targets.analog.target import Analog
from tests.network.nets import Net
from tests.targets.analog_nets import IDEAL, dense_net, graph_of, ints, requant

Floats = NDArray[np.float64]
LAW = NlAdc(0.0, 150.0, 2.67, 1000.0, "test")
EXACT = replace(LAW, sigma_us=0.0)
QUIET = replace(IDEAL, nl_adc=EXACT)
NOISY = read_device("rram_nl", device_text("rram_nl"))
TANH = np.tanh(np.linspace(-3, 3, 801))


def tables() -> st.SearchStrategy[IntArray]:
    """Monotone, rising or falling, with flat parts and jumps."""
    steps = st.lists(st.sampled_from([0, 0, 0, 1, 1, 2, 9]), max_size=60)
    rising = steps.map(lambda found: np.cumsum([-7, *found]).astype(np.int64))
    return st.tuples(rising, st.booleans()).map(lambda x: -x[0] if x[1] else x[0])


# step functions --------------------------------------------------------------------------------


@given(tables(), st.integers(-50, 50))
def test_step_functions_are_their_tables(values: IntArray, low: int) -> None:
    found = StepFunction.of(low, values)
    x = np.arange(low, low + len(values))
    at = np.searchsorted(found.cuts, x, side="right")
    assert np.array_equal(found.codes[at], values)
    assert np.array_equal(values[found.sums - low], found.codes)
    assert (np.diff(found.codes) != 0).all() and len(found.cuts) < 1 << found.bits
    assert found.bits == 1 or len(found.cuts) >= 1 << (found.bits - 1)


@given(tables(), st.integers(1, 6))
def test_rounded_functions_are_the_nearest_of_as_many_codes(values: IntArray, bits: int) -> None:
    whole = StepFunction.of(0, values)
    found = whole.rounded(bits)
    assert len(found.codes) <= 1 << bits and (np.diff(found.cuts) > 0).all()
    assert np.array_equal(values[found.sums], found.codes)
    if len(whole.codes) <= 1 << bits:
        assert found is whole
        return
    made = found.codes[np.searchsorted(found.cuts, np.arange(len(values)), side="right")]
    span, jump = abs(int(values[-1] - values[0])), int(np.abs(np.diff(values)).max())
    step = span / ((1 << bits) - 1)
    assert np.abs(made - values).max() <= step + jump
    assert abs(int(made[0] - values[0])) <= step / 2 and abs(int(made[-1] - values[-1])) <= step / 2


def test_tables_that_rise_and_fall_are_none() -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        StepFunction.of(0, np.array([0, 2, 1]))


@given(st.integers(0, 500), st.integers(1, 9), st.integers(-9, 9))
def test_bias_rows_are_the_bias(seed: int, most: int, widest: int) -> None:
    bias = ints(np.random.default_rng(seed), (7,), 300)
    codes, rows = _bias_rows(bias, most, widest or 1)
    assert np.array_equal(codes @ rows, bias)
    assert np.abs(rows).max(initial=0) <= most
    assert (codes * (1 if (widest or 1) > 0 else -1) > 0).all()
    assert np.abs(codes).max(initial=0) <= abs(widest or 1)


# exactness -------------------------------------------------------------------------------------


def of_tables(
    kind: str, table: IntArray, before: Requant | None = None, groups: int = 1, seed: int = 0
) -> Graph:
    """A layer, the table over its whole range, and a dense layer: what the table's entries are
    without `before` is stretched over the sums."""
    rng = np.random.default_rng(seed)
    first: Op
    if kind == "dense":
        shape: tuple[int, ...] = (9,)
        first = Dense(ints(rng, (6, 9), 3), ints(rng, (6,), 25))
    else:
        shape = (4, 4, 3)
        first = Conv(ints(rng, (4, 4 // groups, 2, 2), 3), ints(rng, (4,), 25), groups=groups)
    low, high = graph_of(QType(3, signed=True), shape, first).bounds["n1"]
    ends = int(low.min()), int(high.max())
    if before is None:
        at = np.linspace(0, len(table) - 1, ends[1] - ends[0] + 1).astype(np.int64)
        ops: list[Op] = [first, Table(table[at], ends[0])]
    else:
        ops = [first, before, Table(table, before.low)]
    last = len(first.weight)  # type: ignore[attr-defined]
    if kind == "dense":
        ops.append(Dense(ints(rng, (3, last), 3), ints(rng, (3,), 9)))
    return graph_of(QType(3, signed=True), shape, *ops)


def of_ramps(
    graph: Graph, device: Device = QUIET, arrays: Arrays | None = None
) -> tuple[Layer, ...]:
    arrays = arrays or Arrays(device.tile.rows, device.tile.columns, Scheme.DIFFERENTIAL)
    assert offences(graph, arrays, (), ramps=True) == []
    return equip(map_graph(graph, arrays, (), ramps=True), device, {})


def chips_of(graph: Graph, layers: tuple[Layer, ...], device: Device, codes: IntArray) -> IntArray:
    return Engine(graph, layers, Hardware(device, Condition(), 3)).run(codes, range(2))


@given(
    tables(),
    st.sampled_from([("dense", 1), ("conv", 1), ("conv", 2), ("conv", 4)]),
    st.sampled_from([Scheme.DIFFERENTIAL, Scheme.OFFSET]),
    st.integers(4, 30),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_exact_ramps_are_the_interpreter(
    table: IntArray, kind: tuple[str, int], scheme: Scheme, columns: int, by_column: bool
) -> None:
    """Any monotone table, in any layout; between an array and its table there are no values."""
    graph = of_tables(kind[0], table, groups=kind[1])
    by_column = by_column and scheme is Scheme.DIFFERENTIAL
    layers = of_ramps(graph, arrays=Arrays(64, columns, scheme, by_column=by_column))
    assert layers[0].ramp is not None and layers[0].mapped.product.steps is not None
    codes = make_vectors(graph.input, None)[:40]
    expected = Interpreter(graph).trace(codes)
    found = AnalogSimulation(graph, layers).trace(codes)
    assert "n1" not in found and {"n2", graph.output.name} <= set(found)
    for name, values in found.items():
        assert np.array_equal(values, expected[name]), name
    chips = chips_of(graph, layers, QUIET, codes)
    assert all(np.array_equal(chip, expected[graph.output.name]) for chip in chips)


@given(
    st.integers(-9, 9).filter(bool),
    st.integers(2, 9),
    st.integers(-40, 40),
    st.integers(3, 6),
    st.sampled_from(["dense", "conv"]),
)
@settings(max_examples=60, deadline=None)
def test_a_requantization_before_the_table_is_part_of_the_ramp(
    over: int, under: int, offset: int, bits: int, kind: str
) -> None:
    """Of any sign, also where it leaves out codes."""
    qtype = QType(bits, signed=True)
    scale, shift = (Fraction(over, under),), (Fraction(offset, under),)
    before = Requant(scale, shift, qtype, qtype.low, qtype.high)
    entries = np.rint(20 * np.tanh(np.arange(qtype.low, qtype.high + 1) / 3)).astype(np.int64)
    graph = of_tables(kind, entries, before)
    codes = make_vectors(graph.input, None)[:40]
    layers = of_ramps(graph)
    assert layers[0].ramp is not None
    found = AnalogSimulation(graph, layers).trace(codes)
    assert {"n1", "n2"}.isdisjoint(found)
    expected = Interpreter(graph).trace(codes)
    assert np.array_equal(found["n3"], expected["n3"])
    assert np.array_equal(chips_of(graph, layers, QUIET, codes)[1], expected[graph.output.name])


def test_negative_a_threshold_off_is_seen() -> None:
    graph = of_tables("dense", np.rint(7 * TANH).astype(np.int64))
    codes = make_vectors(graph.input, None)
    layers = of_ramps(graph)
    right = AnalogSimulation(graph, layers).run(codes)
    ramp = layers[0].ramp
    assert ramp is not None and np.array_equal(right, Interpreter(graph).run(codes))
    moved = ramp.steps.cuts.copy()
    moved[len(moved) // 2] += 1
    wrong = replace(layers[0], ramp=Ramp(replace(ramp.steps, cuts=moved)))
    assert not np.array_equal(AnalogSimulation(graph, (wrong, *layers[1:])).run(codes), right)


def test_only_what_a_table_alone_reads_has_a_ramp() -> None:
    """A layer before a ReLU's requantization, and the last one, keep their ordinary ADCs."""
    graph = dense_net()
    assert all(layer.ramp is None for layer in of_ramps(graph, replace(NOISY, nl_adc=EXACT)))
    assert chain_of(graph, graph.nodes[0]) == ()
    both = of_tables("dense", np.arange(20))
    layers = of_ramps(both, NOISY)
    assert [layer.ramp is None for layer in layers] == [False, True]
    told = notes(both, layers, NOISY)
    assert told["n1"].requant == "nonlinear ramp ADC of 5 bits"
    assert told["n3"].requant.startswith("digital, behind the ordinary ADC")
    rows = {metric.name: metric.value for metric in told["n1"].metrics}
    product = layers[0].mapped.product
    assert rows["ramp steps"] == 19 and rows["bias rows"] == len(product.constants) > 0
    texts = "\n".join(warnings(both, layers, NOISY, {}))
    assert "nonlinear ramps are the tables behind n1" in texts and "digital: none" in texts
    assert "no table alone reads the sums of n3: read by their ordinary ADCs" in texts


# what devices make of ramps ----------------------------------------------------------------------

CHIPS = 2000


def ramp_of(bits: int) -> Ramp:
    """Of tanh, of sums that are far finer than its codes."""
    most = (1 << (bits - 1)) - 1
    values = np.rint(most * np.tanh(np.arange(-4000, 4001) / 1000)).astype(np.int64)
    return Ramp(StepFunction.of(-4000, values))


def drawn(ramp: Ramp, law: NlAdc = LAW, noise: float = 1.0, calibrated: bool = False) -> Floats:
    """Thresholds (chips, k)."""
    rng = np.random.default_rng(0)
    return np.array([ramp.drawn(law, noise, calibrated, rng) for _ in range(CHIPS)])


def clamped(mean: Floats, sigma: float) -> tuple[Floats, Floats]:
    """Mean and variance of max(0, N(mean, sigma^2))."""
    a = mean / sigma
    cdf, pdf = stats.norm.cdf(a), stats.norm.pdf(a)
    first = mean * cdf + sigma * pdf
    return first, (mean**2 + sigma**2) * cdf + mean * sigma * pdf - first**2


@pytest.mark.parametrize("bits", [3, 5, 8])
@pytest.mark.parametrize("calibrated", [False, True])
def test_errors_of_steps_add_up(bits: int, calibrated: bool) -> None:
    """Mean and variance of every threshold, by the moments of clamped devices: of all from the
    start on, or of those between it and the calibrated one."""
    ramp = ramp_of(bits)
    ideal = ramp.ideal
    steps = np.diff(ideal)
    unit = steps.max() / 150
    mean, variance = (
        part * scale
        for part, scale in zip(clamped(steps / unit, 2.67), (unit, unit**2), strict=True)
    )
    starters = math.ceil(abs(ideal[0]) / steps.max())
    begin, spread = clamped(np.full(starters, abs(ideal[0]) / unit / starters), 2.67)
    at = np.concatenate([[0.0], np.cumsum(mean)]) - begin.sum() * unit
    var = np.concatenate([[0.0], np.cumsum(variance)]) + spread.sum() * unit**2
    if calibrated:
        middle = len(ideal) // 2
        at += ideal[middle] - at[middle]
        var = np.abs(var - var[middle])
    found = drawn(ramp, calibrated=calibrated)
    some = var > 0
    z = (found.mean(axis=0) - at)[some] / np.sqrt(var[some] / CHIPS)
    ratio = found.var(axis=0, ddof=1)[some] / var[some]
    # Thresholds of one ramp are not independent: all are near, and the farthest is.
    assert np.abs(z).max() < 4.5
    assert np.abs(ratio - 1).max() < 4.5 * math.sqrt(2 / CHIPS)
    if calibrated:
        assert np.array_equal(found[:, middle], np.full(CHIPS, ideal[middle]))


def test_noise_is_a_multiple_of_the_error_and_calibration_lessens_it() -> None:
    ramp = ramp_of(4)
    assert np.allclose(drawn(ramp, EXACT)[0], ramp.ideal, atol=1e-9)
    assert np.allclose(drawn(ramp, noise=0.0)[0], ramp.ideal, atol=1e-9)
    twice, double = drawn(ramp, noise=2.0), drawn(ramp, replace(LAW, sigma_us=5.34))
    assert np.array_equal(twice, double)
    plain, calibrated = (
        np.abs(drawn(ramp, calibrated=each) - ramp.ideal).mean() for each in (False, True)
    )
    assert calibrated < 0.7 * plain
    # A device that cannot go below min_us makes no step smaller than nothing.
    far = drawn(ramp, replace(LAW, min_us=100.0, sigma_us=60.0))
    assert (np.diff(far, axis=1) >= 0).all()


def test_nonlinearity_is_that_of_what_is_read() -> None:
    """INL and DNL by sweeping the input finely, and counting."""
    ramp = ramp_of(4)
    own = ramp.drawn(LAW, 6.0, True, np.random.default_rng(3))
    inl, dnl = ramp.nonlinearity(own)
    x = np.arange(-4000, 4000, 0.01)
    ideal, count = (np.searchsorted(cuts, x, side="right") for cuts in (ramp.ideal, own))
    widths, wanted = (np.bincount(codes)[1 : len(own)] for codes in (count, ideal))
    assert dnl == pytest.approx(np.abs(widths / wanted - 1).max(), abs=1e-3)
    assert abs(inl - np.abs(count - ideal).max()) <= 1 and inl > 1
    assert ramp.nonlinearity(ramp.ideal) == (0.0, 0.0)
    shifted = ramp.ideal + np.diff(ramp.ideal)[0] * np.eye(len(own))[0]
    assert ramp.nonlinearity(shifted)[0] == pytest.approx(1.0)
    assert Ramp(StepFunction.of(0, np.array([1, 1, 2]))).nonlinearity(np.array([9.0])) == (0, 0)
    assert (
        read(ramp.steps, own, np.array([-1e9, 1e9])).tolist() == ramp.steps.sums[[0, -1]].tolist()
    )


def test_ramps_are_of_their_chip_tile_and_layer() -> None:
    graph = of_tables("conv", np.rint(7 * TANH).astype(np.int64), groups=2)
    device = replace(QUIET, nl_adc=LAW)
    layers = of_ramps(graph, device, Arrays(64, 4, Scheme.DIFFERENTIAL))
    codes = make_vectors(graph.input, None)[:30]
    together = Engine(graph, layers, Hardware(device, Condition(), 1)).run(codes, range(5))
    alone = Engine(graph, layers, Hardware(device, Condition(), 1)).run(codes, [3])
    assert np.array_equal(alone[0], together[3])
    assert len(np.unique(together.reshape(5, -1), axis=0)) == 5
    engine = Engine(graph, layers, Hardware(device, Condition(), 1))
    engine.run(codes, range(2))
    (chips,) = (layer.thresholds for layer in engine._programmed[1].values())
    assert chips is not None
    every = np.array([own for chip in chips for own in chip])
    assert len(np.unique(every, axis=0)) == len(every) == 2 * len(layers[0].mapped.tiles)


# the knee --------------------------------------------------------------------------------------


def tanh_net(bits: int = 8) -> Graph:
    """Two layers of tanh of `bits` bits and a third, whose weights are small against what tanh
    takes."""
    rng = np.random.default_rng(7)
    most, ops = (1 << (bits - 1)) - 1, []
    shape, qtype = (24,), QType(4, signed=True)
    for width, scale in ((24, 60.0), (24, 60.0 * most / 7), (6, 0.0)):
        ops.append(Dense(ints(rng, (width, 24), 7), ints(rng, (width,), 20)))
        low, high = graph_of(qtype, shape, *ops).bounds[f"n{len(ops)}"]
        if scale:
            sums = np.arange(int(low.min()), int(high.max()) + 1)
            ops.append(Table(np.rint(most * np.tanh(sums / scale)).astype(np.int64), int(sums[0])))
    return graph_of(qtype, shape, *ops)


def knee(state: Path, chips: int = 40, noise: float = 1.0) -> dict[str, dict[int, float]]:
    """Mean accuracies by the way ramps are, and bits."""
    graph = tanh_net()
    rng = np.random.default_rng(0)
    codes = rng.integers(-7, 8, (150, 24))
    labels = Interpreter(graph).run(codes).argmax(axis=1)

    def right(outputs: IntArray, numbers: IntArray) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = outputs.argmax(axis=1) == labels[numbers]
        return found

    device = replace(QUIET, nl_adc=LAW)
    layers = of_ramps(graph, device)
    question = Question(Wanted(chips), Condition(noise=noise), 0, 0.0)
    bench = Bench(graph, layers, device, {}, question, 0.9, Trial(codes, right, state))
    told = answer(Study.NL_ADC, bench)
    assert len(told.metrics) == 21 and told.notes[-1].endswith("study_nl_adc.svg")
    found: dict[str, dict[int, float]] = {}
    for metric in told.metrics:
        place, way = metric.name.removeprefix("at ").split(" ramp bits, ")
        found.setdefault(way, {})[int(place)] = metric.value
    return found


def test_more_bits_are_worse_beyond_a_knee(tmp_path: Path) -> None:
    """Without errors every bit helps; with errors of steps that add up the most bits are not the
    best, and calibration moves the knee."""
    found = knee(tmp_path, noise=2.0)
    exact, calibrated, not_ = (
        found[way] for way in ("without errors", "calibrated", "not calibrated")
    )
    assert exact[8] == 1.0 and list(exact.values()) == sorted(exact.values())
    for way in (calibrated, not_):
        best = max(way, key=lambda bits: way[bits])
        assert 4 <= best <= 6 and way[8] < way[best] - 0.03
    assert all(calibrated[bits] >= not_[bits] for bits in (5, 6, 7, 8))
    text = (tmp_path / "study_nl_adc.svg").read_text()
    assert all(f">{word}<" in text for word in ("without errors", "calibrated", "not calibrated"))


def test_negative_errors_that_do_not_add_up_have_no_knee(tmp_path: Path) -> None:
    """The same error on each threshold by itself, as far as a step of the ramp is: it shrinks with
    the steps, and bits go on helping."""

    def alone(
        self: Ramp, law: NlAdc, noise: float, calibrated: bool, by: np.random.Generator
    ) -> Floats:
        steps = np.diff(self.ideal, append=self.ideal[-1] + self.largest)
        error = noise * law.sigma_us / law.max_us * by.standard_normal(len(steps))
        found: Floats = np.sort(self.ideal + error * steps)
        return found

    with mock.patch.object(Ramp, "drawn", alone):
        found = knee(tmp_path, 20, noise=2.0)["calibrated"]
    assert found[8] == max(found.values())


def test_chips_tell_how_far_their_ramps_are_off(tmp_path: Path) -> None:
    graph = of_tables("dense", np.rint(7 * TANH).astype(np.int64))
    device = replace(QUIET, nl_adc=LAW)
    layers = of_ramps(graph, device)
    codes = make_vectors(graph.input, None)[:50]
    trial = Trial(codes, lambda y, n: y.argmax(axis=1) == n % 3, tmp_path)

    def told(calibrate: bool) -> dict[str, float]:
        question = Question(Wanted(200), Condition(calibrate=calibrate), 0, 0.0)
        found = ask(graph, layers, device, "mine", question, trial)
        assert ("not calibrated" in found.accuracy["chips"].source) is not calibrate
        rows = [m for m in found.metrics if m.name in ("INL n1", "DNL n1")]
        assert all(m.kind is Kind.ESTIMATED and m.interval is not None for m in rows)
        return {m.name: m.value for m in rows}

    calibrated, plain = told(True), told(False)
    assert calibrated["INL n1"] < plain["INL n1"] and calibrated["DNL n1"] == plain["DNL n1"]


# what is refused -------------------------------------------------------------------------------


def test_what_no_ramp_can_be_is_refused() -> None:
    arrays = Arrays(64, 64, Scheme.DIFFERENTIAL)
    hill = of_tables("dense", np.array([0, 1, 2, 1, 0]))
    (offence,) = offences(hill, arrays, (), ramps=True)
    assert offence.node == "n1" and "the table n2 rises and falls" in offence.reason
    assert "digital_layers=n1" in offence.fix
    assert offences(hill, arrays, (), ramps=False) == []
    assert offences(hill, arrays, ("n1",), ramps=True) == []
    scales = tuple(Fraction(1, n) for n in range(2, 8))
    channels = replace(requant(Fraction(1, 8)), scale=scales)
    graph = of_tables("dense", np.arange(16), channels)
    (offence,) = offences(graph, arrays, (), ramps=True)
    assert "requantized by channel" in offence.reason


def test_sums_of_several_tiles_are_refused() -> None:
    graph = of_tables("dense", np.arange(16))
    product = of_ramps(graph)[0].mapped.product
    rows = product.weights.shape[1]
    assert rows == 9 + len(product.constants)
    few = Arrays(rows - 1, 64, Scheme.DIFFERENTIAL)
    (offence,) = offences(graph, few, (), ramps=True)
    assert f"its {rows} rows" in offence.reason and "added up digitally" in offence.reason
    assert f"rows={rows}" in offence.fix
    assert offences(graph, replace(few, rows=rows), (), ramps=True) == []


def test_a_column_without_cuts_has_one_code() -> None:
    graph = of_tables("dense", np.array([5]))
    layers = of_ramps(graph, replace(QUIET, nl_adc=LAW))
    codes = make_vectors(graph.input, None)[:20]
    ramp = layers[0].ramp
    assert ramp is not None and ramp.devices == 0
    found = chips_of(graph, layers, replace(QUIET, nl_adc=LAW), codes)
    assert np.array_equal(found[0], Interpreter(graph).run(codes))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('kind = "pwm"', 'kind = "bit_serial"', "the dac must be pwm, not bit_serial"),
        ("sigma_us = 2.67", "sigma_us = -1.0", "nl_adc: sigma_us must be from 0"),
        ("max_us = 150.0", "max_us = 0.0", "nl_adc: min_us must be below max_us"),
        ("sigma_us = 2.67\n", "", "nl_adc: sigma_us must be given"),
        ("sigma_us = 2.67", "sigma = 2.67", "nl_adc: unknown key sigma; valid: min_us"),
    ],
)
def test_device_files_with_ramps_that_make_no_sense(old: str, new: str, message: str) -> None:
    text = device_text("rram_nl")
    assert text.count(old) == 1
    with pytest.raises(UsageError) as raised:
        read_device("x", text.replace(old, new))
    assert message in str(raised.value)


def test_ramps_of_devices_that_drift_are_refused() -> None:
    ramp = device_text("rram_nl")
    ramp = ramp[ramp.index("[nl_adc]") : ramp.index("[conversion]")]
    with pytest.raises(UsageError, match="nl_adc is of devices without drift"):
        read_device("x", device_text("pcm") + "\n" + ramp)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"calibrate": "false"}, "device pcm has no nl_adc"),
        ({"device": "rram_nl", "scheme": "bit_sliced"}, "use differential or offset"),
        ({"study": "nl_adc"}, "study=nl_adc is of devices with nonlinear ramps"),
    ],
)
def test_options_of_ramps_that_make_no_sense(options: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        Analog().with_options(options)
    assert message in str(raised.value)


# the flow --------------------------------------------------------------------------------------


def qonnx_file(folder: Path, function: str = "Tanh") -> Path:
    """A layer of tanh of 5 bits, and one without."""
    rng = np.random.default_rng(3)
    net = Net((12,))
    first = net.quant(net.constant(rng.integers(-7, 8, (6, 12)) * 0.25), 0.25, 4, name="w1")
    x = net.node("Gemm", [net.quant("x", 0.125, 5), first], "fc1", transB=1)
    x = net.quant(net.node(function, [x]), 0.0625, 5)
    second = net.quant(net.constant(rng.integers(-7, 8, (3, 6)) * 0.25), 0.25, 4, name="w2")
    return net.save(folder / "net.onnx", net.node("Gemm", [x, second], "fc2", transB=1))


def test_a_compile_proves_ramps_and_a_check_tells_of_chips(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "data.npz",
        x=rng.normal(0, 1, (40, 12)).astype(np.float32),
        y=rng.integers(0, 3, 40),
    )
    options = {"device": "rram_nl", "chips": "10"}
    given = Request(str(qonnx_file(tmp_path)), "analog", options, None, tmp_path / "runs")
    compiled = compile_model(given, Events())
    assert compiled.agreement.matches
    told = {metric.name: metric.value for metric in compiled.metrics}
    assert told["ramp_cycles"] == 32 and told["conversion_cycles"] == 9
    report = check_model(given, tmp_path / "data.npz", Events())
    assert {"INL fc1", "DNL fc1"} <= {metric.name for metric in report.metrics}


def test_a_function_that_is_not_monotone_names_its_layer(tmp_path: Path) -> None:
    options = {"device": "rram_nl"}
    file = str(qonnx_file(tmp_path, "Sin"))
    given = Request(file, "analog", options, tmp_path / "out", tmp_path / "runs")
    with pytest.raises(Unsupported) as raised:
        compile_model(given, Events())
    (offence,) = raised.value.offences
    assert isinstance(offence, Offence) and offence.node == "fc1"
    assert "rises and falls" in offence.reason and not (tmp_path / "out").exists()
