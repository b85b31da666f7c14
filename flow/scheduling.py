"""The command schedule as a function: which processor, clock and variant runs each request, what
that takes, and how far it is from the best possible. Nothing is printed here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from flow import packages
from flow.artifact import MANIFEST, locked, read_manifest, staged, write_json, write_manifest
from flow.driving import drive
from flow.errors import UsageError
from flow.options import with_options
from flow.plan import Events
from flow.schedule import pages, tables
from flow.schedule.engine import simulate
from flow.schedule.export import write_policy
from flow.schedule.oracle import Capped, bounds
from flow.schedule.outcome import Outcome
from flow.schedule.policies.base import Policy
from flow.schedule.policies.predictive import Price
from flow.schedule.policies.tuning import tune_price
from flow.schedule.result import Bound, Result
from flow.schedule.studies import (
    awake_sweep,
    fitting,
    front,
    load_sweep,
    table_of,
    table_sweep,
)
from flow.schedule.summary import summarise
from flow.schedule.timeline import perfetto
from flow.schedule.trace import Trace
from flow.schedule.trace_spec import told
from flow.schedule.work import FloatArray, Table
from flow.schedule_plan import SchedulePlan, ScheduleRequest, Settings

BODY, TEXT = "schedule.json", "schedule.txt"
SHOWN = ("performance", "little_max", "eas")  # timelines beside that of the exported policy
STUDIED = 20_000  # requests of the trace, that sweeps and the oracle's front are over


@dataclass(frozen=True)
class Told:
    """What the command prints: JSON and text."""

    body: dict[str, Any]
    text: str


def make_schedule(request: ScheduleRequest, events: Events) -> Told:
    """Simulate every policy, bound the best, write the report.

    Raises:
        FlowError: one of its kinds; nothing that looks complete is left behind.
    """
    plan = SchedulePlan(request, events)
    waiting = "waiting for another run of the same schedule"
    with locked(plan.folder, lambda: events.note(waiting)):
        done = _finished(plan)
        if done is None:
            with staged(plan.folder) as stage:
                _build(plan, stage)
            done = _read(plan.folder)
    return done


def _read(folder: Path) -> Told:
    body = json.loads((folder / BODY).read_text(encoding="utf-8"))
    text = (folder / TEXT).read_text(encoding="utf-8")
    place = f"folder: {folder}\npage: {folder / pages.PAGE}"
    return Told({**body, "artifact": str(folder)}, f"{text}{place}")


def _finished(plan: SchedulePlan) -> Told | None:
    """The schedule that is there already, made from the same inputs."""
    if not (plan.folder / MANIFEST).is_file():
        return None
    try:
        if read_manifest(plan.folder)["key"] != plan.key:
            return None
        return _read(plan.folder)
    except (UsageError, KeyError, ValueError, OSError) as error:
        plan.events.note(f"scheduling again: {error}")
        return None


def _build(plan: SchedulePlan, stage: Path) -> None:
    """The whole schedule, into the empty folder `stage`."""
    settings, platform, note = plan.settings, plan.platform, plan.events.note
    trace, price = plan.trace, settings.miss_mj
    table = table_of(platform, plan.known, trace.models)
    table.check_floor(trace.generator, trace.model, trace.min_accuracy)
    warnings = list(platform.warnings)
    policies = _chosen(plan, table, warnings)
    exported = next(policy for policy in policies if policy.name == settings.policy)
    write_policy(stage, exported, table, platform)  # before the long part: it may be refused
    work = _work(settings, trace)
    rows, outcomes = [], {}
    for policy in policies:
        note(f"simulating {policy.name} over {len(trace):,} requests")
        outcomes[policy.name] = simulate(policy, trace, table, platform, work)
        rows.append(summarise(outcomes[policy.name], table, platform, price))
    bound = _bound(plan, table, work, warnings)
    driven = drive(plan, stage, table) if settings.drive else None
    result = Result(
        command=plan.request.command,
        platform=platform,
        trace=told(trace),
        known=plan.known,
        miss_mj=price,
        rows=rows,
        bound=bound,
        settings={f.name: _shown(getattr(settings, f.name)) for f in fields(settings)},
        versions={name: packages.version(name) or "" for name in ("numpy", "numba", "scipy")},
        exported=exported.name,
        warnings=warnings,
        driven=driven,
    )
    if settings.studies:
        result = _studied(plan, result, policies, table)
    _write(plan, stage, result, outcomes, policies, table)


def _chosen(plan: SchedulePlan, table: Table, warnings: list[str]) -> list[Policy]:
    """The policies to simulate, the price of time tuned on another trace."""
    policies = plan.policies
    if not plan.asked:
        policies, left = fitting(policies, plan.trace, table, plan.platform)
        warnings += left
        if plan.settings.policy not in (policy.name for policy in policies):
            raise UsageError(f"option policy: {plan.settings.policy} cannot be used: {left[-1]}")
    found = _margined(plan, policies, warnings)
    for place, policy in enumerate(found):
        if isinstance(policy, Price) and "price_w" not in plan.rules.get(policy.name, {}):
            tuned = tune_price(plan.training, table, plan.platform, policy)
            found[place] = tuned
            warnings.append(
                f"policy {policy.name}: price_w={tuned.price_w:g} was tuned on another trace, of "
                f"{len(plan.training):,} requests"
            )
    return found


def _margined(plan: SchedulePlan, policies: Sequence[Policy], warnings: list[str]) -> list[Policy]:
    """The policies with the margin of the latency model where times are predicted by one, but those
    whose margin the user sets."""
    margins = [known.margin for known in plan.known if known.margin is not None]
    if not margins:
        return list(policies)
    widest = max(margins, key=lambda margin: margin.upper)
    more = round(max(0.0, widest.upper - 1), 4)
    named = [
        policy.name
        for policy in policies
        if "margin" in {f.name for f in fields(policy)}
        and "margin" not in plan.rules.get(policy.name, {})
    ]
    if named:
        warnings.append(
            f"policy {', '.join(named)}: margin={more:g}, so that {widest.coverage:.0%} of "
            f"networks that the latency model has not seen take less than is allowed for "
            f"(conformal, by {widest.count} networks)"
        )
    return [
        with_options(policy, {"margin": str(more)}) if policy.name in named else policy
        for policy in policies
    ]


def _studied(plan: SchedulePlan, result: Result, policies: list[Policy], table: Table) -> Result:
    """With the oracle's front, and the sweeps of load and tables."""
    plan.events.note("sweeps of load, p_awake and power tables")
    trace, platform, price = plan.trace, plan.platform, plan.settings.miss_mj
    part = trace.part(0, min(len(trace), STUDIED))
    known = plan.known
    return replace(
        result,
        front=front(part, table, platform, price, plan.settings.grid_us) if result.bound else (),
        loads=load_sweep(policies, part, table, platform, price),
        awake=awake_sweep(policies, part, known, platform, price),
        tables=table_sweep(policies, part, known, platform, price),
    )


