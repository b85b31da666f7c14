"""Training through the noise of chips: what is drawn is what a chip would hold, and never one that
is then rated; networks are compared on the same chips."""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from flow import noise_experiment
from flow.driver import check_model
from flow.errors import Unsupported, UsageError
from flow.ops import Conv
from flow.plan import Events, Plan, Request
from flow.target import Other, Spread, Trial
from targets.analog.compare import compared
from targets.analog.converters import Converter
from targets.analog.device import Device, Wire, device_text, read_device
from targets.analog.engine import Engine, Hardware
from targets.analog.intervals import paired_interval, reached
from targets.analog.mapping import Arrays, Scheme
from targets.analog.programmed import Compensation, Condition
from targets.analog.target import Analog
from targets.analog.training import FIRST_CHIP, noise_of_chips
from tests.targets.analog_nets import codes_of, graph_of, ints, layers_of, matrix_layer

PCM = read_device("pcm", device_text("pcm"))
BARE = replace(PCM, dac=None, adc=None, conversion=None)
RRAM = read_device("rram", device_text("rram"))
PHOTONIC = read_device("photonic", device_text("photonic"))
DAY = Condition(86_400.0)
MOST = 1 << 16  # of codes: outputs are rounded, their noise is not
WEIGHTS = ints(np.random.default_rng(5), (6, 20), 7)
X = ints(np.random.default_rng(6), (9, 20), MOST)
SEED, NUMBER = 3, 11
SHORT = {"epochs": "1", "float_epochs": "4", "seed": "0"}


@pytest.mark.parametrize(
    ("device", "arrays"),
    [
        (BARE, Arrays(512, 512, Scheme.DIFFERENTIAL)),
        (BARE, Arrays(7, 4, Scheme.DIFFERENTIAL, by_column=True)),
        (BARE, Arrays(7, 4, Scheme.OFFSET)),
        (BARE, Arrays(8, 6, Scheme.BIT_SLICED, slice_bits=1)),
        (replace(PHOTONIC, input=None, detector=None), Arrays(8, 5, Scheme.SIGNED)),
    ],
    ids=["differential", "by column", "offset", "bit sliced", "photonic"],
)
@pytest.mark.parametrize("compensation", list(Compensation))
def test_a_draw_is_what_a_chip_holds(
    device: Device, arrays: Arrays, compensation: Compensation
) -> None:
    """The same chip by the engine that rates them."""
    condition = Condition(86_400.0 if device is BARE else 0.0, compensation=compensation)
    layer = matrix_layer(WEIGHTS, MOST, device, arrays)
    name = layer.mapped.name
    layer = replace(layer, number=zlib.crc32(name.encode()), converter=Converter(step=2.0**-10))
    graph = graph_of(codes_of(layer), (20,), layer.mapped.product.node.op)
    engine = Engine(graph, [layer], Hardware(device, condition, SEED))
    found = engine.run(X, [FIRST_CHIP + NUMBER])[0]
    noise = noise_of_chips(device, arrays, condition, ())
    drawn = noise.draw(name, WEIGHTS[None], SEED, NUMBER)
    # The engine holds weights in steps of 2^-20, and clamps to what the integer ones can make.
    low, high = graph.bounds[graph.output.name]
    assert np.abs(found - np.clip(X @ drawn[0].T, low, high)).max() <= 8
    assert np.abs(X @ (drawn[0] - WEIGHTS).T).max() > 1000


def test_groups_are_drawn_as_a_depthwise_convolution_has_them() -> None:
    weights = ints(np.random.default_rng(1), (8, 1, 2, 2), 7)
    node = Conv(weights, np.zeros(8, np.int64), groups=4)
    graph = graph_of(codes_of(matrix_layer(WEIGHTS, 3, BARE)), (4, 2, 2), node)
    (layer,) = layers_of(graph, BARE)
    layer = replace(layer, number=zlib.crc32(b"n1"), converter=Converter(step=2.0**-10))
    x = ints(np.random.default_rng(2), (5, 4, 2, 2), 3)
    seen: list[NDArray[np.float64]] = []
    condition = replace(DAY, compensation=Compensation.NONE)
    engine = Engine(graph, [layer], Hardware(BARE, condition, SEED))
    engine.follow(x, [FIRST_CHIP], 0, lambda _: False, lambda _, y: seen.append(y[0].copy()))
    noise = noise_of_chips(BARE, layer.mapped.arrays, condition, ())
    drawn = noise.draw("n1", weights.reshape(4, 2, 4), SEED, 0)
    rows = x.reshape(5, 4, 4)
    assert np.allclose(np.einsum("ngi,goi->gno", rows, drawn), seen[0], atol=1e-6)


