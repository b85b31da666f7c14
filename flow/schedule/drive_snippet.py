"""A schedule's policy driving real interpreters on this machine: needs numpy and ai-edge-litert.

    python drive.py                 # all requests of drive.json
    python drive.py --requests 200

Requests arrive as in the trace, in real time. When one is to be served, the policy chooses a
variant, LiteRT's interpreter of that variant runs on one thread, and the wall time that it took
corrects the policy's predictions. Times are measured. Energy is not: it is the wall time times the
power that the platform's table has for the choice. Prints, as its last line, one JSON object.
Beside it lie policy.py, policy.json, run_tflite.py, and the variants' .tflite files.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
SPIN_S = 0.002  # before an arrival, that sleeping might miss
WARM_UP = 20


def main() -> int:
    parser = argparse.ArgumentParser(description="drive interpreters by a policy, in real time")
    parser.add_argument(
        "--requests", type=int, default=0, help="so many of the trace (default: all)"
    )
    args = parser.parse_args()
    sys.path.insert(0, str(HERE))
    try:
        policy = importlib.import_module("policy").Policy.load(HERE / "policy.json")
        build = importlib.import_module("run_tflite").build
    finally:
        sys.path.pop(0)
    told = json.loads((HERE / "drive.json").read_text())
    requests = told["requests"][: args.requests or None]
    runners = {name: _runner(build(HERE / file)) for name, file in told["files"].items()}
    log = drive(policy, requests, runners)
    print(json.dumps(summary(log, json.loads((HERE / "policy.json").read_text()))))
    return 0


def _runner(interpreter: Any) -> Any:
    """One inference as a function, warmed up; the numbers do not matter to its time."""
    (given,), (made, *_) = interpreter.get_input_details(), interpreter.get_output_details()
    numbers = np.zeros(given["shape"], given["dtype"])

    def invoke() -> None:
        interpreter.set_tensor(given["index"], numbers)
        interpreter.invoke()
        interpreter.get_tensor(made["index"])

    for _ in range(WARM_UP):
        invoke()
    return invoke


def drive(policy: Any, requests: list[list[Any]], runners: dict[str, Any]) -> list[dict[str, Any]]:
    """Serve requests (arrival_us, model, deadline_us, least accuracy) in order; a row for each."""
    log, arrived, start = [], 0, time.perf_counter()

    def now() -> int:
        return int((time.perf_counter() - start) * 1e6)

    for arrival, _, deadline, _ in requests:
        if arrival > now():
            policy.rested()
            while (left := arrival * 1e-6 - (time.perf_counter() - start)) > 0:
                if left > SPIN_S:
                    time.sleep(left - SPIN_S)
        at = now()
        while arrived < len(requests) and requests[arrived][0] <= at:
            policy.arrived(*requests[arrived][1:])
            arrived += 1
        before = time.perf_counter()
        choice = policy.decide(at)
        decided = time.perf_counter()
        policy.started(choice)
        runners[choice.variant]()
        took = (time.perf_counter() - decided) * 1e6
        policy.finished(choice, took)
        done = now()
        log.append(
            {
                "place": choice.place,
                "variant": choice.variant,
                "took_us": took,
                "predicted_us": choice.predicted_us,
                "decided_us": (decided - before) * 1e6,
                "latency_us": done - arrival,
                "missed": done > deadline,
            }
        )
    return log


def summary(log: list[dict[str, Any]], table: dict[str, Any]) -> dict[str, Any]:
    """What came of it; energy above the floor in mJ for a request, times that were taken in ms."""
    latency = np.array([row["latency_us"] for row in log]) * 1e-3
    mw = np.array([table["actions"][row["place"]]["mw"] for row in log])
    took = np.array([row["took_us"] for row in log])
    names = sorted({row["variant"] for row in log})
    return {
        "requests": len(log),
        "missed": int(sum(row["missed"] for row in log)),
        "latency_ms": np.percentile(latency, [50, 95, 99, 100]).tolist(),
        "busy_mj": float((took * mw).mean() * 1e-6),
        "decided_us": np.percentile([row["decided_us"] for row in log], [50, 99]).tolist(),
        "off": float(np.median(np.abs(took / [row["predicted_us"] for row in log] - 1))),
        "variants": {name: sum(row["variant"] == name for row in log) for name in names},
        "took_ms": {
            name: float(np.median([r["took_us"] for r in log if r["variant"] == name])) * 1e-3
            for name in names
        },
    }


if __name__ == "__main__":
    sys.exit(main())
