"""Photonic arrays: values from -1 to 1 of few steps, and noise that is told by how often it takes a
value for another.

As AnalogVNN has it (Shah and Youngblood, APL Machine Learning 1, 026116 (2023), arXiv 2210.10048,
and its package's `nn/noise`), with three things made definite: weights are drawn per chip, sample
or matrix-vector product, as the device says, inputs and sums once per matrix-vector product; the
detector's noise comes before its converter, since what it gives is digital; and codes and weights
are normalised by the largest of their layer, or, for weights, of their output.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from targets.analog.device import Device, Law, Optical, Per
from targets.analog.draws import Draw, stream
from targets.analog.leakage import gaussian_sigma, laplacian_scale, poisson_rate
from targets.analog.mapping import FloatArray, Mapped
from targets.analog.programmed import Condition, Draws, Programmed


def spread(law: Law, leakage: float, precision: float) -> float:
    """The law's parameter: a standard deviation, a scale, or a rate. `leakage` must be above 0."""
    laws = {
        Law.GAUSSIAN: gaussian_sigma,
        Law.LAPLACIAN: laplacian_scale,
        Law.POISSON: poisson_rate,
    }
    return laws[law](leakage, precision)


def noisy(
    values: FloatArray, law: Law, parameter: float, scale: float, by: Generator
) -> FloatArray:
    """Values with noise whose standard deviation is `scale` times what the parameter says."""
    if law is Law.GAUSSIAN:
        return values + parameter * scale * by.standard_normal(values.shape)
    if law is Law.LAPLACIAN:
        return values + by.laplace(0.0, parameter * scale, values.shape)
    rate = parameter / scale**2
    found: FloatArray = np.sign(values) * by.poisson(np.abs(values) * rate) / rate
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
        for place, chip in enumerate(draws.chips):
            for number, tile in enumerate(layer.tiles):
                by = stream(draws.seed, chip, draws.layer, number, Draw.PROGRAMMING)
                part = found[place, tile.group, tile.rows, tile.columns]
                part[...] = noisy(part, law, parameter, condition.noise, by)
    return Programmed(found * layer.unit[:, None])


def driven(
    codes: FloatArray, most: float, law: Optical, condition: Condition, draws: Draws
) -> FloatArray:
    """What each chip's modulators make of codes (1 or c, groups, m, inputs) of up to `most`, in
    steps of the codes: (c, groups, m, inputs), or as many as were given where there is no noise."""
    values = rounded(codes / most, law.precision)
    if law.leakage and condition.noise:
        parameter = spread(law.noise, law.leakage, law.precision)
        whole = np.broadcast_to(values, (len(draws.chips), *values.shape[1:]))
        values = np.empty_like(whole)
        for place, chip in enumerate(draws.chips):
            by = stream(draws.seed, chip, draws.layer, 0, Draw.INPUT, draws.batch)
            values[place] = noisy(whole[place], law.noise, parameter, condition.noise, by)
    return values * most
