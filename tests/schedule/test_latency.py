"""Latency prediction: exact on what follows its law, covered where it does not."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow.errors import UsageError
from flow.schedule.latency import LatencyModel, Observation, fit, fit_each, leave_one_out, residual
from flow.schedule.layer_work import CALL, LayerWork, Network
from flow.schedule.margin import margin

CLOCKS = (200.0, 600.0, 1000.0, 1400.0)
TRUE = LatencyModel(
    {CALL: 2e-5, "conv": 3e-6, "dense": 1e-6, "pool": 0.0},
    {"conv": 0.25, "dense": 0.5},
    {"conv": 2e-10, "dense": 5e-10, "pool": 1e-9},
)


def networks(count: int, seed: int) -> Iterator[Network]:
    rng = np.random.default_rng(seed)
    for _ in range(count):
        layers = [LayerWork(CALL, 0, 0)]
        for kind, macs in (("conv", 3e6), ("dense", 2e5), ("pool", 0)):
            for _ in range(int(rng.integers(1, 5))):
                done = int(macs * rng.uniform(0.1, 3))
                layers.append(LayerWork(kind, done, int(rng.integers(1_000, 100_000))))
        yield tuple(layers)


def seen(
    count: int, seed: int, sigma: float = 0.0, clocks: Sequence[float] = CLOCKS
) -> list[Observation]:
    """Every network at every clock, by the law `TRUE` times lognormal errors."""
    rng = np.random.default_rng(seed + 1)
    return [
        Observation(f"net{number}", net, mhz, TRUE.seconds(net, mhz) * math.exp(error))
        for number, net in enumerate(networks(count, seed))
        for mhz, error in zip(clocks, rng.normal(0, sigma, len(clocks)), strict=True)
    ]


def close(found: Mapping[str, float], true: Mapping[str, float], scale: float) -> None:
    assert found.keys() == true.keys()
    for kind, value in true.items():
        assert found[kind] == pytest.approx(value, rel=1e-6, abs=1e-6 * scale)


@given(seed=st.integers(0, 1000))
def test_what_follows_the_law_is_recovered(seed: int) -> None:
    found = fit(seen(12, seed))
    close(found.call_s, TRUE.call_s, 1e-6)
    close(found.mac_cycles, TRUE.mac_cycles, 1.0)
    close(found.byte_s, TRUE.byte_s, 1e-10)


def test_one_model_tells_clocks_that_were_never_seen() -> None:
    found = fit(seen(12, 3))
    for net in networks(4, 99):
        for mhz in (300.0, 2000.0):
            assert found.seconds(net, mhz) == pytest.approx(TRUE.seconds(net, mhz), rel=1e-6)


def test_a_wrong_law_is_not_fitted() -> None:
    """Seconds that do not follow the law leave residuals: the fit is no interpolation."""
    wrong = [Observation(o.name, o.network, o.mhz, o.seconds**2) for o in seen(12, 3)]
    assert max(abs(residual(fit(wrong), each)) for each in wrong) > 0.05


def test_no_term_takes_time_away() -> None:
    noisy = fit(seen(12, 5, sigma=0.5))
    assert all(
        v >= 0 for v in (*noisy.call_s.values(), *noisy.mac_cycles.values(), *noisy.byte_s.values())
    )


def test_one_model_over_all_clocks_needs_fewer_samples_than_one_a_clock() -> None:
    """With 10 networks measured at 4 clocks and 5 % errors, on networks it has not seen."""
    pooled, apart = [], []
    for seed in range(20):
        observations = seen(10, seed, sigma=0.05)
        together, each = fit(observations), fit_each(observations)
        for test in seen(20, 1000 + seed):
            pooled.append(abs(residual(together, test)))
            apart.append(abs(residual(each[test.mhz], test)))
    assert np.mean(pooled) < 0.7 * np.mean(apart)


def test_left_out_networks_are_told_by_others() -> None:
    observations = seen(12, 8)
    assert np.abs(leave_one_out(observations)).max() < 1e-6
    slow = [
        Observation(o.name, o.network, o.mhz, o.seconds * (3 if o.name == "net4" else 1))
        for o in observations
    ]
    found = leave_one_out(slow)
    marked = np.array([o.name == "net4" for o in slow])
    assert found[marked] == pytest.approx(math.log(3), abs=1e-6)


def test_what_cannot_be_decided_is_refused() -> None:
    with pytest.raises(UsageError, match=r"9 terms .* not 6"):
        fit(seen(6, 0, clocks=(200.0,)))
    with pytest.raises(UsageError, match="no layers of the kind recurrent"):
        TRUE.seconds((LayerWork("recurrent", 1, 1),), 200.0)
    with pytest.raises(UsageError, match="clock must be above 0"):
        TRUE.seconds((), math.nan)
    with pytest.raises(UsageError, match="observation net: mhz and seconds must be above 0"):
        Observation("net", (), 200.0, math.nan)
    with pytest.raises(ValueError, match="no negative numbers"):
        LayerWork("conv", -1, 0)


@pytest.mark.parametrize("heavy", [False, True])
@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_margins_cover_as_often_as_they_say(coverage: float, heavy: bool) -> None:
    """Exactly 1 - alpha to 1 - alpha + 1/(n+1) on average, whatever the errors' law."""
    rng = np.random.default_rng(7)
    trials, count = 4000, 39
    draws = (
        rng.standard_t(2, (trials, count + 1)) if heavy else rng.normal(size=(trials, count + 1))
    )
    margins = [margin(row[:-1].tolist(), coverage) for row in draws]
    new = np.exp(draws[:, -1])
    over = np.mean([value <= m.upper for value, m in zip(new, margins, strict=True)])
    both = np.mean([m.low <= value <= m.high for value, m in zip(new, margins, strict=True)])
    slack = 3 * math.sqrt(coverage * (1 - coverage) / trials)
    for found, ends in ((over, 1), (both, 2)):
        assert coverage - slack <= found <= coverage + ends / (count + 1) + slack


def test_a_margin_is_an_order_statistic() -> None:
    found = margin([math.log(n) for n in range(1, 20)], 0.9)
    assert found.upper == pytest.approx(18) and found.low == pytest.approx(1)
    assert found.high == pytest.approx(19) and found.interval(2.0).high == pytest.approx(38)


def test_too_few_measurements_give_no_margin() -> None:
    margin([0.0] * 19, 0.9)
    with pytest.raises(UsageError, match=r"at least 19 predictions .* not 18"):
        margin([0.0] * 18, 0.9)
    with pytest.raises(UsageError, match="no number"):
        margin([math.nan] * 19, 0.9)
