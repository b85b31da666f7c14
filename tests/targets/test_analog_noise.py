"""Simulated noise against closed forms: means and variances, with controls that must fail."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from unittest import mock

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from scipy.linalg import block_diag
from threadpoolctl import threadpool_limits

from flow.interp import Interpreter
from flow.ops import Conv, IntArray
from flow.qtype import QType
from flow.vectors import make_vectors
from targets.analog import crossbar, draws, leakage, together
from targets.analog.build import equip
from targets.analog.converters import Converter
from targets.analog.device import (
    Adc,
    AdcKind,
    Dac,
    DacKind,
    Detector,
    Device,
    Drift,
    Law,
    Optical,
    Per,
    Range,
    Stuck,
    White,
    device_text,
    read_device,
)
from targets.analog.draws import Draw
from targets.analog.engine import Engine, Hardware, Layer
from targets.analog.mapping import Arrays, Scheme
from targets.analog.optical import noisy
from targets.analog.programmed import Compensation, Condition
from tests.targets.analog_nets import (
    codes_of,
    conv_net,
    dense_net,
    graph_of,
    ints,
    layers_of,
    matrix_layer,
)

Floats = NDArray[np.float64]
PCM = replace(read_device("pcm", device_text("pcm")), dac=None, adc=None, conversion=None)
STILL = replace(PCM, flicker=None)
DAY = Condition(86_400.0, compensation=Compensation.NONE)
CHIPS = 3000
OUTPUTS, INPUTS, MOST = 16, 40, 7
WEIGHTS = ints(np.random.default_rng(5), (OUTPUTS, INPUTS), 7)
X = ints(np.random.default_rng(6), (1, INPUTS), MOST)


def readings(
    device: Device,
    condition: Condition,
    chips: Sequence[int],
    x: IntArray = X,
    arrays: Arrays | None = None,
) -> Floats:
    """What the array gives, before its converters: (chips, samples, outputs)."""
    layer = matrix_layer(WEIGHTS, MOST, device, arrays)
    graph = graph_of(codes_of(layer), (INPUTS,), layer.mapped.product.node.op)
    found: list[Floats] = []
    engine = Engine(graph, [layer], Hardware(device, condition, seed=1))
    for start in range(0, len(chips), 500):
        part = chips[start : start + 500]
        engine.follow(x, part, 0, lambda _: False, lambda _, y: found.append(y[:, 0].copy()))
    return np.concatenate(found)


def clamped(mean: Floats, sigma: Floats) -> tuple[Floats, Floats]:
    """First and second moment of max(0, N(mean, sigma^2))."""
    a = mean / sigma
    cdf, pdf = stats.norm.cdf(a), stats.norm.pdf(a)
    return mean * cdf + sigma * pdf, (mean**2 + sigma**2) * cdf + mean * sigma * pdf


def pcm_moments(time_s: float, flickers: bool) -> tuple[Floats, Floats]:
    """Of devices that shall hold levels of 0..7 sevenths of 25 uS, from the laws as published."""
    r = np.arange(8) / 7
    first, second = clamped(25 * r, 0.26348 + 1.9650 * r - 1.1731 * r**2)
    if time_s:
        logs = np.log(np.maximum(r, 1e-7))
        mean = np.clip(-0.0155 * logs + 0.0244, 0.049, 0.1)
        sigma = np.clip(-0.0125 * logs - 0.0059, 0.008, 0.045)
        rate = math.log((time_s + 20) / 20)
        first, second = (m * folded(mean, sigma, n * rate) for n, m in ((1, first), (2, second)))
    if flickers:
        share = np.minimum(0.0088 * np.maximum(r, 1e-7) ** -0.65, 0.2)
        share *= math.sqrt(math.log((time_s + 20 + 250e-9) / (2 * 250e-9)))
        once, twice = clamped(np.ones(8), share)
        first, second = first * once, second * twice
    return first, second - first**2


def folded(mean: Floats, sigma: Floats, rate: float) -> Floats:
    """E[exp(-rate * |N(mean, sigma^2)|)]."""
    half = (rate * sigma) ** 2 / 2
    down = np.exp(half - rate * mean) * stats.norm.cdf(mean / sigma - rate * sigma)
    up = np.exp(half + rate * mean) * stats.norm.cdf(-mean / sigma - rate * sigma)
    found: Floats = down + up
    return found


def expected(first: Floats, variance: Floats) -> tuple[Floats, Floats]:
    """Mean and variance of the outputs, by the moments of devices at levels of sevenths."""
    up, down, x = np.maximum(WEIGHTS, 0), np.maximum(-WEIGHTS, 0), X[0]
    step = 25 / 7
    mean = ((first[up] - first[down]) @ x) / step
    return mean, ((variance[up] + variance[down]) @ x**2) / step**2


def check(found: Floats, mean: Floats, variance: Floats) -> None:
    """Sample mean and variance (n, outputs) inside 95 % bands: of all outputs together, and of as
    many single ones as a binomial of 95 % gives in all but one of 10,000 cases."""
    count, outputs = found.shape
    z = (found.mean(axis=0) - mean) / np.sqrt(variance / count)
    ratio = found.var(axis=0, ddof=1) / variance
    fewest = stats.binom.ppf(1e-4, outputs, 0.95)
    assert (np.abs(z) < 1.96).sum() >= fewest
    assert (z**2).sum() < stats.chi2.ppf(0.95, outputs)
    # The variance of a sample variance has the fourth moment; it is the sample's own here.
    fourth = ((found - found.mean(axis=0)) ** 4).mean(axis=0) / found.var(axis=0) ** 2
    errors = np.sqrt((fourth - 1) / count)
    assert (np.abs(ratio - 1) < 1.96 * errors).sum() >= fewest
    assert abs(ratio.mean() - 1) < 1.96 * math.sqrt((errors**2).sum()) / outputs


@pytest.mark.parametrize(
    ("device", "condition"),
    [
        (STILL, Condition()),
        (STILL, DAY),
        (PCM, Condition()),
        (PCM, DAY),
        (PCM, replace(DAY, time_s=3.15e7)),
    ],
    ids=["programming", "a day's drift", "reading", "a day's drift and reading", "a year's"],
)
def test_pcm_has_the_moments_of_its_laws(device: Device, condition: Condition) -> None:
    found = readings(device, condition, range(CHIPS))[:, 0]
    moments = pcm_moments(condition.time_s, device.flicker is not None)
    check(found, *expected(*moments))


def test_negative_one_programming_for_all_chips_is_seen() -> None:
    """What tutorials do: programming once, then drawing only what comes after it."""
    drawn = draws.stream

    def reused(seed: int, chip: int, *more: object) -> np.random.Generator:
        once = Draw.PROGRAMMING in more
        return drawn(seed, 0 if once else chip, *more)  # type: ignore[arg-type]

    with mock.patch.object(crossbar, "stream", reused):
        found = readings(PCM, DAY, range(CHIPS))[:, 0]
    mean, variance = expected(*pcm_moments(DAY.time_s, True))
    assert (found.var(axis=0) / variance).mean() < 0.9
    with pytest.raises(AssertionError):
        check(found, mean, variance)


def test_negative_another_law_is_seen() -> None:
    assert STILL.programming is not None
    more = replace(STILL.programming, sigma_us=tuple(1.05 * c for c in STILL.programming.sigma_us))
    found = readings(replace(STILL, programming=more), Condition(), range(CHIPS))[:, 0]
    with pytest.raises(AssertionError):
        check(found, *expected(*pcm_moments(0, False)))


def test_the_multiplier_is_of_standard_deviations() -> None:
    found = readings(STILL, Condition(noise=2.0), range(CHIPS))[:, 0]
    r = np.arange(8) / 7
    first, second = clamped(25 * r, 2 * (0.26348 + 1.9650 * r - 1.1731 * r**2))
    check(found, *expected(first, second - first**2))


def test_stuck_devices() -> None:
    device = replace(STILL, programming=None, stuck=Stuck(0.05, 0.02, "test"))
    found = readings(device, Condition(), range(CHIPS))[:, 0]
    g = 25 * np.arange(8) / 7
    first, second = 0.93 * g + 0.02 * 25, 0.93 * g**2 + 0.02 * 25**2
    check(found, *expected(first, second - first**2))


@pytest.mark.parametrize("scheme", [Scheme.DIFFERENTIAL, Scheme.OFFSET])
def test_noise_of_every_product_is_that_of_all_its_devices(scheme: Scheme) -> None:
    """It differs from product to product on one chip; a reference column's is of all outputs."""
    device = replace(STILL, programming=None, white=White(0.4, Per.MVM, "test"))
    x = np.repeat(X, CHIPS, axis=0)
    found = readings(device, Condition(), [3], x, Arrays(64, 64, scheme))[0]
    squares = float((X[0] ** 2).sum())
    if scheme is Scheme.DIFFERENTIAL:
        check(found, WEIGHTS @ X[0], np.full(OUTPUTS, 2 * squares * (0.4 / (25 / 7)) ** 2))
        return
    span = WEIGHTS.max() - WEIGHTS.min()
    one = squares * (0.4 / (25 / span)) ** 2
    covariance = np.cov(found, rowvar=False)
    off = covariance[~np.eye(OUTPUTS, dtype=bool)]
    assert abs(np.diag(covariance).mean() / (2 * one) - 1) < 0.05
    assert abs(off.mean() / one - 1) < 0.05


