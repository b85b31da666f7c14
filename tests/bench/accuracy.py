"""Accuracy of the shipped models over three seeds, each with its float twin, as a committed table.

Run with `make figures`; needs MNIST (fetched, or in $BITWRIGHT_DATA/mnist); writes
reports/baseline/accuracy.csv. Trainings that are done are not repeated; a run that is stopped goes
on where it was.
"""

from __future__ import annotations

import csv
import statistics
import sys
from pathlib import Path

from flow.plan import Events, Plan, Request
from flow.qat.result import TrainResult

SEEDS = (0, 1, 2)
TABLE = Path("reports/baseline/accuracy.csv")
DEFAULT = {"scale": "po2", "granularity": "tensor"}
ALL = (
    DEFAULT,
    {"scale": "po2", "granularity": "channel"},
    {"scale": "float", "granularity": "tensor"},
    {"scale": "float", "granularity": "channel"},
)
MODELS = {
    "digits_mlp": ALL,
    "digits_cnn": ALL,
    "digits_resnet": (DEFAULT, {"scale": "float", "granularity": "channel"}),
    "digits_bnn": (DEFAULT,),
    "mnist_cnn": (DEFAULT,),
    "mnist_bnn": (DEFAULT,),
}


def main() -> int:
    """Train what is missing, write the table."""
    rows = []
    for model, settings in MODELS.items():
        for setting in settings:
            results = [_trained(model, {**setting, "seed": str(seed)}) for seed in SEEDS]
            shares = [
                [100 * share for share in pair if share is not None]
                for pair in zip(*((r.float_accuracy, r.accuracy) for r in results), strict=True)
            ]
            rows.append(
                [
                    model,
                    *setting.values(),
                    len(SEEDS),
                    results[0].test_samples,
                    *(f"{statistics.mean(values):.2f}" for values in shares),
                    " ".join(f"{value:.2f}" for value in shares[1]),
                ]
            )
    TABLE.parent.mkdir(parents=True, exist_ok=True)
    with TABLE.open("w", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow("model scale granularity seeds test_samples float quantized each".split())
        writer.writerows(rows)
    print(TABLE.read_text())
    return 0


def _trained(model: str, options: dict[str, str]) -> TrainResult:
    trained = Plan(Request(model, "hls4ml", options), Events()).trained
    assert trained is not None
    print(f"{model} {options}: {100 * (trained.accuracy or 0):.2f} %", flush=True)
    return trained


if __name__ == "__main__":
    sys.exit(main())
