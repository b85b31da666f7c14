"""Gradient rules: forward they are rounding, backward they are what the papers say."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from brevitas.core.function_wrapper import TensorClamp
from brevitas.export.inference import quant_inference_mode
from brevitas.nn import QuantLinear
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from flow.qat.formats import ActRounding, Format, Granularity, Numbers, Rule, Scale
from flow.qat.quantizers import Clamp, activation, for_inference, weight_settings
from flow.qat.rules import RuleRound, RuleSign, daq_gain

OF_PAPERS = [rule for rule in Rule if rule is not Rule.STE]
VALUES = st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=20)


def rounding(
    rule: Rule, mode: ActRounding = ActRounding.HALF_EVEN, delta: float = 0.3
) -> RuleRound:
    return RuleRound(rule, mode, -7, 7, delta, 2.0)


def gradient(module: torch.nn.Module, values: Tensor, incoming: Tensor) -> Tensor:
    y = values.clone().requires_grad_()
    (found,) = torch.autograd.grad(module(y), y, incoming)
    return found


# --- forward


@pytest.mark.parametrize("rule", OF_PAPERS)
@given(values=VALUES)
def test_every_rule_rounds_and_clips(rule: Rule, values: list[float]) -> None:
    y = torch.tensor(values)
    nearest = torch.clamp(torch.round(y), -7, 7)
    assert torch.equal(rounding(rule)(y), nearest)
    lower = torch.clamp(torch.floor(y), -7, 7)
    assert torch.equal(rounding(rule, ActRounding.FLOOR)(y), lower)


@pytest.mark.parametrize("rule", Rule)
@given(values=VALUES)
def test_every_rule_takes_the_sign_of_zero_as_one(rule: Rule, values: list[float]) -> None:
    y = torch.tensor([*values, 0.0, -0.0])
    assert torch.equal(RuleSign(rule, 0.1, 2.0)(y), torch.where(y >= 0, 1.0, -1.0))


@given(values=VALUES, low=st.integers(-9, 0), high=st.integers(1, 9))
def test_clamping_is_brevitas_own_with_its_gradients(
    values: list[float], low: int, high: int
) -> None:
    def through(clamp: torch.nn.Module) -> tuple[Tensor, ...]:
        y = torch.tensor([*values, float(low), float(high)], requires_grad=True)
        bounds = [torch.tensor(float(b), requires_grad=True) for b in (low, high)]
        out = clamp(y, *bounds)
        incoming = torch.linspace(-1, 1, len(y))
        return (out, *torch.autograd.grad(out, (y, *bounds), incoming))

    for ours, theirs in zip(through(Clamp()), through(TensorClamp()), strict=True):
        assert torch.equal(ours, theirs)


# --- DAQ


def soft_assignment(f: Tensor, temperature: float, width: float) -> Tensor:
    """DAQ as its paper builds it, for values between the levels 0 and 1."""
    levels = torch.tensor([0.0, 1.0], dtype=f.dtype)
    nearest = (f >= 0.5).to(f.dtype)[:, None]
    scores = torch.exp(-(f[:, None] - levels).abs())
    scores = scores * torch.exp(-((levels - nearest) ** 2) / width**2)
    sharpness = temperature / (scores[:, 0] - scores[:, 1]).abs().detach()
    shares = torch.softmax(sharpness[:, None] * scores, dim=1)
    margin = 1 / (math.exp(temperature) - 1)
    return (shares * torch.tensor([-margin, 1 + margin], dtype=f.dtype)).sum(1)


@pytest.mark.parametrize("width", [1.0, 2.0])
@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
def test_daq_is_its_papers_soft_assignment(temperature: float, width: float) -> None:
    f = torch.linspace(0.001, 0.999, 1000, dtype=torch.float64, requires_grad=True)
    soft = soft_assignment(f, temperature, width)
    assert torch.allclose(soft.detach(), torch.round(f.detach()), atol=1e-12)
    (slope,) = torch.autograd.grad(soft.sum(), f)
    assert torch.allclose(slope, daq_gain(f.detach(), temperature, width), rtol=1e-9)


def test_daq_gain_at_known_points() -> None:
    # T/(2 sinh T) * coth(1/(2 s^2)) half-way, * coth((1 + 1/s^2)/2) on a level.
    gain = daq_gain(torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64), 2.0, 2.0)
    height = 1 / math.sinh(2.0)
    expected = [height / math.tanh(0.625), height / math.tanh(0.125), height / math.tanh(0.625)]
    assert gain.tolist() == pytest.approx(expected, rel=1e-12)


@given(values=VALUES)
def test_daq_scales_the_gradient_inside_and_stops_it_outside(values: list[float]) -> None:
    y = torch.tensor(values)
    inside = (y >= -7) & (y <= 7)
    gain = daq_gain(y - torch.floor(y), 2.0, 2.0)
    found = gradient(rounding(Rule.DAQ), y, torch.ones_like(y))
    assert torch.equal(found, torch.where(inside, gain, torch.zeros_like(gain)))


# --- EWGS


@given(values=VALUES, sign=st.sampled_from([-1.0, 1.0]), delta=st.floats(0, 0.5))
def test_ewgs_is_its_formula(values: list[float], sign: float, delta: float) -> None:
    y = torch.tensor(values)
    g = torch.full_like(y, 3 * sign)
    found = gradient(rounding(Rule.EWGS, delta=delta), y, g)
    scaled = g * (1 + torch.tensor(delta) * torch.sign(g) * (y - torch.round(y)))
    inside = (y >= -7) & (y <= 7)
    assert torch.equal(found, torch.where(inside, scaled, torch.zeros_like(y)))


@given(values=VALUES, g=st.floats(-5, 5, width=32))
def test_ewgs_without_delta_is_straight_through_bit_for_bit(values: list[float], g: float) -> None:
    y = torch.tensor(values)
    incoming = torch.full_like(y, g)
    for make in (lambda rule: rounding(rule, delta=0.0), lambda rule: RuleSign(rule, 0.0, 2.0)):
        straight = gradient(make(Rule.STE_CLIPPED), y, incoming)
        assert torch.equal(gradient(make(Rule.EWGS), y, incoming), straight)
        # negative control: a delta shows wherever a value is not on its code
    off = ((y - torch.round(y)).abs() > 0.01) & (y.abs() < 7) & (incoming.abs() > 1e-6)
    assert not bool((gradient(rounding(Rule.EWGS, delta=0.5), y, incoming) == incoming)[off].any())


@given(values=VALUES)
def test_one_bit_rules_see_the_distance_to_the_sign(values: list[float]) -> None:
    y = torch.tensor(values) / 10
    one, inside = torch.ones_like(y), y.abs() <= 1
    error = y - torch.where(y >= 0, 1.0, -1.0)
    expected = {
        Rule.STE_CLIPPED: one,
        Rule.EWGS: 1 + torch.tensor(0.3) * error,
        Rule.DAQ: daq_gain((y + 1) / 2, 2.0, 2.0),
    }
    for rule, scaled in expected.items():
        found = gradient(RuleSign(rule, 0.3, 2.0), y, one)
        assert torch.equal(found, torch.where(inside, scaled, torch.zeros_like(y)))


# --- formats: what the codes are


def layer(numbers: Numbers, weight: Tensor) -> Any:
    made = QuantLinear(
        weight.shape[1], weight.shape[0], bias=False, **weight_settings(numbers, weight)
    )
    with torch.no_grad():
        made.weight.copy_(weight)
    return made.eval()


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@given(seed=st.integers(0, 1000))
def test_binary_scale_has_the_least_squared_error(seed: int) -> None:
    weight = drawn(4, 9, seed=seed)
    quantized = layer(Numbers(Format.BINARY, 1, True, Scale.PO2), weight).quant_weight()
    signs = torch.where(weight >= 0, 1.0, -1.0)
    assert torch.equal(torch.sign(quantized.value), signs)
    alpha = quantized.scale.reshape(4, 1)
    assert torch.allclose(alpha, weight.abs().mean(1, keepdim=True), rtol=1e-6)
    least = ((weight - alpha * signs) ** 2).sum(1)
    for factor in torch.linspace(0, 2, 41):
        assert bool((least <= ((weight - factor * alpha * signs) ** 2).sum(1) + 1e-5).all())


@pytest.mark.parametrize("rule", Rule)
@pytest.mark.parametrize("granularity", Granularity)
def test_ternary_weights_have_three_codes(rule: Rule, granularity: Granularity) -> None:
    numbers = Numbers(Format.TERNARY, 2, True, Scale.FLOAT, granularity, rule)
    codes = layer(numbers, drawn(8, 50)).quant_weight().int()
    assert sorted(set(codes.flatten().tolist())) == [-1, 0, 1]


def test_q_format_is_what_it_says() -> None:
    numbers = Numbers(Format.FIXED, 16, True, Scale.FLOAT, integer_bits=2, auto_scale=False)
    weight = torch.tensor([[-5.0, -2.0, 2.0**-14, 1.99999, 5.0]])
    quantized = layer(numbers, weight).quant_weight()
    assert float(quantized.scale) == 2.0**-14
    assert quantized.int().tolist() == [[-(2**15), -(2**15), 1, 2**15 - 1, 2**15 - 1]]


@pytest.mark.parametrize(("largest", "step"), [(5.0, 2.0**-12), (0.1, 2.0**-18)])
def test_auto_scale_moves_the_point_by_powers_of_two(largest: float, step: float) -> None:
    weight = torch.tensor([[largest, -largest / 3]])
    numbers = Numbers(Format.FIXED, 16, True, Scale.FLOAT, integer_bits=2)
    quantized = layer(numbers, weight).quant_weight()
    assert float(quantized.scale) == step
    assert torch.allclose(quantized.value, weight, atol=step)


@pytest.mark.parametrize("scale", Scale)
@pytest.mark.parametrize("rounding_mode", ActRounding)
def test_asymmetric_activations_reach_below_zero(scale: Scale, rounding_mode: ActRounding) -> None:
    y = torch.clamp(drawn(1000), -1, 2.5)
    numbers = Numbers(Format.ASYMMETRIC, 4, False, scale, rounding=rounding_mode)
    quantized = activation(numbers, y).eval()(y)
    codes = quantized.int()
    assert 0 < int(quantized.zero_point) < 15
    assert int(codes.min()) == 0 and int(codes.max()) >= (8 if scale is Scale.PO2 else 14)
    steps = 1.0 if rounding_mode is ActRounding.FLOOR else 0.5
    inside = (codes > 0) & (codes < 15)
    assert bool(((quantized.value - y).abs() <= steps * quantized.scale + 1e-6)[inside].all())


def value(y: Any) -> Tensor:
    return y if isinstance(y, Tensor) else y.value


@pytest.mark.parametrize("rule", Rule)
@pytest.mark.parametrize("form", Format)
def test_rules_change_no_code_and_allow_brevitas_inference_mode(form: Format, rule: Rule) -> None:
    bits = {Format.TERNARY: 2, Format.BINARY: 1}.get(form, 4)
    y = drawn(6, 20)
    signed = form not in (Format.INTEGER, Format.ASYMMETRIC)
    start = activation(Numbers(form, bits, signed, Scale.PO2, rule=Rule.STE), y).eval()
    made = activation(Numbers(form, bits, signed, Scale.PO2, rule=rule), y).eval()
    assert torch.equal(made(y).value, start(y).value)
    weights = None
    if form is not Format.ASYMMETRIC:
        weights = layer(Numbers(form, bits, True, Scale.PO2, rule=rule), drawn(5, 20, seed=1))
    network = torch.nn.Sequential(made, *([weights] if weights else []))
    expected = value(network(y))
    for_inference(network)
    assert torch.equal(value(network(y)), expected)
    with torch.no_grad(), quant_inference_mode(network):
        network(y)
        assert torch.allclose(value(network(y)), expected, atol=1e-5)
