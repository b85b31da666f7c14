"""What the runtimes' kernels really do with an accumulator, against the arithmetic that the search
for multipliers believes in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from flow.ops import IntArray
from targets.tflite.arithmetic import Arithmetic
from targets.tflite.flatbuffer import write
from targets.tflite.model import DType, Kind, Operator, Tensor
from targets.tflite.simulation import MODEL, run_file

CHANNELS, PLACES, VECTORS = 48, 6, 200
OF = {"litert": Arithmetic.XNNPACK, "tflite-runtime": Arithmetic.RUY}
STEPS = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1, "padding": 1}


def scales() -> NDArray[np.float32]:
    """Powers of two, where ties are; thirds, where the first of two roundings decides; any."""
    rng = np.random.default_rng(0)
    powers = 2.0 ** rng.integers(-7, 1, CHANNELS // 3)
    thirds = 2.0 ** rng.integers(-4, 1, CHANNELS // 3) / 3
    return np.concatenate([powers, thirds, 2.0 ** rng.uniform(-8, 0.5, CHANNELS // 3)]).astype("f4")


def ran(folder: Path, runtime: str, tensors: list[Tensor], *operators: Operator) -> IntArray:
    """The file's output for random input, and the input before it: (2, n, ...)."""
    content = write("kernel", tensors, operators, ("in", "out"), {})
    (folder / MODEL).write_bytes(content)
    shape = tensors[0].shape
    x = np.random.default_rng(1).integers(-128, 128, (VECTORS, *shape[1:])).astype(np.int8)
    done = run_file(folder / MODEL, x.reshape(VECTORS, -1), runtime)
    return np.stack([x.astype(np.int64), done.outputs[0].reshape(x.shape)])


@pytest.mark.parametrize("runtime", OF)
@pytest.mark.parametrize("kind", [Kind.CONV_2D, Kind.DEPTHWISE_CONV_2D, Kind.FULLY_CONNECTED])
def test_a_layer_rounds_as_believed(tmp_path: Path, runtime: str, kind: Kind) -> None:
    rng = np.random.default_rng(2)
    bias, s_in = rng.integers(-400, 400, CHANNELS), float(np.float32(1 / 31))
    shape = (1, CHANNELS) if kind is Kind.FULLY_CONNECTED else (1, PLACES, PLACES, CHANNELS)
    depthwise, dense = kind is Kind.DEPTHWISE_CONV_2D, kind is Kind.FULLY_CONNECTED
    weight = rng.integers(-3, 4, CHANNELS if depthwise else (CHANNELS, CHANNELS))
    held = weight.reshape(1, 1, 1, -1) if depthwise else weight
    if kind is Kind.CONV_2D:
        held = weight.reshape(CHANNELS, 1, 1, CHANNELS)
    scale = scales() / np.float32(s_in) / 4  # so that multipliers lie next to powers of two
    per = tuple(map(float, scale))
    tensors = [
        Tensor("in", shape, DType.INT8, (s_in,), 5),
        Tensor("w", held.shape, DType.INT8, per, 0, 3 if depthwise else 0, held),
        Tensor("b", (CHANNELS,), DType.INT32, tuple(map(float, scale * s_in)), 0, 0, bias),
        Tensor("out", shape, DType.INT8, (0.25,), -3),
    ]
    options: dict[str, int] = (
        {} if dense else {**STEPS, **({"depthMultiplier": 1} if depthwise else {})}
    )
    operator = Operator(kind, ("in", "w", "b"), "out", options, 9 if dense else 3)
    x, found = ran(tmp_path, runtime, tensors, operator)
    arithmetic = OF[runtime].elementwise if depthwise else OF[runtime]
    acc = ((x - 5) * weight if depthwise else (x - 5) @ weight.T) + bias
    wanted = arithmetic.rounded(acc, arithmetic.multiplier(s_in, scale, 0.25)) - 3
    assert np.array_equal(found, np.clip(wanted, -128, 127))
    assert len(np.unique(found)) == 256


@pytest.mark.parametrize("runtime", OF)
@pytest.mark.parametrize("scale", [1 / 8, 1 / 3, 0.03, 0.7])
def test_a_product_of_activations_rounds_as_believed(
    tmp_path: Path, runtime: str, scale: float
) -> None:
    s_w = np.float32(scale)
    shape = (1, CHANNELS)
    tensors = [
        Tensor("in", shape, DType.INT8, (1.0,), 7),
        Tensor("same", shape, DType.INT8, (float(s_w),), -40),
        Tensor("shape", (2,), DType.INT32, data=np.array(shape)),
        Tensor("out", shape, DType.INT8, (64.0,), 0),
    ]
    reshape = Operator(Kind.RESHAPE, ("in", "shape"), "same", {"newShape": list(shape)})
    x, found = ran(tmp_path, runtime, tensors, reshape, Operator(Kind.MUL, ("in", "same"), "out"))
    arithmetic = OF[runtime].elementwise
    factor = arithmetic.multiplier(1.0, s_w.reshape(1), 64.0)
    assert np.array_equal(found, arithmetic.rounded((x - 7) * (x + 40), factor).clip(-128, 127))
    assert scale < 0.1 or (found < 0).any()
