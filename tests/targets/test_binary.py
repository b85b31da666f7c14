"""hls4ml's 1-bit products: exact where they are used, wrong where they are not, and said."""

from __future__ import annotations

import dataclasses
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from flow.graph import Graph
from flow.importer import import_qonnx
from flow.interp import Interpreter
from flow.onnx_file import read
from flow.ops import Add, Concat, Conv, Dense, Flatten, IntArray, MaxPool, Op, Requant, Threshold
from flow.qat.train import train
from flow.qtype import QType
from flow.vectors import make_vectors
from models import MODELS
from targets.hls4ml import binary, choice
from targets.hls4ml.binary import Product, luts
from targets.hls4ml.layers import Layer
from targets.hls4ml.lower import lower
from targets.hls4ml.target import Hls4ml
from tests.conformance.cases import _graph, _ints, _requant
from tests.targets.test_backends import build, built

RNG = np.random.default_rng(11)
INPUT = QType(4, signed=True)
XNOR, WEIGHTS, DATA = Product.XNOR, Product.SIGN_WEIGHT, Product.SIGN_DATA


def signs(*shape: int) -> IntArray:
    return RNG.choice([-1, 1], shape).astype(np.int64)


def sign(channels: int) -> Threshold:
    return Threshold(_ints(RNG, (channels, 1), -3, 4), np.array([-1, 1]))


def net() -> Graph:
    """Every product: binary weights on integers; XNOR of odd and even length, with odd and even
    biases, and a pool between; integer weights on bits."""
    return _chain(
        (2, 7, 7),
        Conv(signs(3, 2, 2, 2), _ints(RNG, (3,))),
        sign(3),
        Conv(signs(4, 3, 3, 3), _ints(RNG, (4,), -3, 3)),
        sign(4),
        MaxPool((2, 2), (2, 2)),
        Flatten(),
        Dense(signs(5, 16), 2 * _ints(RNG, (5,), -1, 1)),
        sign(5),
    )


def _chain(shape: tuple[int, ...], *ops: Op) -> Graph:
    return _graph(INPUT, shape, *((op, (place,)) for place, op in enumerate(ops)))


def products(layers: list[Layer]) -> list[Product | None]:
    return [layer.choice and layer.choice.product for layer in layers if layer.inputs]


@pytest.mark.parametrize(
    "options",
    [
        {"backend": "Vivado", "strategy": "resource", "io_type": "io_stream", "reuse_factor": "4"},
        {"backend": "Vitis"},
    ],
    ids=lambda options: options["backend"],
)
def test_one_bit_products_are_exact_layer_by_layer(tmp_path: Path, options: dict[str, str]) -> None:
    graph = net()
    target = built(graph, tmp_path, **options)
    expected = [WEIGHTS, XNOR, XNOR, DATA]
    assert products(target._lowered(graph).layers) == expected
    types = (tmp_path / "project" / "firmware" / "defines.h").read_text()
    assert len(re.findall(r"typedef ap_uint<1> n\d+_weight_t", types)) == 3
    parameters = (tmp_path / "project" / "firmware" / "parameters.h").read_text()
    for product, times in (("both_binary", 2), ("weight_binary", 1), ("data_binary", 1)):
        assert parameters.count(f"nnet::product::{product}<") == times


