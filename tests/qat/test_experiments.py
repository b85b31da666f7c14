"""The arithmetic behind the tables of experiments, and one experiment from start to end."""

from __future__ import annotations

import csv
import dataclasses
import math
from pathlib import Path

import pytest

from flow.errors import UsageError
from flow.qat import experiments
from flow.qat.experiments import (
    EXPERIMENTS,
    FLOAT,
    Claim,
    Estimate,
    Experiment,
    run_experiment,
    table,
)
from tests.qat.support import MLP

B_BEATS_A = Claim("b", "a", "nobody")


def test_interval_is_students() -> None:
    # Four values, three degrees of freedom: t = 3.18245 at 95 %.
    found = Estimate.of([1.0, 2.0, 3.0, 4.0])
    assert found.mean == 2.5
    assert found.half == pytest.approx(3.18245 * math.sqrt(5 / 3) / 2, rel=1e-5)


@pytest.mark.parametrize(
    ("low", "high", "more", "as_good"),
    [
        (0.1, 0.5, "shown", "shown"),
        (-0.5, -0.1, "not shown; the opposite is", "shown: not worse by 1 or more"),
        (-0.1, 0.2, "not shown: the interval holds zero", "shown: not worse by 1 or more"),
        (-1.1, 0.2, "not shown: the interval holds zero", "not shown: the interval holds zero"),
        (-1.1, -0.2, "not shown; the opposite is", "not shown; the opposite is"),
        (0.0, 0.2, "not shown: the interval holds zero", "shown: not worse by 1 or more"),
    ],
)
def test_a_verdict_needs_an_interval_without_zero(
    low: float, high: float, more: str, as_good: str
) -> None:
    difference = Estimate((low + high) / 2, (high - low) / 2)
    assert B_BEATS_A.verdict(difference) == more
    equal = dataclasses.replace(B_BEATS_A, equal=True)
    assert equal.verdict(difference).startswith(as_good)
    assert (str(B_BEATS_A), str(equal)) == ("b > a", "b ≥ a")


def test_a_table_compares_in_pairs() -> None:
    arms = {"a": "rule=ste", "b": "rule=daq"}
    experiment = Experiment("", EXPERIMENTS["daq_vs_ste"].recipe, arms, [B_BEATS_A])
    rows = table(experiment, {FLOAT: [99.0] * 3, "a": [90.0, 80, 70], "b": [91.0, 82, 73]})
    by_name = {row[0]: row for row in rows}
    assert by_name["b"][3] == f"2.00 ± {4.302653 / math.sqrt(3):.2f}"
    assert by_name["b"][4:6] == by_name["b > a"][4:6] == ["3", "0"]
    assert by_name["b > a"][-1].startswith("not shown")  # 2.00 +- 2.48


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_arms_of_an_experiment_are_paired(name: str) -> None:
    experiment = EXPERIMENTS[name]
    recipes = experiment.recipes(7)
    assert len({recipe.digest() for recipe in recipes.values()}) == len(experiment.arms) >= 2
    assert {recipe.seed for recipe in recipes.values()} == {7}
    for claim in experiment.claims:
        assert {claim.better, claim.worse} <= {*experiment.arms, FLOAT}


def test_an_experiment_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = dataclasses.replace(MLP, float_epochs=1, epochs=1)
    arms = {"a": "rule=ste_clipped", "b": "rule=daq"}
    monkeypatch.setitem(EXPERIMENTS, "small", Experiment("", small, arms, [B_BEATS_A], seeds=2))
    runs, notes = tmp_path / "runs", list[str]()
    train, trainings = experiments.trained, list[str]()

    def stops(*args: object, **more: object) -> object:
        if len(trainings) == 3:
            raise KeyboardInterrupt
        trainings.append("")
        return train(*args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(experiments, "trained", stops)
    with pytest.raises(KeyboardInterrupt):
        run_experiment("small", runs, tmp_path, notes.append)
    assert len(notes) == 1 and notes[0].startswith("2 of 4 trainings")
    stamps = {path: path.stat().st_mtime_ns for path in runs.rglob("training.json")}
    assert len(stamps) == 3
    assert len(list((runs / "twins").iterdir())) == 2  # one a seed, for both arms

    monkeypatch.setattr(experiments, "trained", train)
    found = run_experiment("small", runs, tmp_path, notes.append)
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())
    assert [row[0] for row in found.rows[1:]] == ["method", FLOAT, "a", "b", "b > a"]
    with found.path.open(newline="") as handle:
        assert list(csv.reader(handle)) == found.rows


def test_an_unknown_experiment_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown experiment 'daq'"):
        run_experiment("daq", tmp_path, tmp_path, lambda _: None)
