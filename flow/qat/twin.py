"""How far the quantized network's values are from those of the float twin that it started from."""

from __future__ import annotations

import torch
from torch import Tensor

from flow.qat.modules import plain
from flow.qat.network import Network, frozen, input_codes, merge_batchnorm
from flow.qat.recipe import INPUT, Recipe
from flow.qat.result import TwinError

SAMPLES = 128  # of the test split, as many as a report's other figures of layers are of


def twin_errors(
    recipe: Recipe, twin: Network, network: Network, x: Tensor
) -> tuple[TwinError, ...]:
    """One for every module of the quantized network, from the first layer on.

    The quantized network computes in float64 what its exported file means, the twin in float64 with
    its BatchNorms merged as the quantized one has them, so that the two are compared place by
    place. The difference holds all that came before it, and what the training of the quantized
    network moved on purpose.

    Args:
        twin: what `float_network(recipe)` made, trained; it is not changed.
        network: what `quantized_network` made of it, trained; it is not changed.
        x: samples (n, *recipe.input_shape) float32.
    """
    fixed = frozen(network, x[:1])
    codes, scale = input_codes(fixed, x)
    merged = merge_batchnorm(recipe, twin).double()
    with torch.no_grad():
        wanted = merged.values(x.double())
        found = fixed.double().values(codes.double() * scale.double(), begin=INPUT)
    errors = []
    for name, value in found.items():
        if name == INPUT:
            continue
        # An activation that is only quantized is nothing in the twin: what it reads stands there.
        (place,) = (name,) if name in wanted else network.sources(name)
        exact = plain(wanted[place])
        power = float(exact.square().mean())
        noise = float((plain(value) - exact).square().mean())
        errors.append(TwinError(name, (noise / power) ** 0.5 if power else None))
    return tuple(errors)
