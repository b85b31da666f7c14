"""How much of a network's outputs each mobile runtime gives, over whole test splits.

Every row is a compile and a check in the real runtime: with exact=required, and where that ends in
a mismatch, with exact=measured. Trainings are short (EPOCHS), as agreement does not depend on them;
accuracies are those of such networks. Outputs of 32 bits are the networks' accumulators, so that
one inner code that differs changes all outputs of its sample, by many units; int8 ones are what
`output_bits=8` makes of them.
Run with `make bench SUITE=tflite_exact`; writes reports/baseline/tflite_exact.csv and keeps rows
that are there: a run that was stopped goes on. `python -m tests.bench.tflite_exact mnist_cnn int16`
measures the named models' rows anew, and those of activations of 12 and 16 bits.
"""

from __future__ import annotations

import csv
import io
import itertools
import sys
from pathlib import Path

from flow.driver import check_model
from flow.errors import Mismatch, Unsupported
from flow.plan import Events, Request
from flow.report.result import Report

OUT = Path("reports/baseline/tflite_exact.csv")
EPOCHS = {"mnist_cnn": 2, "digits_bnn": 20}
SHIPPED = ("mnist_cnn", "po2", 4, 32)  # trained as its recipe says
FEW = 6
FORMATS = [("po2", 8), ("po2", 4), ("po2", 2), ("float", 8), ("float", 4)]
RAW, CODES = 32, 8  # bits of the output
NETWORKS = [
    *itertools.product(("digits_mlp", "digits_cnn", "digits_resnet"), FORMATS, (RAW,)),
    ("digits_bnn", ("po2", 1), RAW),
    *itertools.product(("mnist_cnn",), FORMATS, (RAW,)),
    *itertools.product(("digits_cnn", "mnist_cnn"), FORMATS, (CODES,)),
]
WIDE = [
    (model, (scale, bits), RAW)
    for model in ("digits_mlp", "digits_cnn", "digits_resnet")
    for scale in ("po2", "float")
    for bits in (12, 16)
]
RUNTIMES = {
    "LiteRT": {"runtime": "litert"},
    "tflite-runtime": {"runtime": "tflite-runtime"},
    "tflite-runtime, XNNPACK": {"runtime": "tflite-runtime", "xnnpack": "true"},
}


def options(model: str, scale: str, bits: int, output: int) -> dict[str, str]:
    """What makes the network; its activations have as many bits as its weights, or more than 8."""
    epochs = str(EPOCHS.get(model, FEW))
    chosen = {"scale": scale}
    if (model, scale, bits, output) != SHIPPED:
        chosen |= {"float_epochs": epochs, "epochs": epochs}
    if scale == "float":
        chosen["granularity"] = "channel"
    if output == CODES:
        chosen["output_bits"] = str(CODES)
    if bits > 8:
        chosen |= {"weight_bits": "8", "act_bits": str(bits), "activations": "int16"}
    elif bits > 1:  # digits_bnn says itself which layers are binary
        chosen |= {"weight_bits": str(bits), "act_bits": str(bits)}
    return chosen


def checked(model: str, chosen: dict[str, str], runtime: dict[str, str]) -> tuple[str, Report]:
    """The option exact with which it passes, and the check's report."""
    for exact in ("required", "measured"):
        request = Request(model, "tflite", {**chosen, **runtime, "exact": exact})
        try:
            return exact, check_model(request, None, Events())
        except Mismatch:
            continue
    raise AssertionError("exact=measured never ends in a mismatch")


def _asked(model: str, bits: int, models: list[str]) -> bool:
    return (model in models and bits <= 8) or ("int16" in models and bits > 8)


def main(anew: list[str]) -> int:
    table: dict[tuple[str, ...], list[str]] = {}
    if OUT.is_file():
        with OUT.open(newline="") as handle:
            for row in list(csv.reader(handle))[1:]:
                if not _asked(row[0], int(row[2]), anew):
                    table[tuple(row[:5])] = row
    for model, (scale, bits), output in [*NETWORKS, *WIDE]:
        for name, runtime in RUNTIMES.items():
            if bits > 8 and "xnnpack" in runtime:  # it has no kernels for int16
                continue
            key = (model, scale, str(bits), str(output), name)
            if key not in table:
                table[key] = [*key, *_row(model, options(model, scale, bits, output), runtime)]
                print(*table[key], sep=", ", file=sys.stderr, flush=True)
                OUT.write_text(_text(table))
    print(_text(table), end="")
    return 0


def _row(model: str, chosen: dict[str, str], runtime: dict[str, str]) -> list[str]:
    """What is measured of one network on one runtime."""
    try:
        exact, report = checked(model, chosen, runtime)
    except Unsupported as error:
        print(error, file=sys.stderr, flush=True)
        return ["refused", *[""] * 7]
    same = report.agreement
    unproven = sum("not proven" in warning for warning in report.warnings)
    found, wanted = (report.accuracy[key].value for key in ("simulation", "integer"))
    share = f"{100 * same.outputs_equal / same.outputs:.3f}"
    counts = (same.outputs_equal, same.outputs, share, same.largest, unproven)
    return [exact, *map(str, counts), f"{100 * found:.2f}", f"{100 * wanted:.2f}"]


def _text(table: dict[tuple[str, ...], list[str]]) -> str:
    """The rows in the order of the networks."""
    networks = [(m, s, str(b), str(o)) for m, (s, b), o in [*NETWORKS, *WIDE]]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    head = ["model", "scale", "bits", "output", "runtime", "exact", "outputs equal", "outputs"]
    head += ["share %", "largest difference", "unproven layers", "accuracy %", "reference %"]
    writer.writerow(head)
    keys = ((*network, name) for network in networks for name in RUNTIMES)
    writer.writerows(table[key] for key in keys if key in table)
    return text.getvalue()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