def test_reading_noise_per_product_or_per_chip() -> None:
    assert PCM.flicker is not None
    device = replace(PCM, programming=None)
    every = replace(device, flicker=replace(PCM.flicker, per=Per.MVM))
    x = np.repeat(X, 50, axis=0)
    assert np.ptp(readings(device, DAY, [0], x), axis=1).max() == 0
    assert np.ptp(readings(every, DAY, [0], x), axis=1).min() > 0


SAMPLES, SIDE = 1500, 2  # of a 3x3 image of one code, whose 2x2 windows are all the same


def products_of(device: Device, chips: Sequence[int], samples: int = SAMPLES) -> Floats:
    """Readings of one convolution: (chips, passes, samples, positions, outputs)."""
    graph = graph_of(QType(3, signed=True), (1, 3, 3), Conv(KERNELS, np.zeros(5, np.int64)))
    layers = layers_of(graph, device)
    found: list[Floats] = []
    engine = Engine(graph, layers, Hardware(device, Condition(), seed=1))
    codes = np.full((samples, 1, 3, 3), CODE)
    engine.follow(codes, chips, 0, lambda _: False, lambda _, y: found.append(y[:, 0].copy()))
    return found[0].reshape(len(chips), -1, samples, SIDE * SIDE, 5)


KERNELS = ints(np.random.default_rng(8), (5, 1, SIDE, SIDE), 7)
CODE = 3
OPTICAL = Optical(15, Law.GAUSSIAN, 0.2, Per.SAMPLE, "test")
DRAWN = {
    "white": (replace(STILL, programming=None, white=White(0.4, Per.SAMPLE, "test")), 2 * 0.4**2),
    "optical": (
        replace(
            read_device("photonic", device_text("photonic")),
            weight=OPTICAL,
            input=None,
            detector=None,
        ),
        leakage.gaussian_sigma(0.2, 15) ** 2,
    ),
}


