"""Experiments: what a format or a gradient rule is worth on digits, over paired seeds.

Run with `make experiment NAME=daq_vs_ste`; writes reports/baseline/experiment_<name>.csv. In a pair
the networks start from the same float twin and see the same batches. Trainings that are done are
not repeated; a run that is stopped goes on where it was. Each experiment takes some five minutes of
one core.
"""

from __future__ import annotations

import csv
import os
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from scipy import stats

from flow.errors import FlowError
from flow.options import split_assignments, unknown_name
from flow.qat.recipe import Conv, Dense, Flatten, Recipe, apply_options
from flow.qat.result import TrainResult, finished

RUNS = Path("reports/runs/experiments")
TABLES = Path("reports/baseline")
CONFIDENCE = 0.95
FLOAT = "float"  # the row of the float twins


@dataclass(frozen=True)
class Experiment:
    """Arms by name, each a text of options over `recipe`; all are compared with the first one.

    `claim` is the order that the papers report, better first, of two arms.
    """

    about: str
    recipe: Recipe
    arms: Mapping[str, str]
    claims: Sequence[tuple[str, str]]
    seeds: int = 15


def _net(width: int, options: str) -> Recipe:
    """Three hidden convolutions between a first and a last layer with 8-bit weights."""
    recipe = Recipe(
        name=f"digits_{width}",
        data="digits",
        input_shape=(1, 8, 8),
        layers=(
            Conv("conv1", width, kernel=3, padding=1),
            Conv("conv2", width, kernel=3, padding=1),
            Conv("conv3", width, kernel=3, stride=2, padding=1),
            Conv("conv4", width, kernel=3, padding=1),
            Flatten("flatten"),
            Dense("fc", 10),
        ),
        float_epochs=10,
        epochs=20,
        batch_size=128,
        overrides=(("conv1", "weight_bits", 8), ("fc", "weight_bits", 8)),
    )
    return apply_options(recipe, split_assignments(options))


_W1A1 = (
    "weight_format=binary act_format=binary conv1.weight_format=integer fc.weight_format=integer"
)
_BWN = "weight_format=binary conv1.weight_format=integer fc.weight_format=integer act_bits=8"
_W2A2 = "weight_bits=2 act_bits=2 scale=float"

EXPERIMENTS: dict[str, Experiment] = {
    "daq_vs_ste": Experiment(
        "hidden layers of 1-bit weights and activations",
        _net(8, _W1A1),
        {"ste_clipped": "rule=ste_clipped", "daq": "rule=daq", "ste": "rule=ste"},
        [("daq", "ste_clipped")],
    ),
    "ewgs_vs_ste": Experiment(
        "hidden layers of 1-bit weights and activations",
        _net(8, _W1A1),
        {
            "ste_clipped": "rule=ste_clipped",
            "ewgs": "rule=ewgs ewgs_delta=0.2",
            "ewgs_hessian": "rule=ewgs_hessian",
        },
        [("ewgs", "ste_clipped"), ("ewgs_hessian", "ste_clipped")],
    ),
    "rules_w2a2": Experiment(
        "2-bit weights and activations, float scales",
        _net(6, _W2A2),
        {
            "ste_clipped": "rule=ste_clipped",
            "daq": "rule=daq",
            "ewgs_hessian": "rule=ewgs_hessian",
        },
        [("daq", "ste_clipped"), ("ewgs_hessian", "ste_clipped")],
    ),
    "bwn_vs_xnor": Experiment(
        "binary hidden weights, with 8-bit (BWN) and with binary (XNOR) activations",
        _net(12, ""),
        {"xnor": _W1A1, "bwn": _BWN},
        [(FLOAT, "bwn"), ("bwn", "xnor")],
        seeds=6,
    ),
    "floor_vs_half_even": Experiment(
        "4-bit weights, activations rounded down with the half in the bias",
        _net(6, "act_bits=3"),
        {"half_even": "rounding=half_even", "floor": "rounding=floor"},
        [],
        seeds=10,
    ),
}


