"""What a model will cost on targets, told before anything is trained or built."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from flow.metric import Metric, Told
from flow.outline import outline
from flow.plan import Events, Plan, Request
from flow.report.numbers import value_text
from flow.surrogate.recipes import recipe_outline
from flow.surrogate.structure import structure
from targets import TARGETS

_NAME = 24


@dataclass(frozen=True)
class Estimated:
    """The figures that all targets share, and those of each target by its name."""

    model: str
    of: str
    shared: Told
    targets: Mapping[str, Told]

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": 1,
            "command": "estimate",
            "model": self.model,
            "of": self.of,
            **_json(self.shared),
            "targets": {name: _json(told) for name, told in self.targets.items()},
        }

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{self.model}, estimated from {self.of}"
        yield from _shown(self.shared)
        for name, told in self.targets.items():
            yield f"on {name}"
            yield from _shown(told)


def estimate(request: Request) -> Estimated:
    """For the request's target, or, where it names none, for all with their default options. A
    model by its name is told from its recipe, without training; a file from its weights.

    Raises:
        FlowError: a name or option is wrong, or the file cannot be read.
    """
    names = [request.target] if request.target else list(TARGETS)
    plans = {name: Plan(replace(request, target=name), Events()) for name in names}
    first = next(iter(plans.values()))
    recipe = first.recipe
    graph = None if recipe is not None else first.imported.graph
    if recipe is not None:
        network, of = recipe_outline(recipe), "declared shapes and bits"
    else:
        assert graph is not None
        network, of = outline(graph), "the file's weights"
    told = {}
    for name, plan in plans.items():
        offences = plan.target.check(graph) if graph is not None else []
        if offences:
            told[name] = Told((), {"every figure": f"unsupported: {offences[0].reason}"})
        else:
            told[name] = plan.target.estimate(network, graph)
    return Estimated(first.name, of, structure(network), told)


def _shown(told: Told) -> Iterator[str]:
    if not told.metrics and not told.unknown:
        yield "  no figure is told before a compile"
    for metric in told.metrics:
        yield _line(metric)
    for name, why in told.unknown.items():
        yield f"  {name:{_NAME}} {'unknown':28} {why}"
    if (found := told.verdict) is not None:
        yield f"  {f'on {found.part}':{_NAME}} {found.fit.value:28} {found.why}"


def _line(metric: Metric) -> str:
    kind = f"{metric.kind.value}, {metric.source}"
    return f"  {metric.name:{_NAME}} {value_text(metric):28} {kind}"


def _json(told: Told) -> dict[str, Any]:
    metrics = [metric.to_json() for metric in told.metrics]
    fit = {} if told.verdict is None else {"fit": told.verdict.to_json()}
    return {"metrics": metrics, "unknown": dict(told.unknown), **fit}
