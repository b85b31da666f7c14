"""Numbers and names as readers see them."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping

from flow import roc
from flow.metric import Kind, Metric
from flow.report.layers import Layer
from flow.report.run import Run

_SINGULAR = {"cycles": "cycle", "bits": "bit"}
_ORDER = "MODEL TARGET OPTS DATA"
# How each target runs what it made.
_SIMULATION = {"hls4ml": "C simulation", "tflite": "runtime", "analog": "without noise"}


def stage_name(stage: str, target: str) -> str:
    """What a stage of accuracy is called on a target."""
    return _SIMULATION.get(target, stage) if stage == "simulation" else stage


def figure(value: float) -> str:
    """`12,345`, `0.0123`: whole numbers whole, others to four digits."""
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.4g}" if abs(value) < 1e6 else f"{value:.4g}"


def value_text(metric: Metric) -> str:
    """A metric's value with unit and interval."""
    interval = metric.interval
    around = f" [{figure(interval.low)}, {figure(interval.high)}]" if interval else ""
    return f"{figure(metric.value)}{_unit_text(metric)}{around}"


def _unit_text(metric: Metric) -> str:
    """` cycles`, ` cycle` of one, nothing for a count."""
    unit = _SINGULAR.get(metric.unit, metric.unit) if metric.value == 1 else metric.unit
    return "" if unit == "1" else f" {unit}"


def is_auc(metric: Metric) -> bool:
    """Whether a score is an area under the ROC curve, not an accuracy."""
    return metric.name.startswith(f"{roc.NAME} ")


def score_parts(metric: Metric) -> tuple[str, str]:
    """A score and its interval: accuracies in percent, areas as they are."""
    low, high = (metric.interval.low, metric.interval.high) if metric.interval else (0.0, 0.0)
    if is_auc(metric):
        value, around = f"{metric.value:.4f}", f"[{low:.3f}, {high:.3f}]"
    else:
        value, around = f"{100 * metric.value:.2f} %", f"[{100 * low:.1f}, {100 * high:.1f}]"
    return value, around if metric.interval else ""


def heading(name: str) -> str:
    """With a capital letter at its begin."""
    return name[:1].upper() + name[1:]


def score(metric: Metric) -> str:
    """A score with its interval."""
    return " ".join(filter(None, score_parts(metric)))


def named_score(metric: Metric) -> str:
    """As `score`; what is no accuracy says what it is."""
    return f"{roc.NAME} {score(metric)}" if is_auc(metric) else score(metric)


def command(variables: Mapping[str, str], verb: str = "compile") -> str:
    """The make command with these variables, to be pasted into a shell."""
    order = sorted(variables, key=lambda name: (name not in _ORDER, _ORDER.find(name)))
    given = " ".join(f"{name}={shlex.quote(variables[name])}" for name in order)
    return f"make {verb} {given}"


def by_name(metrics: Iterable[Metric]) -> dict[str, dict[Kind, Metric]]:
    """Metrics of one name side by side: measured, estimated, assumed."""
    found: dict[str, dict[Kind, Metric]] = {}
    for metric in metrics:
        found.setdefault(metric.name, {})[metric.kind] = metric
    return {
        name: {kind: kinds[kind] for kind in Kind if kind in kinds} for name, kinds in found.items()
    }


def estimate_holds(found: Mapping[Kind, Metric]) -> bool | None:
    """Whether what was measured lies in the interval that was estimated; None where one of the two
    is not there."""
    measured, estimated = found.get(Kind.MEASURED), found.get(Kind.ESTIMATED)
    if measured is None or estimated is None or estimated.interval is None:
        return None
    return estimated.interval.low <= measured.value <= estimated.interval.high


def columns(layers: Iterable[Layer]) -> list[tuple[str, str, Kind]]:
    """Name, unit and kind of the figures that a target gives of layers, in order."""
    return list(dict.fromkeys((m.name, m.unit, m.kind) for layer in layers for m in layer.metrics))


def of_layer(layer: Layer, column: tuple[str, str, Kind]) -> Metric | None:
    """The layer's figure for a column, if it has one."""
    return next((m for m in layer.metrics if (m.name, m.unit, m.kind) == column), None)


def total_macs(run: Run) -> int:
    """Multiply-accumulates of all layers."""
    return sum(layer.macs for layer in run.shown_layers)
