"""EWGS' delta against the Hessian itself, on a network so small that it can be written out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flow.qat import hessian
from flow.qat.formats import ActRounding, Rule
from flow.qat.rules import RuleRound, RuleSign


class Small(nn.Module):
    def __init__(self, rule: Rule) -> None:
        super().__init__()
        self.round = RuleRound(rule, ActRounding.HALF_EVEN, -7, 7, 0.0, 2.0)
        self.sign = RuleSign(rule, 0.0, 2.0)
        drawn = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(6, 4, generator=drawn) * 3)
        self.x = nn.Parameter(torch.randn(4, generator=drawn))

    def loss(self) -> Tensor:
        codes = self.round(self.weight)
        return self.after(codes, self.sign(self.x))

    def after(self, codes: Tensor, signs: Tensor) -> Tensor:
        return torch.logsumexp(codes @ signs / 5, 0) - 0.3 * codes[0, 0]


def expected(network: Small) -> list[float]:
    codes, signs = torch.round(network.weight).clamp(-7, 7), torch.sign(network.x)
    found = []
    for of, values in enumerate((codes, signs)):

        def loss(flat: Tensor, of: int = of, values: Tensor = values) -> Tensor:
            inputs = [codes, signs]
            inputs[of] = flat.reshape(values.shape)
            return network.after(*inputs)

        flat = values.detach().flatten()
        matrix = torch.autograd.functional.hessian(loss, flat)
        gradient = torch.autograd.functional.jacobian(loss, flat)
        trace = torch.trace(matrix) / len(flat)
        found.append(max(0.0, float(trace / (3 * gradient.std()))))
    return found


def test_delta_is_the_papers_rule() -> None:
    network = Small(Rule.EWGS_HESSIAN)
    deltas = []
    for seed in range(20):
        drawn = torch.Generator().manual_seed(seed)
        hessian.set_deltas(network, lambda batch: network.loss(), drawn)
        deltas.append(torch.stack([network.round.delta, network.sign.delta]))
    # An estimate from at most 150 random probes each: close in the mean over 20.
    mean = torch.stack(deltas).mean(0)
    assert torch.allclose(mean, torch.tensor(expected(network)), rtol=0.1)
    assert bool((mean > 0).all())


def test_other_rules_keep_theirs() -> None:
    network = Small(Rule.EWGS)
    hessian.set_deltas(network, lambda batch: network.loss(), torch.Generator())
    assert float(network.round.delta) == 0.0
