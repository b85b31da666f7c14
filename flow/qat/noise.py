"""Networks as a piece of noisy hardware has them: other weights forward, the same ones to learn.

The gradient goes straight through to the weights that the noise was added to, as in V. Joshi et
al., "Accurate deep neural network inference using computational phase-change memory", Nature
Communications 11, 2473 (2020), and in aihwkit's weight modifiers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from brevitas.nn import QuantConv2d, QuantLinear
from torch import Tensor

from flow.ops import IntArray
from flow.qat.network import Network
from flow.target import Noise


@contextmanager
def noisy(network: Network, noise: Noise, seed: int, number: int) -> Iterator[None]:
    """Within it the network, which `quantized_network` made, computes as that piece of hardware."""
    handles = []
    for name, module in network.named_children():
        layer: Any = module
        if isinstance(module, QuantLinear | QuantConv2d):
            groups = layer.groups if isinstance(module, QuantConv2d) else 1
            hook = _Added(noise, (name, seed, number), groups)
            handles.append(layer.weight_quant.register_forward_hook(hook))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Added:
    """A hook of a layer's weight quantizer, which adds what the hardware does to its weights."""

    def __init__(self, noise: Noise, piece: tuple[str, int, int], groups: int) -> None:
        self._noise, self._piece, self._groups = noise, piece, groups
        self._error: Tensor | None = None  # the weights are the same until the piece is another one

    def __call__(self, _: Any, __: Any, weight: Any) -> Any:
        if self._error is None:
            self._error = self._errors(weight.value.detach(), weight.scale.detach())
        # In steps of the scale, which learns what the noise does with it.
        return weight.set(value=weight.value + self._error * weight.scale)

    def _errors(self, value: Tensor, scale: Tensor) -> Tensor:
        codes: IntArray = torch.round(value / scale).long().numpy()
        name, seed, number = self._piece
        rows = codes.reshape(self._groups, len(codes) // self._groups, -1)
        made = self._noise.draw(name, rows, seed, number).reshape(codes.shape)
        return torch.from_numpy(made - codes).to(value)
