"""Many runs: finding them in a folder, and the page on which they are compared."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from flow.artifact import MANIFEST
from flow.errors import UsageError
from flow.metric import Metric
from flow.report import charts, compare, html, numbers
from flow.report.compare import COSTS, base_name
from flow.report.drawing import shape_text
from flow.report.layers import Layer
from flow.report.run import REPORT, Run, read_run

INDEX = "index.html"
MAX_RUNS = 2000
_NOT_RUNS = ("models", "twins", "experiments")  # of a runs folder: trainings


@dataclass(frozen=True)
class Found:
    """A folder among the runs: its run, or why there is none. `changed` is in seconds since
    1970."""

    folder: Path
    changed: float
    run: Run | None
    problem: str = ""

    @property
    def summary(self) -> str:
        """In a few words: accuracy or AUC, options that were set, and what is wrong with it."""
        if self.run is None:
            return f"incomplete: {self.problem}"
        rated, origin = _score(self.run), self.run.origin
        same = "" if self.run.report.agreement.matches else "differs from its reference"
        shown = numbers.named_score(rated) if rated else "no accuracy"
        return "  ".join(text for text in (shown, *(origin.given if origin else ()), same) if text)


@dataclass(frozen=True)
class Schedule:
    """A folder of the command schedule among the runs, as its manifest tells."""

    folder: Path
    changed: float
    summary: str


def find_runs(folder: Path) -> tuple[list[Found], list[Schedule]]:
    """The runs and the schedules in a folder, newest first, MAX_RUNS of both together; what is
    half-written or damaged is among the runs, with the reason.

    Raises:
        UsageError: the folder cannot be read.
    """
    try:
        inside = [path for path in folder.iterdir() if path.name not in _NOT_RUNS and path.is_dir()]
        times = {path: _changed(path) for path in inside}
    except OSError as error:
        raise UsageError(f"{folder}: cannot be read: {error.strerror}; compile first") from error
    newest = sorted(inside, key=lambda path: (-times[path], path.name))[:MAX_RUNS]
    found = [_found(path, times[path]) for path in newest]
    runs = [each for each in found if isinstance(each, Found)]
    return runs, [each for each in found if isinstance(each, Schedule)]


def _changed(path: Path) -> float:
    manifest = path / MANIFEST
    return (manifest if manifest.is_file() else path).stat().st_mtime


def _found(path: Path, changed: float) -> Found | Schedule:
    if path.name.startswith("."):
        return Found(path, changed, None, "a compile that was stopped, or is under way")
    if not (path / MANIFEST).is_file():
        return Found(path, changed, None, f"no {MANIFEST}: its compile did not end; compile again")
    try:
        body = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        files = body["files"]
        if isinstance(body.get("schedule"), dict):
            return Schedule(path, changed, str(body["summary"])[:500])
        if REPORT not in files:
            return Found(path, changed, None, f"its {MANIFEST} knows no {REPORT}; compile again")
        return Found(path, changed, read_run(path))
    except UsageError as error:
        return Found(path, changed, None, str(error))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        return Found(path, changed, None, f"{MANIFEST} is damaged: {error!r}"[:200])


def page(
    found: Sequence[Found],
    place: Path,
    title: str,
    newest_first: bool,
    schedules: Sequence[Schedule] = (),
) -> str:
    """A table of runs with Pareto plots, and any two of them layer by layer; the page will lie in
    the folder `place`. With exactly two runs it begins with what to make of them.

    Raises:
        ToolMissing: the plotting library is not installed.
    """
    runs = [each.run for each in found if each.run is not None]
    two = tuple(runs) if len(runs) == 2 and len(found) == 2 else None
    columns = list(
        dict.fromkeys((m.name, m.unit, m.kind) for run in runs for m in run.told.metrics)
    )
    return html.render(
        "runs.html",
        title=title,
        found=found,
        links=[_link(each, place) for each in found],
        schedules=[(each, _to(each.folder, place), _time(each.changed)) for each in schedules],
        times=[_time(each.changed) for each in found],
        newest_first=newest_first,
        columns=columns,
        metric_of=_metric_of,
        score_of=_score,
        scored=" or ".join(dict.fromkeys(run.report.score for run in runs)) or "accuracy",
        all_match=all(run.report.agreement.matches for run in runs),
        verdict=compare.verdict(*two) if two else "",
        options=compare.options_changed(*two) if two else [],
        changes=compare.changes(*two) if two else [],
        charts={
            "pareto": _paretos(runs, dict(zip([r.name for r in two or ()], "AB", strict=False)))
        },
        data=[_data(run) for run in runs],
    )


def _link(found: Found, place: Path) -> str:
    """From the page to the run's own, where it has one."""
    return "" if found.run is None else _to(found.folder, place)