@pytest.mark.parametrize("scheme", [Scheme.DIFFERENTIAL, Scheme.OFFSET])
def test_noise_of_every_product_is_in_a_draw(scheme: Scheme) -> None:
    """Its variance is that of one product."""
    still = replace(RRAM, programming=None)
    assert RRAM.white is not None and still.conductance is not None
    noise = noise_of_chips(still, Arrays(256, 256, scheme), Condition(), ())
    weights = ints(np.random.default_rng(5), (1, 60, 50), 7)
    weights[0, 0, :2] = -7, 7
    errors = noise.draw("fc", weights, 0, 0) - weights
    steps = still.conductance.span / (7 if scheme is Scheme.DIFFERENTIAL else 14)
    assert abs(errors.std() / (2**0.5 * RRAM.white.sigma_us / steps) - 1) < 0.05
    shared = np.corrcoef(errors[0])[~np.eye(60, dtype=bool)].mean()
    assert abs(shared - (0.5 if scheme is Scheme.OFFSET else 0.0)) < 0.05


def test_draws_are_of_seed_number_and_layer_and_none_is_rated() -> None:
    noise = noise_of_chips(PCM, Arrays(512, 512, Scheme.DIFFERENTIAL), DAY, ("fc2",))
    places = [("fc1", 0, 0), ("fc1", 0, 1), ("fc1", 1, 0), ("fc3", 0, 0)]
    drawn = [noise.draw(name, WEIGHTS[None], seed, number) for name, seed, number in places]
    assert len({each.tobytes() for each in drawn}) == len(places)
    assert np.array_equal(drawn[0], noise.draw("fc1", WEIGHTS[None], 0, 0))
    assert np.array_equal(noise.draw("fc2", WEIGHTS[None], 0, 0), WEIGHTS[None])
    with pytest.raises(UsageError, match="chips must be from 2 to 100000"):
        Analog(chips=FIRST_CHIP)


def test_what_decides_the_weights_is_in_the_identity() -> None:
    arrays = Arrays(512, 512, Scheme.DIFFERENTIAL)

    def identity(device: Device = PCM, condition: Condition = DAY, digital: str = "") -> str:
        return noise_of_chips(device, arrays, condition, [digital]).identity

    assert identity() == identity(replace(PCM, adc=None, dac=None, conversion=None))
    others = {
        identity(condition=replace(DAY, time_s=60.0)),
        identity(condition=replace(DAY, noise=2.0)),
        identity(condition=replace(DAY, compensation=Compensation.COLUMN)),
        identity(digital="fc1"),
        identity(replace(PCM, flicker=None)),
        noise_of_chips(PCM, replace(arrays, rows=128), DAY, [""]).identity,
    }
    assert len(others | {identity()}) == 7


def test_weights_that_do_not_fit_the_tiles_are_refused() -> None:
    noise = noise_of_chips(PCM, Arrays(8, 2, Scheme.BIT_SLICED, 1), DAY, ())
    with pytest.raises(Unsupported, match="fc1: one of its weights takes 6 devices of a row"):
        noise.draw("fc1", WEIGHTS[None], 0, 0)


# --- what users give


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"device": "ideal"},
            "those of device ideal do not, with 3 times its noise and time_s=0: leave it",
        ),
        ({"device": "rram", "noise": "0"}, "those of device rram do not, with 0 times its noise"),
        (
            {"device": "pcm", "noise": "0"},
            "those of device pcm do not, with 0 times its noise and time_s=0",
        ),
        ({"device": "rram", "training_noise": "0"}, "those of device rram do not, with 0 times"),
        ({"training_noise": "-1"}, "training_noise must be from 0 to 100, not -1"),
        ({"noise_aware": "some"}, "noise_aware must be true or false, not 'some'"),
    ],
)
def test_what_cannot_be_trained_through(options: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        Analog().with_options({"noise_aware": "true", **options})
    assert message in str(raised.value)


def test_drift_alone_is_noise() -> None:
    assert Analog(noise_aware=True, noise=0.0, time_s=60.0).weight_noise() is not None
    assert Analog(noise=0.0, time_s=60.0).weight_noise() is None


def test_wires_are_not_trained_through(tmp_path: Path) -> None:
    text = device_text("rram").replace(" = 256\n", " = 64\n")
    file = tmp_path / "wired.toml"
    file.write_text(text + '\n[wire]\nohm = 1.0\nsource = "test"\n')
    assert read_device("wired", file.read_text()).wire == Wire(1.0, "test")
    with pytest.raises(UsageError, match="would have to be solved for every batch"):
        Analog(device=str(file), noise_aware=True).files()


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("./net.onnx", {}, r"./net.onnx is trained already, and its file does not tell how"),
        ("digits_mlp", {"untrained": "true"}, "untrained=true trains nothing"),
        ("ad_autoencoder", {}, "rated by accuracy, which ad_autoencoder has none of"),
    ],
)
def test_models_that_are_not_trained_on(
    model: str, options: dict[str, str], message: str, tmp_path: Path
) -> None:
    """Before any file is read."""
    given = Request(model, "analog", {"noise_aware": "true", **options}, runs=tmp_path)
    with pytest.raises(UsageError, match=message):
        Plan(given, Events())
    assert list(tmp_path.iterdir()) == []