def _shown(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value


def _work(settings: Settings, trace: Trace) -> FloatArray | None:
    """By how much longer each inference takes than it should; None where none does."""
    if not settings.jitter:
        return None
    rng = np.random.default_rng(trace.seed or 0)
    work: FloatArray = np.exp(rng.normal(0.0, settings.jitter, len(trace)))
    return work


def _bound(
    plan: SchedulePlan, table: Table, work: FloatArray | None, warnings: list[str]
) -> Bound | None:
    settings, trace = plan.settings, plan.trace
    if not settings.bounds:
        return None
    if trace.closed:
        warnings.append("no bounds: in a closed loop arrivals depend on the schedule")
        return None
    plan.events.note(f"bounds on the least J over {len(trace):,} requests")
    try:
        found = bounds(trace, table, plan.platform, settings.miss_mj, settings.grid_us, work)
    except Capped as error:
        warnings.append(f"no bounds: {error}")
        return None
    count = len(trace)
    ends = found.lower_mj / count, found.upper_mj / count
    return Bound(*ends, found.exact, found.why, found.grid_us)


def _write(
    plan: SchedulePlan,
    stage: Path,
    result: Result,
    outcomes: Mapping[str, Outcome],
    policies: Sequence[Policy],
    table: Table,
) -> None:
    """All files of the folder but the policy's."""
    plan.events.note("writing the report")
    window = (0, round(plan.settings.window_ms * 1000))
    trace, platform = plan.trace, plan.platform
    count = int(np.searchsorted(trace.arrival_us, window[1])) + 1
    first = trace.part(0, min(len(trace), count))
    exported = next(policy for policy in policies if policy.name == result.exported)
    shown = {exported.name: outcomes[exported.name]}
    shown |= {name: outcomes[name] for name in SHOWN if name in outcomes}
    kept = {policy.name: policy for policy in policies if policy.name in shown}
    seen = {name: simulate(kept[name], first, table, platform, window=window) for name in shown}
    write_json(stage / "timeline.json", perfetto(seen, table, platform))
    main = seen[exported.name]
    drawn = pages.pictures(result, outcomes, main, table, window)
    write_json(stage / BODY, result.to_json())
    (stage / TEXT).write_text(tables.text(result) + "\n", encoding="utf-8")
    (stage / pages.MARKDOWN).write_text(pages.markdown(result, drawn), encoding="utf-8")
    (stage / pages.PAGE).write_text(pages.page(result, drawn), encoding="utf-8")
    for picture in drawn:
        (stage / f"{picture.name}.svg").write_text(picture.svg, encoding="utf-8")
    summary = pages.summary(result, platform)
    write_manifest(stage, {"key": plan.key, "summary": summary, **plan.inputs})