@dataclass(frozen=True)
class Interval:
    """A mean with the half-width of its confidence interval (Student's t)."""

    mean: float
    half: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Interval:
        """From at least two values."""
        t = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1))
        return cls(mean(values), t * stdev(values) / len(values) ** 0.5)

    def __str__(self) -> str:
        return f"{self.mean:.2f} ± {self.half:.2f}"


def verdict(difference: Interval) -> str:
    """Whether the better one of a claim is better."""
    if difference.mean - difference.half > 0:
        return "shown"
    if difference.mean + difference.half < 0:
        return "the opposite is shown"
    return "not shown: the interval holds zero"


def table(experiment: Experiment, accuracies: Mapping[str, Sequence[float]]) -> list[list[str]]:
    """Rows of text: one an arm, then one a claim; accuracies are in percent, one a seed."""
    first = next(iter(experiment.arms))
    rows = [["method", "seeds", "accuracy", "difference", "wins", "losses", "note"]]
    for arm, values in accuracies.items():
        pairs = list(zip(values, accuracies[first], strict=True))
        differences = [a - b for a, b in pairs]
        against = "" if arm == first else str(Interval.of(differences))
        wins, losses = (sum(sign * d > 0 for d in differences) for sign in (1, -1))
        counts = ["", ""] if arm == first else [str(wins), str(losses)]
        note = "" if arm != first else "what the others are compared with"
        rows.append([arm, str(len(values)), str(Interval.of(values)), against, *counts, note])
    for better, worse in experiment.claims:
        difference = Interval.of(
            [a - b for a, b in zip(accuracies[better], accuracies[worse], strict=True)]
        )
        found = verdict(difference)
        rows.append([f"{better} > {worse}", "", "", str(difference), "", "", found])
    return rows


def main(name: str) -> int:
    """Train what is missing, write the table."""
    if name not in EXPERIMENTS:
        raise unknown_name("experiment", name, EXPERIMENTS)
    experiment = EXPERIMENTS[name]
    accuracies: dict[str, list[float]] = {FLOAT: [], **{arm: [] for arm in experiment.arms}}
    started, total = time.process_time(), experiment.seeds * len(experiment.arms)
    for seed in range(experiment.seeds):
        for arm, options in experiment.arms.items():
            recipe = apply_options(
                experiment.recipe, {**split_assignments(options), "seed": str(seed)}
            )
            result = _train(recipe)
            assert result.accuracy is not None and result.float_accuracy is not None
            accuracies[arm].append(100 * result.accuracy)
        accuracies[FLOAT].append(100 * result.float_accuracy)
        done = sum(len(accuracies[arm]) for arm in experiment.arms)
        now = "  ".join(f"{arm} {values[-1]:.2f}" for arm, values in accuracies.items())
        print(
            f"{done} of {total} trainings, {time.process_time() - started:.0f} s: {now}", flush=True
        )
    rows = table(experiment, accuracies)
    TABLES.mkdir(parents=True, exist_ok=True)
    path = TABLES / f"experiment_{name}.csv"
    with path.open("w", newline="") as handle:
        csv.writer(handle, lineterminator="\n").writerows(
            [[f"# {experiment.about}; digits, test split"], *rows]
        )
    print(path.read_text())
    return 0


def _train(recipe: Recipe) -> TrainResult:
    folder = RUNS / f"{recipe.name}-{recipe.digest()[:12]}"
    done = finished(recipe, folder)
    if done is not None:
        return done
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "fast_hadamard_transform package not found")
        from flow.qat.train import train
    return train(recipe, folder)


if __name__ == "__main__":
    try:
        sys.exit(main(os.environ.get("NAME", "")))
    except FlowError as error:
        print(f"experiment: {error}", file=sys.stderr)
        sys.exit(2)
