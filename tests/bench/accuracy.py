"""Accuracy of the shipped models over three seeds, each with its float twin, as a committed table.

Run with `make figures`; writes reports/baseline/accuracy.csv. Trainings that are done are not
repeated; a run that is stopped goes on where it was.
"""

from __future__ import annotations

import csv
import statistics
import sys
from pathlib import Path

from flow.plan import Events, Plan, Request

SEEDS = (0, 1, 2)
TABLE = Path("reports/baseline/accuracy.csv")
SETTINGS = (
    {"scale": "po2", "granularity": "tensor"},
    {"scale": "po2", "granularity": "channel"},
    {"scale": "float", "granularity": "tensor"},
    {"scale": "float", "granularity": "channel"},
)


def main() -> int:
    """Train what is missing, write the table."""
    rows = []
    for model in ("digits_mlp", "digits_cnn"):
        for setting in SETTINGS:
            results = []
            for seed in SEEDS:
                request = Request(model, "hls4ml", {**setting, "seed": str(seed)})
                trained = Plan(request, Events()).trained
                assert trained is not None
                results.append(trained)
                print(f"{model} {setting} seed {seed}: {100 * trained.accuracy:.2f} %", flush=True)
            rows.append(
                [
                    model,
                    *setting.values(),
                    len(SEEDS),
                    results[0].test_samples,
                    *(
                        f"{100 * statistics.mean(values):.2f}"
                        for values in (
                            [r.float_accuracy for r in results],
                            [r.accuracy for r in results],
                        )
                    ),
                    " ".join(f"{100 * r.accuracy:.2f}" for r in results),
                ]
            )
    TABLE.parent.mkdir(parents=True, exist_ok=True)
    with TABLE.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow("model scale granularity seeds test_samples float quantized each".split())
        writer.writerows(rows)
    print(TABLE.read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
