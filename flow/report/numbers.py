"""Numbers and names as readers see them."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence

from flow import roc
from flow.metric import Kind, Metric
from flow.report.layers import Layer
from flow.report.run import Run

_SINGULAR = {"cycles": "cycle", "bits": "bit"}
_SHOWN = {"1/s": "/s"}
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
    if 1e6 <= abs(value) < 1e12:
        return f"{float(f'{value:.4g}'):,.0f}"
    return f"{value:,.4g}" if abs(value) < 1e6 else f"{value:.4g}"


def value_text(metric: Metric) -> str:
    """A metric's value with unit and interval."""
    return " ".join(filter(None, value_parts(metric)))


def value_parts(metric: Metric) -> tuple[str, str]:
    """A metric's value with its unit, and its interval."""
    interval = metric.interval
    around = f"[{figure(interval.low)}, {figure(interval.high)}]" if interval else ""
    return f"{figure(metric.value)}{_unit_text(metric)}", around


def _unit_text(metric: Metric) -> str:
    """` cycles`, ` cycle` of one, nothing for a count."""
    unit = _SINGULAR.get(metric.unit, metric.unit) if metric.value == 1 else metric.unit
    return "" if unit == "1" else f" {_SHOWN.get(unit, unit)}"


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


def of_no_layer(
    metrics: Sequence[Metric], layers: Iterable[Layer], column: tuple[str, str, Kind]
) -> dict[str, float]:
    """What a figure of the whole has beyond its layers', by what it is, `lut: ports` being a part
    of `lut` that is called ports; what is left then is the rest. Empty where the layers are all of
    it, or more."""
    whole = _whole(metrics, column)
    if whole is None:
        return {}
    parts = {
        m.name.removeprefix(f"{column[0]}: "): m.value
        for m in metrics
        if is_part(m) and m.name.startswith(f"{column[0]}: ") and (m.unit, m.kind) == column[1:]
    }
    told = (of_layer(layer, column) for layer in layers)
    rest = whole.value - sum((*parts.values(), *(metric.value for metric in told if metric)))
    # Of a sum of times something may be left by rounding.
    return parts | ({"the rest": rest} if rest > 1e-6 * whole.value else {})


def is_part(metric: Metric) -> bool:
    """Whether a figure is of a part of another one, that which stands before its colon."""
    return ": " in metric.name


def _whole(metrics: Iterable[Metric], column: tuple[str, str, Kind]) -> Metric | None:
    return next((m for m in metrics if (m.name, m.unit, m.kind) == column), None)


def breakdown(run: Run) -> tuple[list[tuple[str, str, Kind]], list[tuple[str, list[str]]]]:
    """What layers and other parts take of figures that are known of the whole too: the columns, and
    rows of a name and a text for each column, the last of them the whole. Empty where no figure
    has parts that are of no layer."""
    metrics, layers = run.told.metrics, run.shown_layers
    found = [column for column in columns(layers) if _whole(metrics, column)]
    others = {column: of_no_layer(metrics, layers, column) for column in found}
    if not any(others.values()):
        return [], []
    rows = []
    for layer in layers:
        told = [of_layer(layer, column) for column in found]
        rows.append((layer.name, [figure(metric.value) if metric else "" for metric in told]))
    for part in dict.fromkeys(part for of in others.values() for part in of):
        values = [others[column].get(part) for column in found]
        rows.append((part, ["" if value is None else figure(value) for value in values]))
    wholes = [_whole(metrics, column) for column in found]
    rows.append(("all", [figure(metric.value) if metric else "" for metric in wholes]))
    return found, rows


def total_macs(run: Run) -> int:
    """Multiply-accumulates of all layers."""
    return sum(layer.macs for layer in run.shown_layers)
