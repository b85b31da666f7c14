"""Photonic arrays: values from -1 to 1 of few steps, and noise that is told by how often it takes a
value for another.

As AnalogVNN has it (Shah and Youngblood, APL Machine Learning 1, 026116 (2023), arXiv 2210.10048,
and its package's `nn/noise`), with three things made definite: weights are drawn per chip, sample
or matrix-vector product, as the device says, inputs and sums once per matrix-vector product; the
detector's noise comes before its converter, since what it gives is digital; and codes and weights
are normalised by the largest of their layer, or, for weights, of their output.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.random import Generator

from flow.ops import IntArray
from flow.qtype import QType
from targets.analog.device import Device, Law, Optical, Per
from targets.analog.draws import Draw, normals, stream
from targets.analog.grid import to_grid
from targets.analog.leakage import gaussian_sigma, laplacian_scale, poisson_rate
from targets.analog.mapping import FloatArray, Mapped
from targets.analog.programmed import Condition, Draws, Programmed


@cache
def spread(law: Law, leakage: float, precision: float) -> float:
    """The law's parameter: a standard deviation, a scale, or a rate. `leakage` must be above 0."""
    laws = {
        Law.GAUSSIAN: gaussian_sigma,
        Law.LAPLACIAN: laplacian_scale,
        Law.POISSON: poisson_rate,
    }
    return laws[law](leakage, precision)


def noisy(
    values: FloatArray, law: Law, parameter: float, scale: float, streams: Sequence[Generator]
) -> FloatArray:
    """Values (chips, ...) with noise whose standard deviation is `scale` times what the parameter
    says, of a stream for each chip."""
    if law is Law.GAUSSIAN:
        return values + parameter * scale * normals(streams, values.shape[1:]).astype(np.float64)
    if law is Law.LAPLACIAN:
        size, width = values.shape[1:], parameter * scale
        found: FloatArray = values + np.stack([by.laplace(0.0, width, size) for by in streams])
        return found
    rate = parameter / scale**2
    pairs = zip(streams, np.abs(values) * rate, strict=True)
    counts = np.stack([by.poisson(mean) for by, mean in pairs])
    found = np.sign(values) * counts / rate
    return found


def rounded(values: FloatArray, precision: int) -> FloatArray:
    """Clamped to -1..1, and rounded to steps of 1/precision."""
    found: FloatArray = np.rint(np.clip(values, -1, 1) * precision) / precision
    return found


def program(layer: Mapped, device: Device, condition: Condition, draws: Draws) -> Programmed:
    """The layer on each of the chips."""
    levels = layer.levels
    if device.weight is not None:
        levels = rounded(levels, device.weight.precision)
    found = np.empty((len(draws.chips), *levels.shape))
    found[:] = levels
    if device.weight is not None and device.weight.leakage and condition.noise:
        law, per = device.weight.noise, device.weight.per
        parameter = spread(law, device.weight.leakage, device.weight.precision)
        if per is not Per.CHIP:
            sigma = parameter * condition.noise * layer.unit[:, None]
            variance = np.broadcast_to(sigma**2, found.shape).copy()
            whole = found * layer.unit[:, None]
            if per is Per.MVM:
                return Programmed(whole, variance)
            return Programmed(whole, by_sample=variance)
        for number, tile in enumerate(layer.tiles):
            part = found[:, tile.group, tile.rows, tile.columns]
            use = Draw.PROGRAMMING
            streams = [stream(draws.seed, c, draws.layer, number, use) for c in draws.chips]
            part[...] = noisy(part, law, parameter, condition.noise, streams)
    return Programmed(found * layer.unit[:, None])


def modulated(codes: IntArray, qtype: QType, most: float, precision: int, bits: int) -> FloatArray:
    """What modulators make of codes of up to `most`, in steps of the codes, without noise; in
    multiples of 1/2^bits."""
    ends = qtype.low, qtype.high
    if ends[1] - ends[0] >= codes.size:
        return to_grid(rounded(codes / most, precision) * most, bits)
    every = np.arange(ends[0], ends[1] + 1)
    table = to_grid(rounded(every / most, precision) * most, bits)
    return table.take(codes - ends[0] if ends[0] else codes)


def deviation(law: Optical, most: float, condition: Condition) -> float:
    """Of what modulators make of codes, in steps of the codes, by Gaussian noise."""
    if not law.leakage or not condition.noise:
        return 0.0
    return spread(Law.GAUSSIAN, law.leakage, law.precision) * condition.noise * most


def driven(
    values: FloatArray, most: float, law: Optical, condition: Condition, draws: Draws
) -> FloatArray:
    """What each chip's modulators make of codes that are `modulated` (1 or c, groups, m, inputs):
    (c, groups, m, inputs), or as many as were given where there is no noise."""
    if not law.leakage or not condition.noise:
        return values
    parameter = spread(law.noise, law.leakage, law.precision)
    streams = [
        stream(draws.seed, chip, draws.layer, 0, Draw.INPUT, draws.batch) for chip in draws.chips
    ]
    whole = np.broadcast_to(values / most, (len(streams), *values.shape[1:]))
    return noisy(whole, law.noise, parameter, condition.noise, streams) * most
