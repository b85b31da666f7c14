"""Bit operations: what is counted, which way the gradient pulls, that learned bits are whole."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from flow.errors import UsageError
from flow.importer import import_qonnx
from flow.onnx_file import read
from flow.ops import Conv, Dense
from flow.qat import data
from flow.qat.bops import Meter, bit_parameters, nonzero
from flow.qat.network import Network, float_network, quantized_network
from flow.qat.recipe import Recipe, apply_options
from flow.qat.train import train
from models import MODELS
from tests.qat.support import CNN


def network_of(recipe: Recipe) -> tuple[Network, torch.Tensor]:
    x = torch.from_numpy(data.load("digits", recipe.input_shape).train_x[:64])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return quantized_network(recipe, float_network(recipe).eval(), x), x


@pytest.mark.parametrize("weight", [0.0, 2.0])
def test_the_count_is_that_of_the_integer_graph(weight: float, tmp_path: Path) -> None:
    result = train(dataclasses.replace(CNN, bops_weight=weight, epochs=4), tmp_path)
    graph = import_qonnx(read(result.model), "net").graph
    constants = {
        t.name: numpy_helper.to_array(t) for t in onnx.load(result.model).graph.initializer
    }
    total = 0
    for node in graph.nodes:
        if not isinstance(node.op, Dense | Conv):
            continue
        positions = int(np.prod(node.output.shape[1:]))
        weights = int(np.count_nonzero(node.op.weight))
        bits = int(constants[f"{node.name}.weight_quant.bits"])
        total += weights * positions * bits * graph.value(node.inputs[0]).qtype.bits
    assert result.bops == total > 0


def test_learned_bits_are_whole_and_fewer(tmp_path: Path) -> None:
    start = train(dataclasses.replace(CNN, untrained=True), tmp_path / "start")
    learned = train(dataclasses.replace(CNN, bops_weight=8.0, epochs=8), tmp_path / "learned")
    assert learned.bops < start.bops
    for before, after in zip(start.costs, learned.costs, strict=True):
        assert 2 <= after.weight_bits <= before.weight_bits
    assert sum(c.weight_bits for c in learned.costs) < sum(c.weight_bits for c in start.costs)


def test_the_gradient_pulls_bits_and_small_weights_down() -> None:
    recipe = dataclasses.replace(CNN, bops_weight=1.0)
    network, x = network_of(recipe)
    meter = Meter(recipe)
    network.values(x, meter.see)
    meter.share().backward()  # type: ignore[no-untyped-call]
    assert bit_parameters(network)
    inner = [p for p in bit_parameters(network) if p.grad is not None]
    assert inner and all(p.grad.item() > 0 for p in inner if p.grad is not None)
    weight = network.get_submodule("conv2").weight
    assert isinstance(weight, torch.Tensor) and weight.grad is not None
    moved = weight.grad != 0
    assert bool(moved.any())
    assert bool((torch.sign(weight.grad) == torch.sign(weight))[moved].all())


def test_bits_have_the_gradient_of_the_equation() -> None:
    """d/db_x of N*P*b_w*b_x is N*P*b_w; b_w also moves the scale, and with it N."""
    recipe = dataclasses.replace(CNN, bops_weight=1.0)
    network, x = network_of(recipe)
    meter = Meter(recipe)
    network.values(x, meter.see)
    costs = {cost.layer: cost for cost in meter.costs}
    inputs = {"conv2": "conv1_act", "fc": "conv2_act"}
    for layer, cost in costs.items():
        module: Any = network.get_submodule(layer)
        (own,) = bit_parameters(module)
        weight = module.quant_weight()
        (moved,) = torch.autograd.grad(nonzero(weight.value, weight.scale), own)
        (slope,) = torch.autograd.grad(meter.terms[layer], own, retain_graph=True)
        fixed = cost.weights * cost.positions * cost.input_bits
        varying = moved.item() * cost.positions * cost.weight_bits * cost.input_bits
        assert slope.item() == pytest.approx(fixed + varying, rel=1e-5)
        if layer in inputs:
            (given,) = bit_parameters(network.get_submodule(inputs[layer]))
            (slope,) = torch.autograd.grad(meter.terms[layer], given, retain_graph=True)
            assert slope.item() == cost.weights * cost.positions * cost.weight_bits


def test_a_network_without_zeros_costs_what_its_shapes_say() -> None:
    network, x = network_of(CNN)
    with torch.no_grad():
        for name in ("conv1", "conv2", "fc"):
            weight: Any = network.get_submodule(name).weight
            weight.copy_(torch.where(weight < 0, -1.0, 1.0) * weight.abs().max())
    meter = Meter(CNN)
    network.values(x, meter.see)
    expected = {"conv1": 36 * 64 * 4 * 6, "conv2": 216 * 4 * 4 * 5, "fc": 240 * 1 * 4 * 5}
    assert {name: term.item() for name, term in meter.terms.items()} == expected
    assert meter.share().item() == pytest.approx(1)


def test_the_share_of_an_unpruned_start_is_at_most_one() -> None:
    network, x = network_of(CNN)
    meter = Meter(CNN)
    network.values(x, meter.see)
    assert 0.5 < meter.share().item() <= 1
    assert sum(c.bops for c in meter.costs) == pytest.approx(
        torch.stack([*meter.terms.values()]).sum().item()
    )


def test_nonzero_counts_exactly() -> None:
    values = torch.tensor([0.0, 0.5, -1.5, 0.0], requires_grad=True)
    count = nonzero(values, torch.tensor(0.5))
    assert count.item() == 2
    (slope,) = torch.autograd.grad(count, values)
    assert slope.tolist() == [0.0, 2.0, 0.0, 0.0]


def test_only_straight_through_learns_bits() -> None:
    with pytest.raises(UsageError, match="learned with rule=ste"):
        apply_options(MODELS["digits_cnn"](), {"bops_weight": "0.1", "rule": "daq"})