# --- before and after


def test_the_paired_interval_covers() -> None:
    """Pairs of which 70 % agree, as many as chips are."""
    rng, inside, truth = np.random.default_rng(0), 0, 0.1
    for _ in range(3000):
        wins, losses, _ = rng.multinomial(120, [0.2, 0.1, 0.7])
        found = paired_interval(int(wins), int(losses), 120)
        inside += found.low <= truth <= found.high
    assert 0.94 <= inside / 3000 <= 0.97
    # By hand: 1/12 and 1/12 of 12 give 0 +- 1.959964 * sqrt((1/6) / 12).
    assert paired_interval(0, 0, 10).high == pytest.approx(1.959964 * (1 / 72) ** 0.5, rel=1e-6)
    assert paired_interval(9, 2, 50).low == -paired_interval(2, 9, 50).high
    assert paired_interval(50, 0, 50).high <= 1


def _hits(shares: list[int]) -> NDArray[np.bool_]:
    """Chips that answer so many of 10 samples right."""
    return np.arange(10) < np.array(shares)[:, None]


def _other(name: str) -> Other:
    rng = np.random.default_rng(0)
    graph = graph_of(codes_of(matrix_layer(WEIGHTS, 3, BARE)), (4,))
    return Other(
        name, "as it was", graph, Trial(rng.integers(0, 2, (1, 4)), None, Path()), lambda: None
    )


def test_networks_are_compared_on_the_same_chips() -> None:
    after, before = _hits([9, 9, 8, 10, 7]), _hits([8, 9, 9, 8, 7, 1])
    told = compared(Spread(), after, before, _other("before"), 0.85)
    assert told.accuracy["chips before"].value == pytest.approx(0.82)
    by_name = {metric.name: metric for metric in told.metrics}
    assert by_name["accuracy gained on before"].value == pytest.approx(0.04)
    assert by_name["yield before"].value == 2 / 5
    gained = by_name["yield gained on before"]
    assert gained.value == pytest.approx(1 / 5)
    assert gained.interval == paired_interval(2, 1, 5)
    assert "2 became good, 1 ceased to be" in gained.source
    assert told.warnings == (
        "against before the yield at 0.85 changes by +20.0 points [-47.4, +76.0]: not significant",
    )
    assert len(compared(Spread(), after, before, _other("before"), 0.0).metrics) == 5
    # Nine tenths of five are all of them; before, the median is 0.8, which four of the five reach.
    assert by_name["90 % reach, before"].value == pytest.approx(0.7)
    assert by_name["90 % reach, gained on before"].value == 0
    assert by_name["yield at median, before"].value == 4 / 5
    assert by_name["yield at median, gained on before"].value == 0


def test_what_most_chips_reach_and_how_many_reach_the_median() -> None:
    rng = np.random.default_rng(0)
    before = rng.binomial(10, 0.6, 300).tolist()
    after = [min(10, hits + 1) for hits in before]
    told = compared(Spread(), _hits(after), _hits(before), _other("control"), 0.0)
    found = {metric.name: metric for metric in told.metrics}
    lowest = sorted(before)[30] / 10
    assert (np.array(before) / 10 >= lowest).mean() >= 0.9
    assert found["90 % reach, control"].value == pytest.approx(lowest)
    gain = found["90 % reach, gained on control"]
    assert gain.value == pytest.approx(0.1) and gain.interval is not None
    assert gain.interval.low == pytest.approx(0.1) == gain.interval.high  # every chip, by as much
    median = np.median(before)
    good = (np.array(before) >= median).mean()
    assert 0.5 <= good < 0.75 and found["yield at median, control"].value == pytest.approx(good)
    more = found["yield at median, gained on control"]
    assert more.value == pytest.approx((np.array(after) >= median).mean() - good)
    assert more.interval is not None and more.interval.low > 0
    same = compared(Spread(), _hits(before), _hits(before), _other("control"), 0.0).metrics
    for metric in same[1:]:
        if "gained" in metric.name:
            assert metric.value == 0 and metric.interval is not None
            assert metric.interval.low <= 0 <= metric.interval.high


@pytest.mark.parametrize("count", [1, 9, 10, 30, 400])
def test_the_share_that_reaches_it_is_at_least_as_large(count: int) -> None:
    values = np.random.default_rng(count).integers(0, 50, count).astype(np.float64)
    found = reached(values, 0.9)
    assert (values >= found).mean() >= 0.9
    assert (values > found).mean() < 0.9 or found == values.max()