def drawn_per(name: str, per: Per) -> tuple[Device, float]:
    """The device, and the variance of a weight in squares of the integers' steps."""
    device, variance = DRAWN[name]
    largest = int(np.abs(KERNELS).max())
    if name == "optical":
        return replace(device, weight=replace(OPTICAL, per=per)), variance * largest**2
    assert device.white is not None
    return replace(device, white=replace(device.white, per=per)), variance * (largest / 25) ** 2


@pytest.mark.parametrize("name", list(DRAWN))
def test_draws_of_samples_are_shared_by_their_products(name: str) -> None:
    """Over samples they vary by all devices' errors; a sample's positions are wrong by the same."""
    device, each = drawn_per(name, Per.SAMPLE)
    found = products_of(device, [3])[0, 0]
    variance = CODE**2 * SIDE**2 * each
    assert np.ptp(found, axis=1).max() < 1e-6 < np.ptp(found[:, 0], axis=0).min()
    exact = CODE * KERNELS.reshape(5, -1).sum(axis=1)
    if name == "white":
        check(found[:, 0], exact, np.full(5, variance))
    else:
        assert abs(found[:, 0].var(axis=0, ddof=1).mean() / variance - 1) < 0.06


@pytest.mark.parametrize("name", list(DRAWN))
def test_draws_of_products_are_their_own(name: str) -> None:
    device, each = drawn_per(name, Per.MVM)
    found = products_of(device, [3])[0, 0]
    variance = CODE**2 * SIDE**2 * each
    assert abs(found.var(axis=0, ddof=1).mean() / variance - 1) < 0.04
    together = np.corrcoef(found[:, :, 0], rowvar=False)[~np.eye(SIDE * SIDE, dtype=bool)]
    assert np.abs(together).max() < 4 / math.sqrt(SAMPLES)


