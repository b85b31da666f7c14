"""Many chips: what is told of them does not depend on how they were simulated, and intervals hold
what they say as often as they say."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from numpy.typing import NDArray

from flow.binomial import exact_share
from flow.driver import check_model
from flow.errors import UsageError
from flow.interp import Interpreter
from flow.metric import Interval, Kind
from flow.ops import IntArray
from flow.plan import Events, Request
from flow.target import Spread, Trial
from targets.analog import montecarlo
from targets.analog.chips import Question, ask, hits_of
from targets.analog.device import Device, device_text, read_device
from targets.analog.engine import Engine, Hardware
from targets.analog.intervals import (
    mean_interval,
    spread_intervals,
    two_way_interval,
)
from targets.analog.montecarlo import Wanted, simulate
from targets.analog.programmed import Condition
from targets.analog.target import Analog
from tests.targets.analog_nets import IDEAL, dense_net, layers_of
from tests.targets.test_analog import qonnx_file

RRAM = read_device("rram", device_text("rram"))
PCM = read_device("pcm", device_text("pcm"))
GRAPH = dense_net()
SAMPLES = 520  # more than one batch of random numbers
LOOK = 32
Bools = NDArray[np.bool_]


def trial(state: Path, samples: int = SAMPLES, note: Callable[[str], None] = print) -> Trial:
    """Samples whose labels are the network's own answers."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 15, (samples, *GRAPH.input.shape), endpoint=True)
    labels = Interpreter(GRAPH).run(codes).argmax(axis=1)

    def right(outputs: IntArray, numbers: IntArray) -> Bools:
        found: Bools = outputs.argmax(axis=1) == labels[numbers]
        return found

    return Trial(codes, right, state, note)


def engine(device: Device = RRAM) -> Engine:
    return Engine(GRAPH, layers_of(GRAPH, device), Hardware(device, Condition(noise=3.0), 1))


def run(kept: Path, chips: int, threads: int = 1, halfwidth: float = 0.0) -> Bools:
    return simulate(engine, trial(kept), Wanted(chips, halfwidth), kept, threads)


@pytest.fixture(autouse=True)
def _looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(montecarlo, "LOOK", LOOK)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Bools:
    return run(tmp_path_factory.mktemp("whole") / "kept.npz", 70)


def test_chips_differ_and_are_not_random_guesses(whole: Bools) -> None:
    shares = whole.mean(axis=1)
    assert whole.shape == (70, SAMPLES)
    assert len(np.unique(whole, axis=0)) == 70 and shares.min() > 0.4 and shares.max() < 1


@pytest.mark.parametrize(("chunk", "threads"), [(1, 1), (16, 3), (5, 2)])
def test_the_result_does_not_depend_on_how_it_is_shared_out(
    tmp_path: Path, whole: Bools, chunk: int, threads: int
) -> None:
    with mock.patch.object(montecarlo, "CHUNK", chunk):
        assert np.array_equal(run(tmp_path / "kept.npz", 70, threads), whole)


def test_what_was_simulated_is_not_simulated_again(tmp_path: Path, whole: Bools) -> None:
    """Fewer chips, then more; the file of a killed run, or a damaged one, changes nothing."""
    kept = tmp_path / "folder" / "kept.npz"
    assert np.array_equal(run(kept, 41), whole[:41])
    ran: list[int] = []
    real = Engine.run

    def seen(self: Engine, codes: IntArray, chips: range, batch: int = 0) -> IntArray:
        ran.extend(chips)
        return real(self, codes, chips, batch)

    with mock.patch.object(Engine, "run", seen):
        assert np.array_equal(run(kept, 70), whole)
        assert min(ran) == 41
        ran.clear()
        assert np.array_equal(run(kept, 33), whole[:33]) and not ran
        kept.write_bytes(kept.read_bytes()[:100])
        assert np.array_equal(run(kept, 33), whole[:33]) and min(ran) == 0


