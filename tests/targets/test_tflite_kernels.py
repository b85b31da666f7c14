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
from targets.tflite.ways import Kernels, Way

CHANNELS, PLACES, VECTORS = 48, 6, 200
OF = {"litert": Kernels.XNNPACK, "tflite-runtime": Kernels.DEFAULT}
OF_16 = {"litert": Kernels.LITERT_16, "tflite-runtime": Kernels.DEFAULT_16}
LAYERS = (Kind.CONV_2D, Kind.DEPTHWISE_CONV_2D, Kind.FULLY_CONNECTED)
WAYS_16 = [
    pytest.param(runtime, kind, way, id=f"{runtime}-{kind.name}-{way.bias.value}")
    for runtime, kernels in OF_16.items()
    for kind in LAYERS
    for way in kernels.ways(kind)
]
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
@pytest.mark.parametrize("kind", LAYERS)
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
    (way,) = OF[runtime].ways(kind)
    arithmetic = way.arithmetic
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
    (way,) = OF[runtime].ways(Kind.MUL)
    arithmetic = way.arithmetic
    factor = arithmetic.multiplier(1.0, s_w.reshape(1), 64.0)
    assert np.array_equal(found, arithmetic.rounded((x - 7) * (x + 40), factor).clip(-128, 127))
    assert scale < 0.1 or (found < 0).any()


def layer16(
    folder: Path,
    runtime: str,
    kind: Kind,
    way: Way,
    ends: tuple[float, float],
    multipliers: NDArray[np.float64],
    bias: IntArray,
) -> tuple[IntArray, IntArray, NDArray[np.float64]]:
    """One layer with int16 activations on numbers of every size: what it gives, its accumulators,
    and the multipliers that the scales, between `ends`, come to."""
    rng = np.random.default_rng(2)
    depthwise, dense = kind is Kind.DEPTHWISE_CONV_2D, kind is Kind.FULLY_CONNECTED
    shape = (1, CHANNELS) if dense else (1, PLACES, PLACES, CHANNELS)
    weight = rng.integers(-127, 128, CHANNELS if depthwise else (CHANNELS, CHANNELS))
    held = weight.reshape(1, 1, 1, -1) if depthwise else weight
    if kind is Kind.CONV_2D:
        held = weight.reshape(CHANNELS, 1, 1, CHANNELS)
    s_in, s_out = (float(np.float32(end)) for end in ends)
    scale = (multipliers * s_out / s_in).astype(np.float32)
    tensors = [
        Tensor("in", shape, DType.INT16, (s_in,)),
        Tensor(
            "w", held.shape, DType.INT8, tuple(map(float, scale)), 0, 3 if depthwise else 0, held
        ),
        Tensor("b", (CHANNELS,), way.bias, tuple(map(float, scale * s_in)), 0, 0, bias),
        Tensor("out", shape, DType.INT16, (s_out,)),
    ]
    version, more = OF_16[runtime].version(kind, way.bias)
    options = {} if dense else {**STEPS, **({"depthMultiplier": 1} if depthwise else {})}
    assert version is not None
    operator = Operator(kind, ("in", "w", "b"), "out", {**options, **more}, version)
    (folder / MODEL).write_bytes(write("kernel", tensors, [operator], ("in", "out"), {}))
    x = rng.integers(-(1 << 15), 1 << 15, (VECTORS, *shape[1:]))
    x >>= rng.integers(0, 15, (VECTORS, *(1 for _ in shape[1:])))
    x[::2, ..., 1:] = 0  # small sums too
    done = run_file(folder / MODEL, x.reshape(VECTORS, -1), runtime)
    acc = (x * weight if depthwise else x @ weight.T) + bias
    real = way.arithmetic.multiplier(s_in, scale, s_out)
    return done.outputs[0].reshape(x.shape), acc, real


@pytest.mark.parametrize("ends", [(1.0, 1.0), (1 / 31, 6 / 4095)])
@pytest.mark.parametrize(("runtime", "kind", "way"), WAYS_16)
def test_a_layer_of_int16_rounds_as_believed(
    tmp_path: Path, runtime: str, kind: Kind, way: Way, ends: tuple[float, float]
) -> None:
    """Ties are where scales are powers of two, with both ends 1; elsewhere the multiplier's bits
    count. No other kernel's arithmetic gives the same."""
    rng = np.random.default_rng(3)
    powers = 2.0 ** rng.integers(-14, 0, CHANNELS // 2)
    multipliers = np.concatenate([powers, 2.0 ** rng.uniform(-14, 0, CHANNELS // 2)])
    bias = rng.integers(-(1 << 20), 1 << 20, CHANNELS)
    found, acc, real = layer16(tmp_path, runtime, kind, way, ends, multipliers, bias)
    for arithmetic in set(Arithmetic) - {Arithmetic.XNNPACK}:
        codes = arithmetic.rounded(acc, real).clip(-(1 << 15), (1 << 15) - 1)
        assert np.array_equal(found, codes) == (arithmetic is way.arithmetic)


@pytest.mark.parametrize(
    ("runtime", "kind", "way"), [p for p in WAYS_16 if p.values[2].bias is DType.INT64]
)
def test_sums_beyond_int32_are_right_with_a_bias_of_int64(
    tmp_path: Path, runtime: str, kind: Kind, way: Way
) -> None:
    bias = np.random.default_rng(4).integers(-(1 << 40), 1 << 40, CHANNELS)
    multipliers = np.full(CHANNELS, 2.0**-27) * np.linspace(1, 2, CHANNELS)
    found, acc, real = layer16(tmp_path, runtime, kind, way, (1.0, 1.0), multipliers, bias)
    assert abs(acc).max() > 1 << 38
    assert np.array_equal(found, way.arithmetic.rounded(acc, real))


@pytest.mark.parametrize(("runtime", "kind", "way"), WAYS_16)
def test_a_multiplier_next_below_a_power_of_two_is_that_power(
    tmp_path: Path, runtime: str, kind: Kind, way: Way
) -> None:
    """In 31 bits; the second of two roundings is another then."""
    below = [
        (s_in, s_out)
        for s_in, s_out in zip(np.linspace(0.1, 0.9, 4000), 6 / np.arange(500, 4500), strict=True)
        if 0 < 1 - power_of(s_in, s_out) * 256 < 2.0**-33
    ]
    multipliers = np.full(CHANNELS, 2.0**-8)
    bias = np.arange(CHANNELS)
    found, acc, real = layer16(tmp_path, runtime, kind, way, below[0], multipliers, bias)
    assert (real < 2.0**-8).all()
    codes = way.arithmetic.rounded(acc, real).clip(-(1 << 15), (1 << 15) - 1)
    assert np.array_equal(found, codes)


def power_of(s_in: float, s_out: float) -> float:
    """What the scales of 2**-8 come to in float32."""
    given, made = np.float32(s_in), np.float32(s_out)
    weight = np.float32(2.0**-8 * float(made) / float(given))
    return float(given) * float(weight) / float(made)
