"""The experiment noise_aware: what training through the noise of chips is worth on them.

Fixed before the first table: a chip is good where it loses no more than a point of the accuracy
that the network has before it is trained on, without noise; everything else is what users get by
`noise_aware=true`. How much noise training sees was chosen on the seeds 0 to 2 of digits_mlp, of
which none is in the table. All of it takes the better part of an hour of a core, most of it for
mnist_cnn.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flow.artifact import replace_bytes, writing_to
from flow.driver import check_model
from flow.metric import Metric
from flow.plan import Events, Plan, Request
from flow.qat.experiments import Estimate, Finding
from flow.report.result import Report

NAME = "noise_aware"
MARGIN = 0.01  # of accuracy, that good chips may lose
DEVICE = {"device": "pcm", "time_s": "86400", "noise_aware": "true"}
ARMS = ("before", "control", "noise_aware")
_FIELDS = "model seed arm digital floor chips yield accuracy_gain yield_gain note".split()


@dataclass(frozen=True)
class Case:
    """A model, the seeds that it is trained with, how many chips of each arm are rated, and on
    which of the test samples: every `step`-th."""

    model: str
    seeds: Sequence[int]
    chips: int
    step: int = 1


CASES = (Case("digits_mlp", range(4, 14), 400), Case("mnist_cnn", range(3), 200, 5))


def run_noise_experiment(
    runs: Path, tables: Path, note: Callable[[str], None], cases: Sequence[Case] = CASES
) -> Finding:
    """Train and simulate what is missing under `runs`, write `tables`/experiment_noise_aware.csv.

    Raises:
        FlowError: as `flow.driver.check_model`.
    """
    told = f"# chips of device {DEVICE['device']} after {DEVICE['time_s']} s, trained on as asked"
    rows = [[f"{told}; percent, with 95 % intervals"], list(_FIELDS)]
    for case in cases:
        gains: dict[str, list[float]] = {"before": [], "control": []}
        for seed in case.seeds:
            note(f"{case.model}, seed {seed}")
            floor, digital, report = _rated(case, seed, runs, note)
            rows += _rows(case, seed, floor, digital, report)
            found = {metric.name: metric.value for metric in report.metrics}
            for arm, values in gains.items():
                values.append(100 * found[f"yield gained on {arm}"])
        rows += [_over_seeds(case, arm, values) for arm, values in gains.items()]
    return Finding.written(NAME, rows, tables)


def _rated(
    case: Case, seed: int, runs: Path, note: Callable[[str], None]
) -> tuple[float, dict[str, float], Report]:
    """The floor, every arm's accuracy without noise, and the check of the network that was trained
    through noise."""
    options = {**DEVICE, "seed": str(seed), "chips": str(case.chips)}
    plan = Plan(Request(case.model, "analog", options, runs=runs), Events(note))
    sources = {name: source for name, _, source in plan.others} | {NAME: plan}
    digital = {}
    for name, source in sources.items():
        assert source.trained is not None and source.trained.accuracy is not None
        digital[name] = source.trained.accuracy
    floor = round(digital["before"] - MARGIN, 6)
    given = Request(case.model, "analog", {**options, "floor": str(floor)}, runs=runs)
    return floor, digital, check_model(given, _part(case, plan, runs), Events(note))


def _part(case: Case, plan: Plan, runs: Path) -> Path | None:
    """A file of the samples to rate; None for all."""
    if case.step == 1:
        return None
    reference = plan.reference
    assert reference is not None and reference.labels is not None
    path = runs / "experiments" / f"{NAME}_{case.model}.npz"
    content = io.BytesIO()
    np.savez(content, x=reference.x[:: case.step], y=reference.labels[:: case.step])
    with writing_to(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_bytes(path, content.getvalue())
    return path


def _rows(
    case: Case, seed: int, floor: float, digital: Mapping[str, float], report: Report
) -> list[list[str]]:
    figures = {metric.name: metric for metric in report.metrics}
    rows = []
    for arm in ARMS:
        mine = arm == NAME
        behind = "" if mine else f" {arm}"
        gains = ["", "", ""]
        if not mine:
            gained = figures[f"yield gained on {arm}"]
            shown = gained.interval is not None and gained.interval.low > 0
            gains = [
                _percent(figures[f"accuracy gained on {arm}"]),
                _percent(gained),
                f"{NAME} > {arm}: {'shown' if shown else 'not shown'}, paired over chips",
            ]
        rows.append(
            [
                *(case.model, str(seed), arm, f"{100 * digital[arm]:.2f}", f"{100 * floor:.2f}"),
                _percent(report.accuracy[f"chips{behind}"]),
                _percent(figures[f"yield{behind}"]),
                *gains,
            ]
        )
    return rows


def _over_seeds(case: Case, arm: str, gains: Sequence[float]) -> list[str]:
    """What was gained on an arm, in pairs of networks of one seed."""
    row = [case.model, f"{len(gains)} seeds", arm, "", "", "", "", ""]
    if len(gains) < 2:
        return [*row, f"{gains[0]:.2f}", "one seed: nothing is told of others"]
    found = Estimate.of(gains)
    said = "shown" if found.mean > found.half else "not shown"
    return [*row, str(found), f"{NAME} > {arm}: {said}, paired over seeds"]


def _percent(metric: Metric) -> str:
    interval = metric.interval
    assert interval is not None
    low, high = 100 * interval.low, 100 * interval.high
    return f"{100 * metric.value:.2f} [{low:.2f} {high:.2f}]"