def test_it_stops_at_the_half_width_wherever_it_went_on(tmp_path: Path, whole: Bools) -> None:
    wanted = 1.05 * _half(mean_interval(whole[: 2 * LOOK].mean(axis=1)))
    assert _half(mean_interval(whole[:LOOK].mean(axis=1))) > wanted
    assert len(run(tmp_path / "a.npz", 500, halfwidth=wanted)) == 2 * LOOK
    run(tmp_path / "b.npz", 70)
    found = run(tmp_path / "b.npz", 500, halfwidth=wanted)
    assert np.array_equal(found, whole[: 2 * LOOK])
    assert len(run(tmp_path / "c.npz", 40, halfwidth=1e-6)) == 40


def _half(interval: Interval) -> float:
    return (interval.high - interval.low) / 2


def test_batches_are_of_the_graph(tmp_path: Path) -> None:
    """Large networks have smaller ones; noise of every product is drawn for each of its own."""
    one = engine()
    assert one.batch == 512
    with mock.patch("targets.analog.engine.BATCH_BYTES", 24 * 24 * 50):
        small = engine()
        assert small.batch == 50
        found = simulate(lambda: small, trial(tmp_path), Wanted(4), tmp_path / "kept.npz", 1)
    codes = trial(tmp_path).codes
    first, again = (small.run(codes[:50], [0], number) for number in (0, 1))
    assert not np.array_equal(first, again) and found.shape == (4, SAMPLES)


def test_progress_tells_the_current_interval(tmp_path: Path) -> None:
    told: list[str] = []
    with mock.patch.object(montecarlo, "NOTE_SECONDS", -1.0):
        simulate(engine, trial(tmp_path, note=told.append), Wanted(64), tmp_path / "kept.npz", 1)
    assert len(told) == 2 and told[0].startswith("32 of 64 chips: ") and " % [" in told[0]


# intervals -------------------------------------------------------------------------------------


def covered(draw: Callable[[np.random.Generator], Interval], truth: float, times: int) -> float:
    rng = np.random.default_rng(0)
    found = (draw(rng) for _ in range(times))
    return sum(each.low <= truth <= each.high for each in found) / times


def _shares(rng: np.random.Generator, chips: int) -> NDArray[np.float64]:
    """Accuracies as chips have them, of mean 0.9: a share of 397 samples, skewed to below."""
    return rng.binomial(397, rng.beta(45, 5, chips)) / 397


def test_the_t_interval_covers() -> None:
    rate = covered(lambda rng: mean_interval(_shares(rng, 50)), 0.9, 2000)
    assert 0.93 <= rate <= 0.97


def test_stopping_at_a_half_width_covers() -> None:
    def stopped(rng: np.random.Generator) -> Interval:
        shares = _shares(rng, 224)
        count = montecarlo._stops(shares, 0, Wanted(224, 0.008))
        assert count is not None
        return mean_interval(shares[:count])

    assert 0.93 <= covered(stopped, 0.9, 2000) <= 0.97


def test_the_yield_interval_covers() -> None:
    """At least what it says, at every yield; about that where chips are many."""
    for truth, chips in ((0.9, 100), (0.5, 400), (0.99, 200)):
        rate = covered(
            lambda rng, p=truth, n=chips: exact_share(int(rng.binomial(n, p)), n), truth, 3000
        )
        assert rate >= 0.945
    rate = covered(lambda rng: exact_share(int(rng.binomial(2000, 0.8)), 2000), 0.8, 3000)
    assert 0.94 <= rate <= 0.97
    assert exact_share(0, 50).low == 0 and exact_share(50, 50).high == 1
    # The rule of three, exactly: 1 - 0.025^(1/50).
    assert exact_share(0, 50).high == pytest.approx(1 - 0.025 ** (1 / 50), rel=1e-9)


@dataclass(frozen=True)
class Made:
    """Chips by samples: right where the ease of samples, of mean `ease` and deviation `samples`,
    and errors of chips and of both together are above 0."""

    ease: float
    samples: float
    chips: float
    both: float
    shape: tuple[int, int]

    def hits(self, by: np.random.Generator, shape: tuple[int, int]) -> Bools:
        made = by.normal(self.ease, self.samples, (1, shape[1])).astype(np.float32)
        made = made + by.normal(0, self.chips, (shape[0], 1)).astype(np.float32)
        if self.both:
            made += self.both * by.standard_normal(shape, dtype=np.float32)
        found: Bools = made > 0
        return found


