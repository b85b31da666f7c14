"""A window of what a policy did, for chrome://tracing and ui.perfetto.dev.

Source of the format: "Trace Event Format", the JSON that both read (times in microseconds; `X` is a
stretch, `C` a counter, `M` names a row).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from flow.schedule.outcome import Outcome, Part, Segment
from flow.schedule.platform import Platform
from flow.schedule.work import Table

_PARTS = {Part.BUSY: "run", Part.IDLE: "idle", Part.SWITCH: "switch", Part.WAKE: "wake"}


def perfetto(outcomes: Mapping[str, Outcome], table: Table, platform: Platform) -> dict[str, Any]:
    """One process for each policy, with a row for each cluster, its clock, and the power above the
    floor."""
    events: list[dict[str, Any]] = []
    for number, (name, outcome) in enumerate(outcomes.items(), 1):
        events.append(_name("process_name", number, 0, name))
        events += [
            _name("thread_name", number, row, cluster.name)
            for row, cluster in enumerate(platform.clusters, 1)
        ]
        for segment in outcome.segments:
            events += _events(segment, number, outcome, table, platform)
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def _name(what: str, process: int, row: int, name: str) -> dict[str, Any]:
    return {"name": what, "ph": "M", "pid": process, "tid": row, "args": {"name": name}}


def _events(
    segment: Segment, process: int, outcome: Outcome, table: Table, platform: Platform
) -> Iterator[dict[str, Any]]:
    at = {"pid": process, "ts": segment.start_us}
    point = platform.clusters[segment.cluster].points[segment.point]
    told: dict[str, Any] = {"mW": segment.mw}
    title = _PARTS[segment.part]
    if segment.part is Part.BUSY:
        action = table.actions[outcome.action[segment.request]]
        title = table.variants[action.variant].name
        told |= {
            "request": segment.request,
            "missed": bool(outcome.missed[segment.request]),
            "deadline_us": int(outcome.deadline_us[segment.request]),
        }
    yield {
        **at,
        "name": title,
        "ph": "X",
        "tid": segment.cluster + 1,
        "dur": segment.stop_us - segment.start_us,
        "args": told,
    }
    yield {**at, "name": "power above floor", "ph": "C", "tid": 0, "args": {"mW": segment.mw}}
    if point.mhz is not None:
        running = point.mhz if segment.part is Part.BUSY else 0
        yield {**at, "name": "clock that runs", "ph": "C", "tid": 0, "args": {"MHz": running}}
