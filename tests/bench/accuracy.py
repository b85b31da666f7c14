"""Accuracy of the shipped models over three seeds, each with its float twin, as a committed table.

Run with `make figures`, or `make figures MODEL=…` for one model's rows; needs the models' data
sets (MNIST is fetched); writes reports/baseline/accuracy.csv. Trainings that are done are not
repeated; a run that is stopped goes on where it was. `low` and `high` are Student's 95 % interval
of the mean over the seeds, all on one test split.
"""

from __future__ import annotations

import csv
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from flow.errors import FlowError
from flow.options import unknown_name
from flow.plan import Events, Plan, Request
from flow.qat.experiments import Estimate
from flow.qat.recipe import apply_options
from flow.qat.result import TrainResult
from models import MODELS as SHIPPED

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
    "digits_hx8k": ({"scale": "float", "granularity": "channel"},),
    "digits_ecp5": ({"scale": "float", "granularity": "channel"},),
    "mnist_cnn": (DEFAULT,),
    "mnist_bnn": (DEFAULT,),
    "kws_dscnn": tuple(
        {"scale": "po2", "granularity": "channel", "weight_bits": bits, "act_bits": bits}
        for bits in ("8", "4")
    ),
}
COLUMNS = (
    *("model", "scale", "granularity", "weight_bits", "act_bits", "seeds", "test_samples"),
    *("float", "quantized", "low", "high", "each"),
)


def main(chosen: Sequence[str]) -> int:
    """Train what is missing of the chosen models (none: all), write the table; the exit code."""
    try:
        for model in chosen:
            if model not in MODELS:
                raise unknown_name("model with figures", model, MODELS)
        _write(chosen or tuple(MODELS))
    except FlowError as error:  # such as: no network to fetch a data set through
        print(f"bitwright: error: {error}", file=sys.stderr)
        return error.exit_code
    print(TABLE.read_text())
    return 0


def _write(chosen: Sequence[str]) -> None:
    rows = _rows()
    for model in chosen:
        rows[model] = [_row(model, setting) for setting in MODELS[model]]
        TABLE.parent.mkdir(parents=True, exist_ok=True)
        with TABLE.open("w", newline="") as handle:
            writer = csv.writer(handle, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows(row for name in MODELS for row in rows.get(name, []))


def _rows() -> dict[str, list[list[str]]]:
    """The rows that the table has, by model."""
    found: dict[str, list[list[str]]] = {}
    if TABLE.is_file():
        with TABLE.open(newline="") as handle:
            for row in list(csv.reader(handle))[1:]:
                found.setdefault(row[0], []).append(row)
    return found


def _row(model: str, setting: Mapping[str, str]) -> list[str]:
    recipe = apply_options(SHIPPED[model](), setting)
    results = [_trained(model, {**setting, "seed": str(seed)}) for seed in SEEDS]
    twins, each = (
        [100 * share for share in shares if share is not None]
        for shares in zip(*((r.float_accuracy, r.accuracy) for r in results), strict=True)
    )
    estimate = Estimate.of(each)
    low, high = estimate.mean - estimate.half, estimate.mean + estimate.half
    numbers = (statistics.mean(twins), estimate.mean, low, min(high, 100.0))
    return [
        *(model, recipe.scale.value, recipe.granularity.value),
        *(str(bits) for bits in (recipe.weight_bits, recipe.act_bits, len(SEEDS))),
        str(results[0].test_samples),
        *(f"{number:.2f}" for number in numbers),
        " ".join(f"{value:.2f}" for value in each),
    ]


def _trained(model: str, options: dict[str, str]) -> TrainResult:
    trained = Plan(Request(model, "hls4ml", options), Events()).trained
    assert trained is not None
    print(f"{model} {options}: {100 * (trained.accuracy or 0):.2f} %", flush=True)
    return trained


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