@pytest.mark.parametrize(
    ("made", "least"),
    [
        (Made(1.7, 1.0, 0.4, 0.0, (40, 120)), 0.93),
        (Made(1.7, 0.4, 0.4, 1.0, (40, 120)), 0.93),
        (Made(2.2, 1.0, 0.2, 0.5, (40, 200)), 0.93),
        (Made(3.0, 1.4, 0.3, 0.3, (64, 200)), 0.91),  # four samples are often wrong
    ],
    ids=["chips and samples", "each by itself", "mostly samples", "few samples"],
)
def test_the_two_way_interval_covers_chips_and_samples(made: Made, least: float) -> None:
    """Where both are drawn, it is far wider than that of chips alone, which then does not cover."""
    truth = float(made.hits(np.random.default_rng(1), (3000, 4000)).mean())
    both = covered(lambda by: two_way_interval(made.hits(by, made.shape)), truth, 2000)
    assert least <= both <= 0.97
    alone = covered(lambda by: mean_interval(made.hits(by, made.shape).mean(axis=1)), truth, 200)
    assert alone < 0.9


def test_the_two_way_interval_is_of_both_variances() -> None:
    """By the definition of variance components, and where nothing varies."""
    rng = np.random.default_rng(0)
    hits = rng.random((30, 50)) < 0.3 + 0.6 * rng.random((1, 50))
    mean, rows, columns = hits.mean(), hits.mean(axis=1), hits.mean(axis=0)
    rest = hits - rows[:, None] - columns + mean
    error = (rest**2).sum() / (29 * 49)
    variance = rows.var(ddof=1) / 30 + columns.var(ddof=1) / 50 - error / 1500
    found = two_way_interval(hits)
    middle, ends = (np.log(x / (1 - x)) for x in (mean, np.array([found.low, found.high])))
    halves = (ends - middle) * mean * (1 - mean) / math.sqrt(variance)
    assert halves == pytest.approx([-halves[1], halves[1]]) and 1.98 < halves[1] < 2.02
    every = two_way_interval(np.ones((20, 60), dtype=np.bool_))
    assert every == exact_share(60, 60)
    assert two_way_interval(np.arange(60) < np.full((20, 1), 45)).low > 0.6


def test_the_spread_is_inside_its_intervals() -> None:
    shares = _shares(np.random.default_rng(0), 300)
    deviation, lowest = spread_intervals(shares, 0)
    assert deviation.low < shares.std(ddof=1) < deviation.high
    assert lowest.low <= np.percentile(shares, 5) <= lowest.high
    assert spread_intervals(shares, 0) == (deviation, lowest)


# what is told ----------------------------------------------------------------------------------


def asked(device: Device, state: Path, floor: float = 0.0, **condition: float) -> Spread:
    question = Question(Wanted(40), Condition(**condition), 0, floor)  # type: ignore[arg-type]
    return ask(GRAPH, layers_of(GRAPH, device), device, "mine", question, trial(state))


def test_more_noise_is_less_accurate_and_yields_less(tmp_path: Path) -> None:
    means, yields = [], []
    for noise in (0.5, 1.0, 2.0, 4.0):
        told = asked(PCM, tmp_path, floor=0.9, noise=noise)
        means.append(told.accuracy["chips"].value)
        yields.append(next(m.value for m in told.metrics if m.name == "yield"))
    assert means == sorted(means, reverse=True) and means[0] - means[-1] > 0.05
    assert yields == sorted(yields, reverse=True)
    floors = [asked(PCM, tmp_path, floor=f).metrics[-1].value for f in (0.5, 0.9, 0.95, 1.0)]
    assert floors == sorted(floors, reverse=True)


def test_hits_are_kept_by_what_decides_them(tmp_path: Path) -> None:
    for condition in (Condition(), Condition(noise=2.0), Condition(time_s=60.0)):
        question = Question(Wanted(2), condition, 0, 0.0)
        hits_of(GRAPH, layers_of(GRAPH, PCM), PCM, question, trial(tmp_path))
        hits_of(GRAPH, layers_of(GRAPH, PCM), PCM, replace(question, floor=0.5), trial(tmp_path))
    assert len(list(tmp_path.iterdir())) == 3


