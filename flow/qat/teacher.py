"""How far a network's answers are from those of its teacher."""

from __future__ import annotations

from torch import Tensor, nn


def divergence(output: Tensor, answers: Tensor, temperature: float) -> Tensor:
    """The Kullback-Leibler divergence of softened answers, mean over samples, times the square of
    the temperature, by which softened gradients shrink (section 2 of arXiv 1503.02531).

    Args:
        output, answers: logits (n, classes) of the network and of the teacher.
    """
    ours, theirs = ((logits / temperature).log_softmax(1) for logits in (output, answers))
    found = nn.functional.kl_div(ours, theirs, reduction="batchmean", log_target=True)
    return temperature**2 * found