def _to(folder: Path, place: Path) -> str:
    target = folder / "report.html"
    if not target.is_file():
        return ""
    return quote(Path(os.path.relpath(target.resolve(), place.resolve())).as_posix())


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def _metric_of(run: Run, column: tuple[str, str, Any]) -> Metric | None:
    return next((m for m in run.told.metrics if (m.name, m.unit, m.kind) == column), None)


def _score(run: Run) -> Metric | None:
    """Accuracy or AUC on the hardware as simulated, else of the integers."""
    stages = run.report.scores
    return next((stages[s] for s in ("simulation", "integer", "quantized") if s in stages), None)


def _paretos(runs: Sequence[Run], labels: Mapping[str, str]) -> dict[str, Any]:
    """A plot for every cost in which runs differ that have a score on the same data; `labels` are
    by the runs' names."""
    costs: dict[tuple[str, str, str, str, str], list[tuple[Run, Metric, Metric]]] = {}
    for run in runs:
        score, data = _score(run), compare.data_of(run)
        if score is None or not data or not run.report.agreement.matches:
            continue
        for metric in run.told.metrics:
            if base_name(metric.name) in COSTS:
                key = (metric.name, metric.unit, metric.kind.value, data, run.report.score)
                costs.setdefault(key, []).append((run, metric, score))
    drawn: dict[str, Any] = {}
    for (name, unit, kind, _, score_name), rows in costs.items():
        if len({metric.value for _, metric, _ in rows}) > 1:
            models = ", ".join(dict.fromkeys(run.report.model for run, _, _ in rows))
            title = f"{name} ({kind}): {models}"
            number = sum(other.startswith(title) for other in drawn)  # the same model, other data
            title = f"{title}, other data ({number})" if number else title
            points = _points(rows, labels, score_name)
            drawn[title] = charts.pareto(name, unit, points, score_name)
    return drawn


def _points(
    rows: Sequence[tuple[Run, Metric, Metric]], labels: Mapping[str, str], name: str
) -> list[dict[str, Any]]:
    pairs = [(cost.value, score.value) for _, cost, score in rows]
    return [
        {
            "run": run.name,
            "label": labels.get(run.name, ""),
            "cost": cost.value,
            name: score.value,
            "low": score.interval.low if score.interval else score.value,
            "high": score.interval.high if score.interval else score.value,
            "best": not any(
                (c <= cost.value and s >= score.value) and (c, s) != (cost.value, score.value)
                for c, s in pairs
            ),
        }
        for run, cost, score in rows
    ]


def _data(run: Run) -> dict[str, Any]:
    """The layers as name and value pairs, for the difference of two runs."""
    return {
        "name": run.name,
        "layers": [{"name": layer.name, "values": _values(layer)} for layer in run.shown_layers],
    }


def _values(layer: Layer) -> dict[str, str | float]:
    weights, sums, error = layer.weights, layer.accumulator, layer.error
    found: dict[str, str | float | None] = {
        "operation": layer.op,
        "output": shape_text(layer.shape),
        "type": layer.type,
        "weight bits": weights.bits if weights else None,
        "weights that are 0": weights.zeros if weights else None,
        "accumulator bits": sums.bits if sums else None,
        "requantization": layer.requant or None,
        "own rounding, dB": _tenths(error.sqnr if error else None),
        "float twin, dB": _tenths(layer.twin_ratio),
        "MACs": layer.macs or None,
        **{f"{m.name} ({m.kind.value})": m.value for m in layer.metrics},
    }
    return {name: value for name, value in found.items() if value is not None}


def _tenths(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
