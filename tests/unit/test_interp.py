"""The interpreter's batches: as large as memory allows, and the same numbers in any size."""

from __future__ import annotations

import tracemalloc
from fractions import Fraction

import numpy as np
import pytest

from flow import interp
from flow.graph import Graph, Node, Value
from flow.interp import BATCH, BUDGET, Interpreter
from flow.ops import Conv
from flow.qtype import QType

ONE = (Fraction(1),)


def convolution(extent: int) -> Graph:
    rng = np.random.default_rng(0)
    op = Conv(rng.integers(-8, 8, (2, 3, 3, 3)), rng.integers(-99, 99, 2), pads=(1, 1, 1, 1))
    source = Value("x", (3, extent, extent), QType(8, True), ONE)
    made = Value("conv", (2, extent, extent), QType(20, True), ONE)
    return Graph.build("net", source, (Node("conv", op, ("x",), made),))


def test_a_large_image_takes_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = convolution(512)
    codes = np.random.default_rng(1).integers(-128, 128, (6, 3, 512, 512))
    tracemalloc.start()
    try:
        out = Interpreter(graph).run(codes)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert Interpreter(graph).batch < len(codes)
    assert peak < BUDGET + 3 * out.nbytes
    monkeypatch.setattr(interp, "BUDGET", 1)
    assert Interpreter(graph).batch == 1
    np.testing.assert_array_equal(out, Interpreter(graph).run(codes))


def test_small_images_run_in_full_batches() -> None:
    assert Interpreter(convolution(8)).batch == BATCH