def test_a_gain_of_all_chips_is_significant() -> None:
    after, before = _hits([9] * 40), _hits([8] * 40)
    told = compared(told=Spread(), mine=after, theirs=before, other=_other("control"), floor=0.85)
    assert told.warnings[0].endswith(": significant")
    swapped = compared(Spread(), before, after, _other("control"), 0.85)
    assert "-100.0 points" in swapped.warnings[0] and swapped.warnings[0].endswith(": significant")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


def test_a_check_compares_before_and_after(runs: Path) -> None:
    """From training to the report; the network before it is the one that a plain check rates."""
    short = {**SHORT, "chips": "20", "time_s": "86400", "floor": "0.5"}
    notes: list[str] = []
    given = Request("digits_mlp", "analog", {**short, "noise_aware": "true"}, runs=runs)
    report = check_model(given, None, Events(notes.append))
    assert report.agreement.matches
    assert list(report.accuracy)[-3:] == ["chips", "chips before", "chips control"]
    assert [m.name for m in report.metrics][-14:] == [
        name.format(other)
        for other in ("before", "control")
        for name in (
            *("accuracy gained on {}", "90 % reach, {}", "90 % reach, gained on {}"),
            *("yield at median, {}", "yield at median, gained on {}"),
            *("yield {}", "yield gained on {}"),
        )
    ]
    assert len(list((runs / "models").glob("digits_mlp-*"))) == 3
    plain = check_model(Request("digits_mlp", "analog", short, runs=runs), None, Events())
    same = pytest.approx(report.accuracy["chips before"].value, rel=1e-12)  # of other sums
    assert plain.accuracy["chips"].value == same
    assert plain.accuracy["chips"].interval == report.accuracy["chips before"].interval
    values = {report.accuracy[name].value for name in ("chips", "chips before", "chips control")}
    assert len(values) == 3
    assert len(list((runs / "chips").iterdir())) == 3
    again = check_model(given, None, Events())
    assert again.up_to_date and again.to_json()["metrics"] == report.to_json()["metrics"]


def test_the_experiment_is_what_checks_tell(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On every third sample, with the networks of the test before."""
    monkeypatch.setattr(noise_experiment, "DEVICE", {**noise_experiment.DEVICE, **SHORT})
    case = noise_experiment.Case("digits_mlp", [0], 20, 3)
    found = noise_experiment.run_noise_experiment(runs, tmp_path, lambda _: None, [case])
    names, *rows = found.rows[1:]
    table = [dict(zip(names, row, strict=True)) for row in rows]
    assert [row["arm"] for row in table] == [
        "before",
        "control",
        "noise_aware",
        "before",
        "control",
    ]
    accuracy, p10, good = (
        [float(row[name].split()[0]) for row in table[:3]] for name in ("chips", "p10", "yield")
    )
    for at, (one, over) in enumerate(zip(table[:2], table[3:], strict=True)):
        gained = [float(one[f"{name}_gain"].split()[0]) for name in ("accuracy", "p10", "yield")]
        assert gained[0] == pytest.approx(accuracy[2] - accuracy[at], abs=0.011)
        assert gained[1] == pytest.approx(p10[2] - p10[at], abs=0.011)
        told = [float(over[f"{name}_gain"]) for name in ("accuracy", "p10", "yield")]
        assert told == pytest.approx(gained, abs=0.011)
        assert over["note"] == "one seed: nothing is told of others"
    assert good[2] - good[1] == pytest.approx(float(table[1]["yield_gain"].split()[0]), abs=0.011)
    assert min(good[:2]) >= 50
    assert found.path.read_text().count("\n") == len(found.rows)
    with np.load(runs / "experiments" / "noise_aware_digits_mlp.npz") as part:
        assert len(part["y"]) == -(-397 // 3)


def test_the_experiments_seeds_were_not_those_that_it_was_made_with() -> None:
    for case in noise_experiment.CASES:
        used = {*range(10), *range(20, 30)}
        assert case.model != "digits_mlp" or not set(case.seeds) & used


def test_a_claim_is_shown_where_its_interval_is_above_zero() -> None:
    gains = {
        "accuracy": [1.0, 2.0, 3.0],
        "90 % reach": [2.0, 2.1, 2.2],
        "yield": [-5.0, -5.1, -4.9],
    }
    row = noise_experiment._over_seeds(noise_experiment.CASES[0], "control", gains)
    assert row[-4:-1] == ["2.00 ± 2.48", "2.10 ± 0.25", "-5.00 ± 0.25"]
    assert row[-1] == (
        "noise_aware > control: accuracy not shown, 90 % reach shown, yield the opposite is shown; "
        "paired over seeds"
    )
