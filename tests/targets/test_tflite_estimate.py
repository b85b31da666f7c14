"""What is told of .tflite files before they are written."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flow.metric import Kind
from flow.outline import INPUT, Outline, Role, Step
from flow.plan import Events, Request, Source
from flow.schedule.host_table import TABLE, host_predictor, read_table
from flow.surrogate.recipes import recipe_outline
from targets.tflite.estimate import LATENCY, estimates

SHIPPED = ("digits_mlp", "digits_cnn", "mnist_cnn", "kws_dscnn", "ic_resnet8", "ad_autoencoder")


@pytest.mark.parametrize("name", SHIPPED)
def test_what_was_measured_of_a_model_lies_in_its_interval(name: str) -> None:
    (row,) = (row for row in read_table(TABLE) if row.name == name)
    recipe = Source(Request(name, ""), Events()).recipe
    assert recipe is not None
    told = {metric.name: metric for metric in estimates(recipe_outline(recipe)).metrics}
    latency = told[LATENCY]
    assert latency.kind is Kind.ESTIMATED and latency.interval is not None
    assert latency.interval.low <= 1e6 * row.seconds <= latency.interval.high
    assert latency.interval.coverage == host_predictor().margin.coverage
    assert "LiteRT" in latency.source and "another machine differs" in latency.source
    assert told["energy on NUCLEO-L4R5ZI"].kind is Kind.ESTIMATED


def test_what_was_not_measured_is_unknown() -> None:
    step = Step("fc", Role.DENSE, (INPUT,), 64, 10, 1, 8, 20, 8)
    net = Outline("net", 64, 8, (step,))
    assert not estimates(net).unknown
    wide = estimates(replace(net, steps=(replace(step, given_bits=12),)))
    assert wide.unknown == {LATENCY: "fc is of more than 8 bits: only int8 was measured"}
    moved = Step("turn", Role.MOVE, ("fc",), 1, 10, 1, 8, 8)
    assert (
        "no layers of the kind move"
        in estimates(replace(net, steps=(step, moved))).unknown[LATENCY]
    )
    odd = estimates(replace(net, steps=(step, replace(moved, role=Role.UNKNOWN))))
    assert odd.metrics == ()
    assert odd.unknown == dict.fromkeys((LATENCY, "energy"), "nothing is known of what turn does")
