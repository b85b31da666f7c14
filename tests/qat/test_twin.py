"""How far each layer is from the float twin: against the integer network, layer by layer."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from flow.host import make_host
from flow.importer import import_qonnx
from flow.interp import Interpreter
from flow.onnx_file import read
from flow.qat import data
from flow.qat.export import export
from flow.qat.network import Network, float_network, quantized_network
from flow.qat.recipe import Dense, Recipe, apply_options
from flow.qat.result import TRAINING, TwinError, finished
from flow.qat.train import train
from flow.qat.twin import twin_errors
from tests.qat.support import CNN, MLP, RESNET

SAMPLES = 60


def networks(recipe: Recipe) -> tuple[Network, Network]:
    """A float twin whose BatchNorms have seen data, and the quantized network made of it."""
    x = torch.from_numpy(data.load(recipe.data, recipe.input_shape).train_x)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        twin = float_network(recipe)
        for module in twin.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.3)
        twin.train()(x)
        return twin.eval(), quantized_network(recipe, twin.eval(), x).eval()


def places(twin: Network, x: torch.Tensor) -> dict[str, NDArray[np.float64]]:
    """What each module of the twin itself gives, its BatchNorms not merged."""
    with torch.no_grad():
        return {name: value.double().numpy() for name, value in twin.values(x).items()}


@pytest.mark.parametrize(
    ("recipe", "options", "pairs"),
    [
        (MLP, {}, {"fc1_act": "fc1_act", "fc2": "fc2"}),
        (
            RESNET,
            {"scale": "float", "granularity": "channel"},
            {
                **{name: name for name in ("conv1_act", "add1_act", "add2_act", "fc")},
                # Quantized without a ReLU: in the twin the BatchNorm's output stands there.
                **{f"{name}_act": f"{name}_bn" for name in ("conv2", "conv3", "shortcut")},
                "pool_act": "pool",
            },
        ),
        (CNN, {"rounding": "floor"}, {"conv1_act": "conv1_act", "pool": "pool", "fc": "fc"}),
        (
            CNN,
            {"weight_format": "binary", "act_format": "binary", "fc.weight_format": "integer"},
            {"conv1": "conv1", "conv1_act": "conv1_act", "conv2": "conv2", "fc": "fc"},
        ),
    ],
    ids=["mlp", "resnet", "floor", "binary"],
)
def test_the_error_is_the_integer_network_s(
    recipe: Recipe, options: dict[str, str], pairs: dict[str, str], tmp_path: Path
) -> None:
    recipe = apply_options(recipe, options)
    twin, network = networks(recipe)
    split = data.load(recipe.data, recipe.input_shape)
    x = torch.from_numpy(split.test_x[:SAMPLES])
    found = {error.module: error.share for error in twin_errors(recipe, twin, network, x)}

    imported = import_qonnx(read(export(network, recipe, split, tmp_path)), "net", None)
    graph = imported.graph
    codes = make_host(imported.head, imported.tail).quantize(split.test_x[:SAMPLES])
    trace = Interpreter(graph).trace(codes)
    wanted = places(twin, x)
    made = {node.name: node.output for node in graph.nodes}
    for name, place in pairs.items():
        value, exact = made[name], wanted[place]
        scale = np.array([float(s) for s in value.scale]).reshape(-1, *[1] * (exact.ndim - 2))
        real = (trace[value.name] - value.zero_point) * scale
        share = np.sqrt(np.mean((real - exact) ** 2) / np.mean(exact**2))
        assert found[name] == pytest.approx(share, rel=1e-4), name
        assert share > 1e-3, name


def test_more_bits_are_nearer() -> None:
    shares = []
    for bits in (4, 8):
        # The biases of this twin are large: at 8 by 8 bits 16 would clip them.
        plain = dataclasses.replace(MLP, overrides=(), input_bits=8, bias_bits=24)
        recipe = dataclasses.replace(plain, weight_bits=bits, act_bits=bits)
        twin, network = networks(recipe)
        x = torch.from_numpy(data.load(MLP.data, MLP.input_shape).test_x[:SAMPLES])
        before = {name: value.clone() for name, value in network.state_dict().items()}
        shares.append([error.share for error in twin_errors(recipe, twin, network, x)])
        after = network.state_dict()
        assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(few > 4 * many > 0 for few, many in zip(*shares, strict=True))


def test_where_the_twin_is_silent_there_is_no_share() -> None:
    recipe = dataclasses.replace(MLP, layers=(Dense("fc1", 4), Dense("fc2", 10)), overrides=())
    twin, network = networks(recipe)
    with torch.no_grad():
        twin.get_submodule("fc1_bn").bias.fill_(-1e6)
    found = twin_errors(recipe, twin, network, torch.zeros(2, 64))
    assert TwinError("fc1_act", None) in found


def test_a_training_tells_it(tmp_path: Path) -> None:
    recipe = dataclasses.replace(MLP, untrained=True)
    result = train(recipe, tmp_path)
    assert [error.module for error in result.twin_errors] == ["fc1", "fc1_act", "fc2"]
    assert result.twin_samples == 128
    assert finished(recipe, tmp_path) == result
    # What was trained before it was measured is still finished.
    path = tmp_path / TRAINING
    lines = path.read_text().replace('"twin_errors"', '"x"').replace('"twin_samples"', '"y"')
    path.write_text(lines)
    older = finished(recipe, tmp_path)
    assert older is not None
    assert (older.twin_errors, older.twin_samples) == ((), 0)