def test_a_device_without_noise_is_told_so(tmp_path: Path) -> None:
    told = asked(IDEAL, tmp_path)
    assert not told.accuracy and "every chip is as it was proven" in told.warnings[0]
    quiet = replace(IDEAL, adc=PCM.adc)
    (name,) = (told := asked(quiet, tmp_path)).accuracy
    assert name == "converters" and "all chips are alike" in told.warnings[0]
    assert list(tmp_path.iterdir()) == []


def test_converters_alone_answer_as_a_chip_without_noise(tmp_path: Path) -> None:
    """Every sample by its own label, also where they are more than are run at a time."""
    narrow = replace(RRAM, adc=None if RRAM.adc is None else replace(RRAM.adc, bits=3))
    with mock.patch("targets.analog.engine.BATCH_BYTES", 24 * 24 * 50):
        assert SAMPLES > engine().batch
        found = asked(narrow, tmp_path).accuracy["converters"]
    exact = replace(narrow, stuck=None)
    noiseless = Hardware(exact, Condition(noise=0.0))
    given = trial(tmp_path)
    assert given.right is not None
    right = []
    for sample in range(SAMPLES):
        one = Engine(GRAPH, layers_of(GRAPH, narrow), noiseless)
        outputs = one.run(given.codes[sample : sample + 1], [0])[0]
        right.append(bool(given.right(outputs, np.array([sample]))[0]))
    assert found.value == np.mean(right) and 0.2 < found.value < 1


def test_networks_without_answers_are_not_rated(tmp_path: Path) -> None:
    question = Question(Wanted(4), Condition(), 0, 0.0)
    none = replace(trial(tmp_path), right=None)
    told = ask(GRAPH, layers_of(GRAPH, PCM), PCM, "pcm", question, none)
    assert not told.accuracy and "which this network has none of" in told.warnings[0]


def test_a_check_tells_accuracy_with_its_interval(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(0, 20, (60, 12)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x, y=rng.integers(0, 3, 60))
    options = {"device": "pcm", "time_s": "86400", "chips": "40", "floor": "0.2"}
    given = Request(str(qonnx_file(tmp_path)), "analog", options, None, tmp_path / "runs")
    report = check_model(given, tmp_path / "data.npz", Events())
    assert report.agreement.matches
    assert list(report.accuracy) == ["integer", "simulation", "converters", "chips"]
    chips = report.accuracy["chips"]
    assert chips.kind is Kind.ESTIMATED and chips.interval is not None
    assert chips.interval.low <= chips.value <= chips.interval.high
    assert "40 simulated chips, device pcm, 86400 s of drift" in chips.source
    assert math.isclose(report.metrics[0].value, chips.value)
    assert [m.name for m in report.metrics][-1] == "yield"
    assert (
        check_model(given, tmp_path / "data.npz", Events()).to_json()["accuracy"]
        == (report.to_json()["accuracy"])
    )
    assert len(list((tmp_path / "runs" / "chips").glob("*/*.npz"))) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chips": "0"}, "chips must be from 2 to 100000, not 0"),
        ({"floor": "1.2"}, "floor must be from 0 to 1, not 1.2"),
        ({"floor": "-0.1"}, "floor must be from 0 to 1, not -0.1"),
        ({"halfwidth": "-1"}, "halfwidth must be from 0 to 1"),
        ({"noise": "-1"}, "noise must be from 0 to 100"),
        ({"time_s": "nan"}, "time_s must be a finite number"),
        ({"device": "rram", "time_s": "60"}, "device rram does not, leave it out"),
        ({"compensation": "all"}, "compensation must be one of none, global, column"),
    ],
)
def test_questions_that_make_no_sense(options: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        Analog().with_options(options)
    assert message in str(raised.value)


def test_engines_are_made_as_they_are_needed(tmp_path: Path) -> None:
    made: list[int] = []

    def make() -> Engine:
        made.append(1)
        return engine()

    simulate(partial(make), trial(tmp_path, 20), Wanted(64), tmp_path / "kept.npz", 2)
    assert 1 <= len(made) <= 2
