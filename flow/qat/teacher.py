"""How far a network's answers are from those of its teachers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def divergence(output: Tensor, answers: Sequence[Tensor], temperature: float) -> Tensor:
    """The Kullback-Leibler divergence from the mean of softened answers, mean over samples, times
    the square of the temperature, by which softened gradients shrink (section 2 of arXiv
    1503.02531).

    Args:
        output, answers: logits (n, classes) of the network, and of each of its teachers.
    """
    softened = torch.stack([(logits / temperature).softmax(1) for logits in answers])
    ours = (output / temperature).log_softmax(1)
    found = nn.functional.kl_div(ours, softened.mean(0), reduction="batchmean")
    return temperature**2 * found