def test_draws_of_chips_are_the_same_for_all_samples() -> None:
    """And vary from chip to chip as those of samples do from sample to sample."""
    device, each = drawn_per("optical", Per.CHIP)
    found = products_of(device, range(1500), 3)[:, 0]
    assert np.ptp(found, axis=(1, 2)).max() == 0
    variance = CODE**2 * SIDE**2 * each
    assert abs(found[:, 0, 0].var(axis=0, ddof=1).mean() / variance - 1) < 0.06
    # A device's errors of two chips, of two samples of one, are independent.
    device, _ = drawn_per("optical", Per.SAMPLE)
    chips = products_of(device, range(2))[:, 0, :, 0, 0]
    assert abs(np.corrcoef(chips)[0, 1]) < 4 / math.sqrt(SAMPLES)


@pytest.mark.parametrize("per", [Per.SAMPLE, Per.MVM])
def test_passes_share_the_errors_of_their_sample(per: Per) -> None:
    """Of codes that are applied bit by bit: shifted and added, shared errors are those of the whole
    code, others those of its bits; the readings of row blocks are added."""
    serial = Dac(DacKind.BIT_SERIAL, 1, "test")
    device = replace(STILL, programming=None, white=White(0.4, per, "test"), dac=serial)
    layer = matrix_layer(WEIGHTS, MOST, device, Arrays(17, 64, Scheme.DIFFERENTIAL))
    graph = graph_of(codes_of(layer), (INPUTS,), layer.mapped.product.node.op)
    fine = replace(layer, converter=Converter(step=2.0**-20))
    engine = Engine(graph, [fine], Hardware(device, Condition(), 1))
    x = np.repeat(X, SAMPLES, axis=0)
    found = engine.run(x, [0])[0].astype(np.float64)
    bits, weights = layer.drive.applied(X).reshape(-1, INPUTS), layer.drive.weights
    squares = float((X**2).sum()) if per is Per.SAMPLE else float(weights**2 @ bits.sum(axis=1))
    variance = 2 * squares * (0.4 / (25 / 7)) ** 2 + 1 / 12  # the sum is rounded
    assert abs(found.var(axis=0, ddof=1).mean() / variance - 1) < 4 * math.sqrt(
        2 / (SAMPLES * OUTPUTS)
    )


def test_samples_draws_do_not_depend_on_how_many_are_drawn_at_a_time() -> None:
    device, _ = drawn_per("white", Per.SAMPLE)
    together = products_of(device, range(3), 50)
    with mock.patch("targets.analog.engine.DRAWN", 3 * SIDE**2 * 5 + 1):
        assert np.array_equal(products_of(device, range(3), 50), together)
    assert np.array_equal(products_of(device, [2], 50)[0], together[2])
    assert np.array_equal(products_of(device, [0], 20)[0], together[0, :, :20])


@pytest.mark.parametrize("compensation", list(Compensation))
def test_compensation_takes_back_what_all_devices_lost(compensation: Compensation) -> None:
    """Where all devices drift alike, a tile's readings get smaller by one factor."""
    same = Drift(20.0, (0.05, 0.0), (0.05, 0.05), (0.0, 0.0), (0.0, 0.0), "test")
    device = replace(STILL, drift=same)
    condition = Condition(86_400.0, compensation=compensation)
    lost = ((86_400 + 20) / 20) ** -0.05
    before = readings(device, Condition(), range(4))
    assert np.allclose(readings(device, condition, range(4)), lost * before, rtol=1e-9)
    layer = matrix_layer(WEIGHTS, MOST, device)
    graph = graph_of(codes_of(layer), (INPUTS,), layer.mapped.product.node.op)
    fine = replace(layer, converter=Converter(step=2.0**-20))

    def outputs(at: Condition) -> IntArray:
        return Engine(graph, [fine], Hardware(device, at, 1)).run(X, range(4))

    gone = np.abs(outputs(condition) - outputs(Condition())).max()
    assert gone <= 1 if compensation is not Compensation.NONE else gone > 10


def test_converters_errors() -> None:
    """Zeros are a chip's, noise is a conversion's; both on top of rounding."""
    adc = Adc(AdcKind.SAR, 12, Range.FULL, 1.5, 0.8, "test")
    device = replace(STILL, programming=None, drift=None, adc=adc)
    layer = matrix_layer(WEIGHTS, MOST, device)
    graph = graph_of(codes_of(layer), (INPUTS,), layer.mapped.product.node.op)
    assert layer.converter.step == 1.0
    x = np.repeat(X, 100, axis=0)
    found = Engine(graph, [layer], Hardware(device, Condition(), 1)).run(x, range(200))
    errors = found - WEIGHTS @ X[0]
    within, between = errors.var(axis=1, ddof=1).mean(), errors.mean(axis=1).var(ddof=1)
    assert abs(within / (0.8**2 + 1 / 12) - 1) < 0.02
    assert abs(between / (1.5**2 + within / 100) - 1) < 2 * math.sqrt(2 / (200 * OUTPUTS))


