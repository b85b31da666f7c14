"""A schedule's exported policy with LiteRT's interpreters on this host, through the trace."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from flow import packages
from flow.artifact import write_json
from flow.errors import ToolFailed, UsageError
from flow.metric import Interval, Kind, Metric
from flow.schedule import drive_snippet
from flow.schedule.result import VARIED, Driven
from flow.schedule.work import Table
from flow.schedule_plan import HOST, SchedulePlan
from flow.tools import run as run_program
from targets.tflite import snippet as run_tflite
from targets.tflite.simulation import MODEL

CODE, REQUESTS = "drive.py", "drive.json"
_NOMINAL = 0.5  # coverage of an interval that nobody checked


def drive(plan: SchedulePlan, stage: Path, table: Table) -> Driven:
    """Write what driving takes into `stage`, beside the policy, and do it once.

    Raises:
        UsageError: the platform is not this host, or a variant has no .tflite file.
        ToolMissing, ToolFailed: LiteRT is not there, or the program failed.
    """
    platform, trace = plan.platform, plan.trace
    if platform.name != HOST:
        raise UsageError(
            f"option drive runs interpreters on this host: PLATFORM must be {HOST}, not "
            f"{platform.name}"
        )
    if trace.closed:
        raise UsageError(
            "option drive follows a trace's own arrivals, which a closed loop has none of"
        )
    packages.require("ai-edge-litert")
    count = min(plan.settings.drive, len(trace))
    (stage / "variants").mkdir()
    files = {}
    for number, known in enumerate(plan.known):
        made = known.artifact
        if made is None or not (made.folder / MODEL).is_file():
            raise UsageError(
                f"option drive: variant {known.variant.name} has no {MODEL}; compile it with "
                f"TARGET=tflite"
            )
        place = f"variants/{number}.tflite"
        (stage / place).write_bytes((made.folder / MODEL).read_bytes())
        files[known.variant.name] = place
    rows = zip(trace.arrival_us, trace.model, trace.deadline_us, trace.min_accuracy, strict=True)
    requests = [
        [int(arrival), trace.models[model], int(deadline), float(floor)]
        for (arrival, model, deadline, floor), _ in zip(rows, range(count), strict=False)
    ]
    write_json(stage / REQUESTS, {"files": files, "requests": requests})
    for name, module in ((CODE, drive_snippet), ("run_tflite.py", run_tflite)):
        (stage / name).write_text(Path(str(module.__file__)).read_text(encoding="utf-8"))
    seconds = trace.arrival_us[count - 1] * 1e-6
    plan.events.note(f"driving {count:,} requests on this host, for {seconds:.0f} s")
    return _driven(_run(stage))


def _run(stage: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="bitwright-") as work:
        log = Path(work) / "log"
        # -B: nothing is compiled into the folder, whose files are listed in its manifest.
        run_program([sys.executable, "-B", str((stage / CODE).resolve())], Path(work), log)
        lines = log.read_text(encoding="utf-8").splitlines()
    try:
        found: dict[str, Any] = json.loads(lines[-1])
    except (IndexError, ValueError) as error:
        raise ToolFailed(f"{CODE} ended without its numbers: {lines[-3:]}") from error
    return found


def _driven(told: dict[str, Any]) -> Driven:
    count, wall = told["requests"], "wall time on this host"
    rows = [
        ("requests", count, "1", "driven in real time"),
        ("missed", 100 * told["missed"] / count, "%", f"{told['missed']} of {count}, {wall}"),
        *(
            (f"latency {name}", ms, "ms", wall)
            for name, ms in zip(("p50", "p95", "p99", "max"), told["latency_ms"], strict=True)
        ),
        ("decision p50", told["decided_us"][0], "us", f"{wall}, of the exported class"),
        ("decision p99", told["decided_us"][1], "us", f"{wall}, of the exported class"),
        ("prediction off by", 100 * told["off"], "%", "median of |took / predicted - 1|"),
        *(
            (f"inference of {name}", ms, "ms", f"median, {wall}")
            for name, ms in told["took_ms"].items()
        ),
    ]
    metrics = [
        Metric(name, value, unit, Kind.MEASURED, source) for name, value, unit, source in rows
    ]
    mj = told["busy_mj"]
    around = Interval((1 - VARIED) * mj, (1 + VARIED) * mj, _NOMINAL)
    source = (
        f"running, for a request: wall time times the power that was set for this host; the "
        f"interval is that power by {100 * VARIED:.0f} % less and more, its coverage nominal"
    )
    metrics.append(Metric("energy", mj, "mJ", Kind.ESTIMATED, source, around))
    shares = {name: 100 * n / count for name, n in told["variants"].items()}
    return Driven(tuple(metrics), shares)