def test_without_its_rules_xnor_would_be_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: padding counts as -1, and from a depthwise count hls4ml takes the length of
    a full convolution."""
    padded = Conv(signs(2, 3, 3, 3), np.zeros(2, np.int64), pads=(1, 1, 1, 1))
    depthwise = Conv(signs(3, 1, 3, 3), np.zeros(3, np.int64), groups=3)
    graph = _graph(INPUT, (3, 5, 5), (sign(3), (0,)), (padded, (1,)), (depthwise, (1,)))
    # The last layer reads the depthwise one; the padded one is an output of the trace only.
    assert products(lower(graph).layers)[:2] == [WEIGHTS, WEIGHTS]
    monkeypatch.setattr(binary, "obstacle", lambda op, facts, strategy: "")
    monkeypatch.setattr(choice, "weight_obstacle", lambda *of_a_layer: "")
    assert products(lower(graph).layers)[:2] == [XNOR, XNOR]
    vectors = make_vectors(graph.input, None)[:20]
    reference = Interpreter(graph).trace(vectors)
    trace = build(graph, tmp_path, vectors).trace(vectors)
    as_minus = Interpreter(_chain((3, 5, 5), dataclasses.replace(padded, pad_value=-1)))
    np.testing.assert_array_equal(trace["n2"], as_minus.trace(reference["n1"])["n1"])
    assert (trace["n2"] != reference["n2"]).any()
    assert (trace["n3"] != reference["n3"]).all()


ZERO = np.zeros(2, np.int64)


@pytest.mark.parametrize(
    ("layer", "options", "product", "reason"),
    [
        (Conv(signs(2, 2, 3, 3), ZERO, pads=(1, 0, 0, 0)), {}, WEIGHTS, "padding adds zeros"),
        (Conv(signs(2, 1, 2, 2), ZERO, groups=2), {}, DATA, "length of a full convolution"),
        (Conv(signs(2, 2, 2, 2), ZERO, dilation=(2, 2)), {}, DATA, "zeros in its weights"),
        (
            Conv(signs(2, 2, 2, 2), ZERO),
            {"n2.strategy": "distributed_arithmetic"},
            Product.INTEGER,
            "takes the bits for 0 and 1",
        ),
        (
            Conv(signs(2, 2, 2, 2), ZERO),
            {"backend": "Quartus", "strategy": "resource"},
            WEIGHTS,
            "cast no sum to a bit",
        ),
        (
            Conv(signs(2, 2, 2, 2), ZERO),
            {"backend": "Catapult"},
            Product.INTEGER,
            "takes no 1-bit weights",
        ),
        (Conv(signs(2, 2, 2, 2), np.array([0, 99])), {}, DATA, "bias is beyond the type"),
        (Conv(_ints(RNG, (2, 2, 2, 2), 2, 7), ZERO), {}, DATA, "weights are no signs"),
    ],
)
def test_why_a_layer_is_not_xnor_is_said(
    layer: Conv, options: dict[str, str], product: Product, reason: str
) -> None:
    """In the report, and where XNOR is asked for in the refusal, which names the layer."""
    graph = _graph(INPUT, (2, 4, 4), (sign(2), (0,)), (layer, (1,)))
    target = Hls4ml().with_options(options)
    assert target.check(graph) == []
    chosen = target._lowered(graph).layers[-2].choice
    assert chosen is not None and chosen.product is product
    assert reason in chosen.why_not
    (metric,) = (m for m in target.metrics(graph, Path()) if m.name == "n2 sums")
    assert product.value in metric.source and reason in metric.source
    offences = target.with_options({**options, "binary": "xnor"}).check(graph)
    if reason == "weights are no signs":
        assert offences == []  # XNOR is not for them
    else:
        (offence,) = offences
        assert offence.node == "n2" and reason in offence.reason


def test_a_value_travels_as_bits_only_where_all_its_readers_take_bits() -> None:
    """Through pools and joins; not to the host, to a sum, or to one integer layer."""
    conv = Conv(signs(2, 4, 2, 2), ZERO)
    steps: list[tuple[Op, tuple[int, ...]]] = [
        (sign(2), (0,)),
        (MaxPool((3, 3), (1, 1), (1, 1, 1, 1)), (1,)),
        (sign(2), (0,)),
        (Concat(0), (2, 3)),
        (conv, (4,)),
    ]
    graph = _graph(INPUT, (2, 4, 4), *steps)
    assert lower(graph).layers[-2].choice == choice.Choice(XNOR, 2 * 57, 2 * 150, "")
    for reader in (Add((1, 1)), Concat(0)):
        more = _graph(INPUT, (2, 4, 4), *steps[:4], (reader, (3, 0)), (conv, (4,)))
        chosen = next(layer.choice for layer in lower(more).layers if layer.name == "n6")
        assert chosen is not None and chosen.product is WEIGHTS
        assert "its input goes to" in chosen.why_not


def test_integers_when_they_are_asked_for() -> None:
    graph = net()
    target = Hls4ml().with_options({"binary": "integer"})
    assert set(products(target._lowered(graph).layers)) == {Product.INTEGER}
    assert not any(t.sign for x in target._lowered(graph).layers for t in x.precision.values())
    one = Hls4ml().with_options({"n3.binary": "integer"})
    assert products(one._lowered(graph).layers) == [WEIGHTS, Product.INTEGER, XNOR, DATA]


def test_a_shift_behind_binary_weights_keeps_them_integers() -> None:
    """It would need a layer of its own; with a float scale that layer is there anyway."""
    for scale, product in ((Fraction(1, 8), Product.INTEGER), (Fraction(1, 7), WEIGHTS)):
        requant: Requant = _requant(RNG, scale=(scale,))
        graph = _chain((7,), Dense(signs(3, 7), _ints(RNG, (3,))), requant)
        assert products(lower(graph).layers)[0] is product


def test_luts_of_a_tree_that_can_be_counted_by_hand() -> None:
    # Four products of a bit; two sums of two bits, one of three.
    assert luts(XNOR, 4, 1, 1) == 4 * 1 + 2 * 2 + 3
    # Three of 2 + 2 bits; one sum of five bits, and with the third product one of six.
    assert luts(Product.INTEGER, 3, 2, 2) == 3 * 4 + 5 + 6


def test_the_shipped_binary_network_says_it_for_each_layer(tmp_path: Path) -> None:
    recipe = dataclasses.replace(MODELS["digits_bnn"](), untrained=True)
    graph = import_qonnx(read(train(recipe, tmp_path).model), "net").graph
    metrics = Hls4ml().metrics(graph, tmp_path)
    found = {m.name: m for m in metrics if m.unit == "LUT"}
    assert metrics[0].value == 16 * 9  # the multipliers of conv1
    assert list(found) == ["conv2 sums", "conv3 sums", "fc1 sums", "fc2 sums"]
    refused = Hls4ml().with_options({"binary": "xnor"}).check(graph)
    assert [offence.node for offence in refused] == ["conv2", "conv3"]
    for name in ("conv2 sums", "conv3 sums"):
        assert "1-bit weights, integer activations (its padding" in found[name].source
    assert found["fc1 sums"].source.startswith("XNOR; ")
    assert found["fc1 sums"].value == 64 * luts(XNOR, 128, 1, 1)
    assert f"{64 * luts(Product.INTEGER, 128, 2, 2)} with integers" in found["fc1 sums"].source
    assert found["fc2 sums"].source.startswith(
        "1-bit activations, integer weights (its weights are no signs); "
    )
