"""Modules that a recipe's networks need beside torch's and Brevitas' own."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn


class Standardize(nn.Module):
    """(x - mean) * gain, per feature: done on the host, before the first quantizer."""

    mean: Tensor
    gain: Tensor

    def __init__(self, mean: Tensor, gain: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("gain", gain)

    @classmethod
    def of(cls, x: Tensor, sound: bool = False) -> Self:
        """From samples (n, *shape) float32; a feature that never changes is only shifted. Of
        `sound` a feature is a place of the last axis, the same in all frames."""
        features = x.double().reshape(-1, x.shape[-1]) if sound else x.double()
        deviation = features.std(0, correction=0)
        gain = torch.where(deviation > 0, 1 / deviation, torch.ones_like(deviation))
        return cls(features.mean(0).float(), gain.float())

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as x (n, *shape)."""
        return (x - self.mean) * self.gain


class Sum(nn.Module):
    """The sum of two tensors, quantized ones each on its own scale; the sum itself is on none."""

    def forward(self, x: Any, y: Any) -> Tensor:
        """Same shape as both."""
        return plain(x) + plain(y)


class Mean(nn.Module):
    """(n, C, H, W) to (n, C): the mean over height and width, on no grid."""

    def forward(self, x: Any) -> Tensor:
        """Mean over the last two axes."""
        return nn.functional.adaptive_avg_pool2d(plain(x), 1).flatten(1)


def plain(x: Any) -> Tensor:
    """The values of a tensor, quantized or not."""
    return x if isinstance(x, Tensor) else x.value
