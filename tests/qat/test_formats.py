"""Number formats in whole networks: the same integers everywhere, and refusals before training."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from brevitas.export.inference import quant_inference_mode

from flow import ops, oracle
from flow.driver import compile_model
from flow.errors import UsageError
from flow.float_check import compare_all
from flow.float_tools import FloatTool, Runtime
from flow.host import make_host
from flow.importer import import_qonnx
from flow.interp import Interpreter
from flow.near_ties import ROUNDS
from flow.onnx_file import read
from flow.plan import Events, Request
from flow.qat.checkpoint import CHECKPOINT
from flow.qat.formats import (
    Activation,
    ActRounding,
    Format,
    Granularity,
    Rule,
    Scale,
)
from flow.qat.network import frozen
from flow.qat.quantizers import for_inference
from flow.qat.recipe import Conv, Dense, Flatten, MaxPool, Recipe, apply_options
from flow.qat.result import Progress, Reference
from flow.qat.train import train
from flow.qtype import QType
from flow.vectors import make_vectors
from models import MODELS

# One layer of every format: binary in weights and activations behind a binary activation, ternary,
# asymmetric, fixed.
MIXED = Recipe(
    name="mixed",
    data="digits",
    input_shape=(1, 8, 8),
    layers=(
        Conv("conv1", 4, kernel=3, padding=1),
        Conv("conv2", 6, kernel=3, padding=1),
        MaxPool("pool", 2),
        Conv("conv3", 6, kernel=3, padding=1),
        Flatten("flatten"),
        Dense("fc1", 12),
        Dense("fc2", 12),
        Dense("fc3", 10),
    ),
    float_epochs=1,
    epochs=1,
    batch_size=128,
    overrides=(
        ("conv1", "act_format", Format.BINARY),
        ("conv2", "weight_format", Format.BINARY),
        ("conv2", "act_format", Format.BINARY),
        ("conv3", "weight_format", Format.BINARY),
        ("conv3", "act_format", Format.ASYMMETRIC),
        ("fc1", "weight_format", Format.TERNARY),
        ("fc1", "act_format", Format.TERNARY),
        ("fc2", "weight_format", Format.FIXED),
        ("fc2", "weight_bits", 8),
        ("fc2", "act_format", Format.FIXED),
        ("fc2", "act_bits", 8),
    ),
)
SAMPLES = 20  # that float32 is asked for
SETTINGS: list[dict[str, Any]] = [
    {"rule": Rule.STE},
    {"rule": Rule.STE_CLIPPED, "scale": Scale.FLOAT, "granularity": Granularity.CHANNEL},
    {"rule": Rule.EWGS, "rounding": ActRounding.FLOOR, "output_bits": 6},
    {"rule": Rule.EWGS_HESSIAN, "input_format": Format.ASYMMETRIC, "auto_scale": False},
    {"rule": Rule.DAQ, "scale": Scale.FLOAT, "rounding": ActRounding.FLOOR, "output_bits": 8},
]


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: s["rule"].value)
def test_every_rule_and_format_gives_the_same_integers_everywhere(
    setting: dict[str, Any], tmp_path: Path
) -> None:
    """Brevitas, qonnx, the oracle, the interpreter and the C simulation."""
    recipe = dataclasses.replace(MIXED, **setting)
    trained = train(recipe, tmp_path / "training")
    reference = Reference.load(trained.reference)
    file = read(trained.model)
    imported = import_qonnx(file, "net")
    if recipe.output_bits:
        assert imported.graph.output.qtype == QType(recipe.output_bits, signed=True)
    host, interpreter = make_host(imported.head, imported.tail), Interpreter(imported.graph)
    ours = host.dequantize(interpreter.run(host.quantize(reference.x)))
    np.testing.assert_allclose(ours, reference.y, rtol=1e-9, atol=1e-9)  # Brevitas, in float64

    # In float32 a code may fall the other way where the exact value lies that near a boundary,
    # which BatchNorm's constants allow with any scales; everything else is a Mismatch.
    qonnx = FloatTool(Runtime.QONNX, file, imported)
    samples = host.quantize(reference.x[:SAMPLES])
    agreement = compare_all(file, imported, samples, qonnx.trace)
    made = [node.output for node in imported.graph.nodes if isinstance(node.op, ROUNDS)]
    shapes = {value.name: value.shape for value in (*made, imported.graph.output)}
    values = sum(int(np.prod(shape)) for shape in shapes.values())
    assert agreement.vectors == SAMPLES
    assert SAMPLES * values >= agreement.codes >= (SAMPLES - agreement.aside) * values

    codes = make_vectors(imported.graph.input, None)[:100]
    oracle.check(file, imported, codes, interpreter.trace(codes))
    request = Request(str(trained.model), "hls4ml", {}, tmp_path / "out", tmp_path)
    assert compile_model(request, Events()).agreement.matches


@pytest.mark.parametrize("function", [Activation.SIGMOID, Activation.TANH])
def test_functions_are_tables_of_sums(function: Activation, tmp_path: Path) -> None:
    """The same numbers in Brevitas; nothing rounds before the function, and codes are those that it
    can have."""
    recipe = dataclasses.replace(
        MODELS["digits_tanh"](), activation=function, untrained=True, act_bits=5
    )
    trained = train(recipe, tmp_path / "training")
    reference, file = Reference.load(trained.reference), read(trained.model)
    imported = import_qonnx(file, "net")
    kinds = [node.op.name for node in imported.graph.nodes]
    assert kinds == ["dense", "table", "dense", "table", "dense"]
    assert imported.graph.value("fc1_act").qtype == QType(5, signed=function is Activation.TANH)
    host, interpreter = make_host(imported.head, imported.tail), Interpreter(imported.graph)
    ours = host.dequantize(interpreter.run(host.quantize(reference.x)))
    np.testing.assert_allclose(ours, reference.y, rtol=1e-9, atol=1e-9)
    codes = make_vectors(imported.graph.input, None)[:40]
    oracle.check(file, imported, codes, interpreter.trace(codes))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"act_format": "ternary"}, "activation=tanh goes with act_format=integer only"),
        ({"fc1.act_format": "binary"}, "activation=tanh goes with act_format=integer only"),
        ({"rounding": "floor"}, "activation=tanh goes with rounding=half_even only"),
        ({"activation": "gelu"}, "activation must be one of relu, sigmoid, tanh"),
    ],
)
def test_functions_refuse_what_is_made_for_a_relu(options: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        apply_options(MODELS["digits_tanh"](), options)
    assert message in str(raised.value)


def test_a_recipe_of_relus_is_what_it_was() -> None:
    """What was trained before there were other functions stays valid."""
    assert "activation" not in MODELS["digits_mlp"]().to_json()
    assert MODELS["digits_tanh"]().to_json()["activation"] == "tanh"


def test_formats_are_in_the_file(tmp_path: Path) -> None:
    trained = train(dataclasses.replace(MIXED, untrained=True), tmp_path)
    graph = import_qonnx(read(trained.model), "net").graph
    reach = {
        node.name: np.unique(node.op.weight).tolist()
        for node in graph.nodes
        if isinstance(node.op, ops.Conv | ops.Dense) and node.name in ("conv2", "conv3", "fc1")
    }
    assert reach == {"conv2": [-1, 1], "conv3": [-1, 1], "fc1": [-1, 0, 1]}
    value = graph.value("conv3_act")
    assert 0 < value.zero_point < 2**value.qtype.bits
    fixed = graph.value("fc2_act")
    assert fixed.qtype.signed and fixed.qtype.bits == 8


@pytest.mark.parametrize("rule", Rule)
def test_brevitas_inference_mode_gives_the_frozen_networks_answers(rule: Rule) -> None:
    from flow.qat import data
    from flow.qat.network import float_network, quantized_network

    recipe = dataclasses.replace(MIXED, rule=rule)
    x = torch.from_numpy(data.load("digits", recipe.input_shape).test_x[:50])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = quantized_network(recipe, float_network(recipe).eval(), x).eval()
    fixed = frozen(network, x)
    expected = fixed(x)
    for_inference(fixed)
    with torch.no_grad(), quant_inference_mode(fixed):
        fixed(x)
        assert torch.allclose(fixed(x), expected, atol=1e-4)


def test_ewgs_without_delta_trains_to_straight_through_bit_for_bit(tmp_path: Path) -> None:
    files = []
    for setting in ({"rule": Rule.EWGS, "ewgs_delta": 0.0}, {"rule": Rule.STE_CLIPPED}):
        recipe = dataclasses.replace(MIXED, epochs=2, **setting)  # type: ignore[arg-type]
        files.append(train(recipe, tmp_path / str(len(files))).model.read_bytes())
    assert files[0] == files[1]
    other = dataclasses.replace(MIXED, epochs=2, rule=Rule.EWGS, ewgs_delta=0.5)
    assert train(other, tmp_path / "other").model.read_bytes() != files[0]


class Killed(Exception):
    """Stands for whatever ends a run from outside."""


@pytest.mark.parametrize("rule", [Rule.EWGS_HESSIAN, Rule.DAQ])
def test_a_killed_run_of_a_rule_ends_with_the_same_bits(rule: Rule, tmp_path: Path) -> None:
    recipe = dataclasses.replace(MIXED, rule=rule, epochs=12, batch_size=512)
    whole = train(recipe, tmp_path / "whole")

    def kill(now: Progress) -> None:
        if now.phase.value == "quantized" and now.epoch == 5:
            raise Killed

    with pytest.raises(Killed):
        train(recipe, tmp_path / "killed", kill)
    assert (tmp_path / "killed" / CHECKPOINT).exists()
    again = train(recipe, tmp_path / "killed")
    assert again.model.read_bytes() == whole.model.read_bytes()


@pytest.mark.parametrize("scale", Scale)
def test_inputs_below_zero_have_a_zero_point(scale: Scale, tmp_path: Path) -> None:
    # Brevitas' reference once took the codes of such inputs for their values.
    recipe = dataclasses.replace(
        MIXED, untrained=True, standardize=True, input_format=Format.ASYMMETRIC, scale=scale
    )
    trained = train(recipe, tmp_path)
    reference = Reference.load(trained.reference)
    imported = import_qonnx(read(trained.model), "net")
    assert 0 < imported.graph.input.zero_point < 255
    host = make_host(imported.head, imported.tail)
    ours = host.dequantize(Interpreter(imported.graph).run(host.quantize(reference.x)))
    np.testing.assert_allclose(ours, reference.y, rtol=1e-9, atol=1e-9)


# --- refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight_bits": "0"}, "weight_bits must be from 2 to 16, not 0"),
        ({"act_bits": "17"}, "act_bits must be from 2 to 16, not 17"),
        ({"conv1.weight_bits": "17"}, "conv1.weight_bits must be from 2 to 16, not 17"),
        ({"weight_bits": "1"}, "for one bit set weight_format=binary"),
        ({"conv1.act_bits": "1"}, "for one bit set conv1.act_format=binary"),
        ({"input_format": "binary"}, "the first layer is fed with floats"),
        ({"input_bits": "1"}, "the first layer is fed with floats"),
        ({"act_granularity": "channel"}, "add up over channels"),
        ({"rule": "lsq"}, "option rule must be one of ste, ste_clipped, ewgs, ewgs_hessian, daq"),
        ({"weight_format": "asymmetric"}, "must be one of integer, fixed, ternary, binary"),
        ({"fc.act_format": "binary"}, "the last layer has no activation to set"),
        ({"output_bits": "1"}, "output_bits must be from 2 to 16, not 1"),
        ({"output_bits": "17"}, "output_bits must be from 2 to 16, not 17"),
        ({"conv1.weight_format": "octal"}, "option conv1.weight_format must be one of"),
        ({"ewgs_delta": "2"}, "ewgs_delta must be from 0 to 1"),
        ({"integer_bits": "0"}, "integer_bits must be from 1 to 16"),
    ],
)
def test_what_makes_no_network_is_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError) as refused:
        apply_options(MODELS["digits_cnn"](), options)
    assert message in str(refused.value)


def test_options_set_one_layer_over_the_models_own() -> None:
    recipe = apply_options(MODELS["digits_bnn"](), {"conv1.weight_format": "ternary"})
    assert recipe.weights("conv1").format is Format.TERNARY
    assert recipe.weights("conv2").format is Format.BINARY
    assert recipe.bits("conv1", "weight_bits") == 2
