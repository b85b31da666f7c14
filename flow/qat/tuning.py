"""What may follow a training: as many epochs of the quantized network again, through noise."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from flow.qat.recipe import Recipe
from flow.target import Noise

METHOD = 2  # raise it when the same tuning would lead to something else


@dataclass(frozen=True, eq=False)
class Tuning:
    """As many epochs as the quantized phase has, from its weights on, at its learning rate. Every
    batch sees the weights with `noise`, another piece of hardware each; without one it is what
    such a training is compared with. Kept is the mean of the weights after each epoch of the second
    half: what the last one ends with is luck, which differs between seeds by more than what noise
    teaches. `start` is the folder of the training without tuning, where there is one: whether it
    is there changes no bit of the result."""

    noise: Noise | None
    start: Path | None = None


def averaged(epoch: int, epochs: int) -> int:
    """Of how many epochs, this one and those before it, the weights' mean is the result so far."""
    return max(epoch - epochs // 2, 1)


def digest_of(recipe: Recipe, tuning: Tuning | None) -> str:
    """sha256 over all that decides the trained network but its data, hex."""
    if tuning is None:
        return recipe.digest()
    identity = "" if tuning.noise is None else tuning.noise.identity
    return hashlib.sha256(f"{recipe.digest()} tuned {METHOD} {identity}".encode()).hexdigest()
