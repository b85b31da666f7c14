"""Light distortions of training images, drawn from the training's own generator."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

# What strength 1 means: the largest shift in pixels, rotation in degrees, and change of size.
_PIXELS = 1.0
_DEGREES = 12.0
_ZOOM = 0.12


def distorted(
    x: Tensor, image_shape: tuple[int, int, int], strength: float, generator: torch.Generator
) -> Tensor:
    """Each sample of x (n, ...) float shifted, rotated and scaled a little, at random.

    Args:
        image_shape: (C, H, W) as which one sample can be seen; what moves in is 0.
        strength: 0 leaves images as they are, 1 moves them by at most about a pixel.
    """
    images = x.reshape(-1, *image_shape)
    count = len(images)
    draws = (torch.rand(count, 4, generator=generator) * 2 - 1) * strength
    angle = draws[:, 0] * math.radians(_DEGREES)
    zoom = 1 + draws[:, 1] * _ZOOM
    _, height, width = image_shape
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0] = zoom * torch.cos(angle)
    theta[:, 0, 1] = -zoom * torch.sin(angle) * height / width
    theta[:, 1, 0] = zoom * torch.sin(angle) * width / height
    theta[:, 1, 1] = zoom * torch.cos(angle)
    theta[:, 0, 2] = draws[:, 2] * 2 * _PIXELS / width
    theta[:, 1, 2] = draws[:, 3] * 2 * _PIXELS / height
    grid = nn.functional.affine_grid(theta, list(images.shape), align_corners=False)
    moved = nn.functional.grid_sample(images, grid, align_corners=False)
    return moved.reshape(x.shape)