# photonics -------------------------------------------------------------------------------------

PHOTONIC = read_device("photonic", device_text("photonic"))


@pytest.mark.parametrize("precision", [4, 15, 64])
@pytest.mark.parametrize("share", [0.05, 0.2, 0.5, 0.8])
def test_leakage_is_the_share_beyond_half_a_step(precision: int, share: float) -> None:
    half = 1 / (2 * precision)
    sigma = leakage.gaussian_sigma(share, precision)
    assert 2 * stats.norm.sf(half / sigma) == pytest.approx(share, abs=1e-6)
    scale = leakage.laplacian_scale(share, precision)
    assert 2 * stats.laplace.sf(half / scale) == pytest.approx(share, abs=1e-6)


@pytest.mark.parametrize("precision", [4, 15, 64])
@pytest.mark.filterwarnings("ignore:To copy construct:UserWarning")  # theirs
def test_leakage_is_that_of_analogvnn(precision: int) -> None:
    """Where its package is installed; it computes in float32."""
    pytest.importorskip("analogvnn", reason="pip install 'bitwright[oracles]': AnalogVNN")
    gaussian, laplacian, poisson = (
        getattr(importlib.import_module(f"analogvnn.nn.noise.{name}"), name)
        for name in ("GaussianNoise", "LaplacianNoise", "PoissonNoise")
    )
    for share in (0.05, 0.2, 0.5, 0.8):
        sigma = float(gaussian(leakage=share, precision=precision).std)
        assert sigma == pytest.approx(leakage.gaussian_sigma(share, precision), abs=1e-6)
        scale = float(laplacian(leakage=share, precision=precision).scale)
        assert scale == pytest.approx(leakage.laplacian_scale(share, precision), abs=1e-6)
    rate = leakage.poisson_rate(0.5, precision)
    found = poisson.calc_max_leakage(rate / precision, precision)
    assert found == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize(("precision", "share"), [(4, 0.5), (15, 0.3), (64, 0.05)])
def test_poisson_rate(precision: int, share: float) -> None:
    """Of whole counts the share is as near as one count more or less can bring it."""
    rate = leakage.poisson_rate(share, precision)
    half = rate / (2 * precision)
    inside = stats.poisson.cdf(rate + half, rate) - stats.poisson.cdf(rate - half, rate)
    one = 2 * stats.poisson.pmf(int(rate + half), rate)
    assert abs(1 - inside - share) < one


@pytest.mark.parametrize("law", list(Law))
def test_laws_have_their_variance(law: Law) -> None:
    by = np.random.default_rng(0)
    parameter = 200.0 if law is Law.POISSON else 0.05
    for value, times in ((0.7, 1.0), (-0.3, 2.0)):
        found = noisy(np.full((1, 200_000), value), law, parameter, times, [by])
        variance = {
            Law.GAUSSIAN: 0.05**2,
            Law.LAPLACIAN: 2 * 0.05**2,
            Law.POISSON: abs(value) / 200,
        }[law] * times**2
        assert abs(found.mean() - value) < 4 * math.sqrt(variance / 200_000)
        assert abs(found.var() / variance - 1) < 0.03


def test_optical_products_have_the_variance_of_three_noises() -> None:
    """s_w^2 x.x + s_x^2 w.w + N s_w^2 s_x^2, with weights per chip and inputs per product."""
    weight, given = (
        replace(PHOTONIC.weight, precision=7, leakage=0.3),  # type: ignore[type-var]
        Optical(7, Law.GAUSSIAN, 0.1, Per.MVM, "test"),
    )
    device = replace(PHOTONIC, weight=weight, input=given, detector=None)
    found = readings(device, Condition(), range(CHIPS))[:, 0] / 49
    x, w = X[0] / 7, WEIGHTS / 7
    sw, sx = leakage.gaussian_sigma(0.3, 7), leakage.gaussian_sigma(0.1, 7)
    variance = sw**2 * (x @ x) + sx**2 * (w**2).sum(axis=1) + INPUTS * sw**2 * sx**2
    # Outputs share the inputs' noise: only their mean ratio is compared, with a wide band.
    ratio = found.var(axis=0, ddof=1) / variance
    assert np.abs(ratio - 1).max() < 4 * math.sqrt(2 / CHIPS)
    z = (found.mean(axis=0) - w @ x) / np.sqrt(variance / CHIPS)
    assert np.abs(z).max() < 4
    once = readings(replace(device, input=None), Condition(), [0], np.repeat(X, 9, axis=0))
    assert np.ptp(once, axis=1).max() == 0
    every = readings(replace(device, weight=None), Condition(), [0], np.repeat(X, 9, axis=0))
    assert np.ptp(every, axis=1).min() > 0


