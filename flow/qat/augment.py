"""Light distortions of training images and sounds, drawn from the training's own generator."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

# What strength 1 means: the largest shift in pixels, rotation in degrees, and change of size.
_PIXELS = 1.0
_DEGREES = 12.0
_ZOOM = 0.12
# Of sounds: the largest shift in parts of the recording, change of speed, and deviation of the
# noise in that of each coefficient.
_SHIFT = 0.2
_SPEED = 0.15
_NOISE = 0.1


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


def displaced(
    x: Tensor, frames_shape: tuple[int, int, int], strength: float, generator: torch.Generator
) -> Tensor:
    """Each sample of x (n, ...) float moved in time, faster or slower, with noise, at random.

    What moves out at one end comes in at the other: recordings begin or end in silence.

    Args:
        frames_shape: (1, frames, width) as which one sample can be seen.
        strength: 0 leaves samples as they are.
    """
    sounds = x.reshape(-1, *frames_shape[1:])
    count, length, width = sounds.shape
    draws = (torch.rand(count, 2, generator=generator) * 2 - 1) * strength
    start = draws[:, :1] * _SHIFT * length
    places = start + torch.arange(length) * (1 + draws[:, 1:] * _SPEED)
    before = places.floor()
    part = (places - before)[:, :, None]
    first, second = (
        sounds.gather(1, (before.long() + step)[:, :, None].expand(-1, -1, width) % length)
        for step in (0, 1)
    )
    noise = torch.randn(sounds.shape, generator=generator) * sounds.std((0, 1)) * _NOISE * strength
    return (first * (1 - part) + second * part + noise).reshape(x.shape)
