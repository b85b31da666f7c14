"""What the hardware pays: bit operations (BOPs), differentiable by weights and bit widths.

    BOPs = sum over layers with weights of N * P * b_w * b_x

N weights that are not zero, P output positions, b_w bits of a weight and b_x of an input: the AND
gates of the products. It is the term b_w*b_x of the BOPs of arXiv 1804.10969 (UNIQ), whose other
terms are the adders behind the products; they are left out. What rounding costs is counted beside
it, in `flow.cost`: a rounding is chosen, not learned.
"""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from brevitas.core.bit_width import BitWidthParameter
from brevitas.nn import QuantConv2d, QuantLinear
from torch import Tensor, nn

from flow.qat.recipe import Depthwise, Recipe, Weighted, taps
from flow.qat.result import LayerCost


class Meter:
    """Adds up the cost of a network while it runs: give `see` to `Network.values` as `before`."""

    def __init__(self, recipe: Recipe) -> None:
        layers = {layer.name for layer in recipe.layers if isinstance(layer, Weighted)}
        self._positions = {
            row.name: prod(row.output_shape[1:]) for row in recipe.summary() if row.name in layers
        }
        self._most = _uniform(recipe)
        self.terms: dict[str, Tensor] = {}
        self.costs: list[LayerCost] = []

    def see(self, name: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Count `module` where it has weights; its input must be quantized."""
        if not isinstance(module, QuantLinear | QuantConv2d):
            return
        weight = module.quant_weight()
        count = nonzero(weight.value, weight.scale)
        bits, given = weight.bit_width, inputs[0].bit_width
        self.terms[name] = count * self._positions[name] * bits * given
        self.costs.append(
            LayerCost(
                layer=name,
                weights=round(count.item()),
                positions=self._positions[name],
                weight_bits=round(bits.item()),
                input_bits=round(given.item()),
            )
        )

    def share(self) -> Tensor:
        """The cost seen, in that of the recipe's own bits with no weight zero; shape ()."""
        return torch.stack([*self.terms.values()]).sum() / self._most


def nonzero(values: Tensor, scale: Tensor) -> Tensor:
    """How many quantized values (of any shape) are not zero. Its gradient is that of the sum of
    min(|code|, 1): it pulls those towards zero that are one step away from it."""
    soft = torch.clamp((values / scale.detach()).abs(), max=1.0)
    return (soft + ((values != 0).to(soft) - soft).detach()).sum()


def bit_parameters(network: nn.Module) -> list[nn.Parameter]:
    """The learned bit widths."""
    return [
        module.bit_width_offset
        for module in network.modules()
        if isinstance(module, BitWidthParameter)
    ]


def _uniform(recipe: Recipe) -> float:
    """BOPs of the recipe's bits with no weight zero."""
    shapes = {"input": recipe.input_shape}
    bits = {"input": recipe.input_bits}
    total = 0.0
    for layer, row in zip(recipe.layers, recipe.summary(), strict=True):
        source = recipe.sources(layer)[0]
        shapes[layer.name] = row.output_shape
        bits[layer.name] = row.act or bits[source]
        if isinstance(layer, Weighted):
            assert row.weight is not None
            channels = 1 if isinstance(layer, Depthwise) else shapes[source][0]
            products = prod(row.output_shape) * channels * taps(layer)
            total += products * row.weight * bits[source]
    return total