TOGETHER = replace(
    PHOTONIC,
    weight=None,
    input=Optical(7, Law.GAUSSIAN, 0.1, Per.MVM, "test"),
    detector=Detector(127, Law.GAUSSIAN, 0.1, Range.FULL, "test"),
)


def _kernels(groups: int) -> IntArray:
    """Of twelve outputs, two and two alike, so that they share the noise of inputs."""
    made = ints(np.random.default_rng(9), (12, 4 // groups, 3, 3), 5)
    made[1::2] = made[::2] + ints(np.random.default_rng(10), made[::2].shape, 2)
    return made


def _noise_together(device: Device, groups: int, rows: int) -> tuple[Floats, Floats]:
    """What readings of a chip are off by (products, row blocks * groups * readings), and the
    covariance that inputs' and detectors' noise give them."""
    kernels = _kernels(groups)
    op = Conv(kernels, np.zeros(12, np.int64), groups=groups)
    graph = graph_of(QType(4, signed=True, narrow=True), (4, 6, 6), op)
    (layer,) = layers_of(graph, device, Arrays(rows, 64, Scheme.SIGNED))
    codes = ints(np.random.default_rng(3), (400, 4, 6, 6), 7)
    seen: dict[bool, list[Floats]] = {False: [], True: []}
    for noise in (False, True):
        engine = Engine(graph, [layer], Hardware(device, Condition(noise=float(noise)), 1))
        engine.follow(
            codes, [3], 0, lambda _: False, lambda _, y, n=noise: seen[n].append(y[0].copy())
        )
    off = [b - a for a, b in zip(seen[False], seen[True], strict=True)]
    found = np.concatenate([part.transpose(1, 0, 2).reshape(6400, -1) for part in off], axis=1)
    sigma = 7 * leakage.gaussian_sigma(0.1, 7)
    assert device.detector is not None
    read = layer.converter.step * device.detector.precision * leakage.gaussian_sigma(0.1, 127)
    weights = kernels.reshape(groups, 12 // groups, -1)
    inputs = weights.shape[-1]
    blocks = [weights[..., a : a + rows] for a in range(0, inputs, rows)]
    parts = [sigma**2 * w @ w.T + read**2 * np.eye(len(w)) for block in blocks for w in block]
    return found, block_diag(*parts)


def _check_covariance(found: Floats, covariance: Floats) -> None:
    """Every entry within 5 of its standard errors, those of normal numbers."""
    made = np.cov(found, rowvar=False)
    variance = np.diag(covariance)
    errors = np.sqrt((np.outer(variance, variance) + covariance**2) / len(found))
    assert (np.abs(made - covariance) < 5 * errors).all()
    assert (np.abs(found.mean(axis=0)) < 5 * np.sqrt(variance / len(found))).all()
    whole = np.linalg.solve(np.linalg.cholesky(covariance), found.T)
    assert stats.kstest(whole.ravel(), "norm").pvalue > 1e-4


@pytest.mark.parametrize(("groups", "rows"), [(1, 64), (2, 64), (1, 20)])
def test_noise_of_inputs_and_sums_has_their_covariance(groups: int, rows: int) -> None:
    """Drawn together, it is what both are: outputs of one input err alike."""
    found, covariance = _noise_together(TOGETHER, groups, rows)
    shared = covariance - np.diag(np.diag(covariance))
    assert np.abs(shared).max() > 0.3 * np.diag(covariance).max()
    _check_covariance(found, covariance)


def test_negative_sums_that_err_by_themselves_are_seen() -> None:
    """Of the right variance, but each with an error of its own."""

    def alone(weights: Floats, given: float, read: float) -> Floats:
        found = together_factors(weights, given, read)
        deviations = np.sqrt((found**2).sum(axis=-2))
        return np.eye(found.shape[-1]) * deviations[..., None, :]

    together_factors = together.factors
    with mock.patch.object(together, "factors", alone):
        found, covariance = _noise_together(TOGETHER, 1, 64)
    assert np.allclose(found.var(axis=0) / np.diag(covariance), 1, atol=0.1)
    with pytest.raises(AssertionError):
        _check_covariance(found, covariance)


@pytest.mark.parametrize(
    "device",
    [
        replace(TOGETHER, detector=replace(TOGETHER.detector, noise=Law.LAPLACIAN)),  # type: ignore[type-var]
        replace(TOGETHER, input=replace(TOGETHER.input, noise=Law.LAPLACIAN)),  # type: ignore[type-var]
        replace(TOGETHER, weight=OPTICAL),
        replace(TOGETHER, weight=replace(OPTICAL, per=Per.MVM)),
        replace(TOGETHER, detector=None),
        replace(TOGETHER, detector=replace(TOGETHER.detector, leakage=0.0)),  # type: ignore[type-var]
    ],
    ids=["laplacian sums", "laplacian inputs", "by sample", "by product", "no sums", "exact sums"],
)
def test_other_noise_is_drawn_apart(device: Device) -> None:
    """A draw that is of normal numbers, or of fixed weights, has no part in it."""

    def never(*_: object) -> Floats:
        raise AssertionError

    graph = conv_net(2)
    layers = layers_of(graph, device)
    codes = make_vectors(graph.input, None)[:20]
    with mock.patch.object(together, "drawn", never):
        found = Engine(graph, layers, Hardware(device, Condition(), 1)).run(codes, range(2))
    assert not np.array_equal(found[0], found[1])
    with mock.patch.object(together, "drawn", never), pytest.raises(AssertionError):
        Engine(graph, layers_of(graph, TOGETHER), Hardware(TOGETHER, Condition(), 1)).run(
            codes, [0]
        )


@pytest.mark.parametrize("scale", [1e-6, 1.0, 2.0**20, 2.0**37])
def test_sums_of_one_draw_are_exact(scale: float) -> None:
    """So that no order of adding, of which BLAS has several, makes others of them."""
    weights = scale * ints(np.random.default_rng(2), (2, 1, 40, 24), 99).astype(np.float64)
    made = together.factors(weights, 0.3, 2.0 * scale)
    found = together.drawn(made, 3, [draws.stream(0, c, 0, 0, Draw.INPUT) for c in (0, 1)])
    streams = [draws.stream(0, c, 0, 0, Draw.INPUT) for c in (0, 1)]
    numbers = np.rint(draws.normals(streams, (1, 3, 24), 2.0**14))
    for chip in (0, 1):
        for sample, reading in ((0, 0), (1, 7), (2, 23)):
            pairs = zip(numbers[chip, 0, sample], made[chip, 0, :, reading], strict=True)
            whole = sum(Fraction(float(a)) * Fraction(float(b)) for a, b in pairs)
            assert found[chip, 0, sample, reading] == whole != 0


def test_one_draw_is_made_only_where_it_is_as_good() -> None:
    """Not where sums outnumber inputs, nor where their own errors drown."""
    assert together.fits(4, 3, 7.0, 0.1, 0.1)
    assert not together.fits(3, 4, 7.0, 0.1, 0.1)
    assert not together.fits(4, 3, 7.0, 1.0, 1e-4)
    assert not together.fits(4, 3, 7.0, 0.0, 0.1)


def test_normal_numbers_are_normal() -> None:
    """By moments and by their whole distribution; of any stream, alone and with others."""
    streams = [draws.stream(0, chip, 1, 2, Draw.WHITE) for chip in range(40)]
    found = draws.normals(streams, (50_000,)).astype(np.float64)
    count = found.size
    for power, moment in enumerate((0, 1, 0, 3, 0, 15), start=1):
        spread = math.sqrt((math.prod(range(1, 2 * power, 2)) - moment**2) / count)
        assert abs((found**power).mean() - moment) < 4 * spread
    assert stats.kstest(found.ravel(), "norm").pvalue > 1e-3
    assert np.abs(np.corrcoef(found)[~np.eye(40, dtype=bool)]).max() < 5 / math.sqrt(50_000)
    for lag in (1, 2, 3):
        product = (found[:, lag:] * found[:, :-lag]).mean()
        assert abs(product) < 4 / math.sqrt(count)
        squares = (found[:, lag:] ** 2 * found[:, :-lag] ** 2).mean()
        assert abs(squares - 1) < 4 * math.sqrt(8 / count)


@pytest.mark.parametrize("count", [0, 1, 2, 7, 1000])
def test_a_streams_numbers_do_not_depend_on_how_many_are_asked_for(count: int) -> None:
    def some(
        chips: Sequence[int], shape: tuple[int, ...], scale: float = 1.0
    ) -> NDArray[np.float32]:
        return draws.normals([draws.stream(3, c, 1, 0, Draw.WHITE) for c in chips], shape, scale)

    together = some(range(5), (1500,))
    with mock.patch.object(draws, "BLOCK", 600):
        assert np.array_equal(some([4, 2], (count,)), together[[4, 2], :count])
    assert np.array_equal(some([1], (2, 3, 250))[0].ravel(), together[1])
    assert np.array_equal(some([1], (9,), 4.0)[0], 4 * together[1, :9])


def test_optical_precision_rounds_and_clamps() -> None:
    weight = Optical(2, Law.GAUSSIAN, 0.0, Per.CHIP, "test")
    device = replace(PHOTONIC, weight=weight, input=None, detector=None)
    found = readings(device, Condition(), [0])[0, 0]
    assert np.allclose(found, (np.rint(WEIGHTS / 7 * 2) / 2 * 7) @ X[0])


# what a chip is ----------------------------------------------------------------------------------


NOISY = replace(
    read_device("rram", device_text("rram")),
    stuck=Stuck(0.02, 0.02, "test"),
    adc=Adc(AdcKind.SAR, 6, Range.FULL, 0.5, 0.5, "test"),
)


def _engine(device: Device, arrays: Arrays | None = None, seed: int = 4) -> Engine:
    graph = conv_net(2)
    return Engine(graph, layers_of(graph, device, arrays), Hardware(device, Condition(), seed))


@pytest.mark.parametrize(
    ("device", "arrays"),
    [
        (NOISY, None),
        (NOISY, Arrays(7, 9, Scheme.OFFSET)),
        (replace(PCM, adc=NOISY.adc), Arrays(9, 10, Scheme.BIT_SLICED)),
        (PHOTONIC, None),
        (replace(NOISY, white=White(0.4, Per.SAMPLE, "test")), Arrays(7, 9, Scheme.OFFSET)),
    ],
    ids=["differential", "offset", "bit sliced", "photonic", "by sample"],
)
def test_a_chip_is_the_same_in_any_company(device: Device, arrays: Arrays | None) -> None:
    codes = make_vectors(conv_net(2).input, None)[:20]
    together = _engine(device, arrays).run(codes, range(6))
    shuffled = _engine(device, arrays).run(codes, [4, 1, 5])
    assert np.array_equal(shuffled, together[[4, 1, 5]])
    with threadpool_limits(1):
        alone = _engine(device, arrays).run(codes, [3])
    assert np.array_equal(alone[0], together[3])
    assert len(np.unique(together.reshape(6, -1), axis=0)) == 6
    other = _engine(device, arrays, seed=5).run(codes, range(6))
    assert not np.array_equal(other, together)


def test_draws_are_of_their_tile_layer_and_use() -> None:
    """No two streams are one."""
    keys = [
        (seed, chip, layer, tile, draw, batch)
        for seed in (0, 1)
        for chip in (0, 1)
        for layer in (0, 1)
        for tile in (0, 1)
        for draw in Draw
        for batch in (0, 1)
    ]
    first = {draws.stream(*key).integers(1 << 62) for key in keys}
    assert len(first) == len(keys)


def test_no_noise_is_no_noise() -> None:
    """At the multiplier 0, right after programming, every chip of a noisy device is exact."""
    graph = dense_net()
    codes = make_vectors(graph.input, None)[:50]
    for device in (
        PCM,
        replace(read_device("rram", device_text("rram")), adc=None, conversion=None),
    ):
        layers = equip({layer.number: layer.mapped for layer in layers_of(graph)}, device, {})
        found = Engine(graph, layers, Hardware(device, Condition(noise=0.0))).run(codes, range(2))
        assert np.array_equal(found[1], Interpreter(graph).run(codes))


def test_common_layers() -> None:
    """What a layer draws does not depend on which others are on arrays."""
    graph = dense_net()
    both: tuple[Layer, ...] = layers_of(graph, PCM)
    codes = make_vectors(graph.input, None)[:5]
    seen: dict[int, list[Floats]] = {0: [], 1: []}
    for number, layers in enumerate((both, both[:1])):
        engine = Engine(graph, layers, Hardware(PCM, DAY, 2))
        engine.follow(
            codes, [0], 0, lambda _: False, lambda _, y, n=number: seen[n].append(y.copy())
        )
    assert np.array_equal(seen[0][0], seen[1][0])
