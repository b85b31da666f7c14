"""EWGS' delta from the curvature of the loss (arXiv 2104.00903, section 3.3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from flow.qat.formats import Rule
from flow.qat.rules import RuleRound, RuleSign

EVERY = 10  # epochs between two updates; during the first ones delta is 0
BATCHES = 3
MOST_PROBES = 50
TOLERANCE = 1e-3  # relative change of the mean trace at which probing stops

Loss = Callable[[int], Tensor]  # of the batch with that number


def set_deltas(network: nn.Module, loss: Loss, generator: torch.Generator) -> None:
    """Give every EWGS_HESSIAN rounding its delta = max(0, (Tr H / N) / (3 std(g))).

    H and g are the Hessian and gradient of the loss by the N integers that the rounding gave, in
    their own unit. The trace is Hutchinson's estimate; one probe serves all roundings at once, as
    the expectation of their cross terms is zero.

    Args:
        loss: differentiable loss of the network on one of BATCHES batches.
        generator: from which the probes are drawn.
    """
    owners = [
        module
        for module in network.modules()
        if isinstance(module, RuleRound | RuleSign) and module.rule is Rule.EWGS_HESSIAN
    ]
    if not owners:
        return
    found = torch.zeros(BATCHES, len(owners))
    for batch in range(BATCHES):
        for owner in owners:
            owner.tapping = True
        value = loss(batch)
        taps = [owner.tapped for owner in owners if owner.tapped is not None]
        for owner in owners:
            owner.tapping, owner.tapped = False, None
        assert len(taps) == len(owners)
        found[batch] = _deltas(value, taps, generator)
    for owner, delta in zip(owners, found.mean(0), strict=True):
        owner.delta.copy_(delta)


def _deltas(value: Tensor, taps: Sequence[Tensor], generator: torch.Generator) -> Tensor:
    gradients = torch.autograd.grad(value, taps, create_graph=True)
    traces = torch.zeros(len(taps))
    for probe in range(MOST_PROBES):
        signs = [
            torch.randint(0, 2, tap.shape, generator=generator).to(tap) * 2 - 1 for tap in taps
        ]
        products = torch.autograd.grad(gradients, taps, signs, retain_graph=True)
        sample = torch.stack([(s * p).sum() for s, p in zip(signs, products, strict=True)]).detach()
        before = traces
        traces = traces + (sample - traces) / (probe + 1)
        moved = (traces - before).abs() / (before.abs() + 1e-6)
        if probe > 0 and bool((moved < TOLERANCE).all()):
            break
    means = traces / torch.tensor([float(tap.numel()) for tap in taps])
    spreads = torch.stack([gradient.detach().std() for gradient in gradients])
    return torch.clamp(means / (3 * spreads + 1e-12), min=0.0)
