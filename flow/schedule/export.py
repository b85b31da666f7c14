"""A policy as a small table for use at run time, beside the class that decides by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flow.artifact import write_json
from flow.errors import UsageError
from flow.schedule import policy_snippet
from flow.schedule.engine import following, worth_choosing
from flow.schedule.platform import Platform
from flow.schedule.policies import POLICIES
from flow.schedule.policies.base import Chooser, Mode, Policy
from flow.schedule.work import Table

SCHEMA = 1
TABLE, CODE = "policy.json", "policy.py"
_MODES = {Mode.TIGHT: "tight", Mode.PRICE: "price"}


def exportable() -> list[str]:
    """Names of the policies that decide by a table, request by request."""
    return [name for name, kind in POLICIES.items() if _decides(kind())]


def _decides(policy: Policy) -> bool:
    return isinstance(policy, Chooser) and policy.rule().mode in _MODES and not policy.rule().waits


def policy_table(policy: Policy, table: Table, platform: Platform) -> dict[str, Any]:
    """What the class needs of a policy: its rule, the platform, and the actions that are worth
    choosing from, by model, the quickest first.

    Raises:
        UsageError: a policy that does not decide by a table when a request begins.
    """
    if not isinstance(policy, Chooser) or not _decides(policy):
        raise UsageError(
            f"option policy: {policy.name} does not decide request by request, so that there is no "
            f"table to export; choose one of {', '.join(exportable())}"
        )
    from flow.schedule.kernels import LOOK_AHEAD  # numba's import takes a while

    rule, believed = policy.rule(), policy.beliefs(table, platform)
    first, order = worth_choosing(table, believed)
    after = following(table, believed)
    places = {int(k): place for place, k in enumerate(order)}
    return {
        "schema": SCHEMA,
        "policy": policy.name,
        "platform": platform.name,
        "rule": {
            "mode": _MODES[rule.mode],
            "looks": rule.looks,
            "look_ahead": LOOK_AHEAD,
            "margin": rule.margin,
            "price_w": rule.price,
            "miss_mj": rule.miss,
            "follow": rule.follow,
        },
        "migration_us": platform.migration_us,
        "clusters": [
            {
                "name": cluster.name,
                "mhz": [point.mhz for point in cluster.points],
                "transition_us": cluster.transition_us,
                "parked": cluster.parked,
            }
            for cluster in platform.clusters
        ],
        "variants": [variant.name for variant in table.variants],
        "models": {
            name: [places[int(k)] for k in order[first[m] : first[m + 1]]]
            for m, name in enumerate(table.models)
        },
        "actions": [_action(table, int(k), int(believed[k]), int(after[k])) for k in order],
    }


def _action(table: Table, place: int, us: int, after: int) -> dict[str, Any]:
    action = table.actions[place]
    return {
        "variant": action.variant,
        "cluster": action.cluster,
        "point": action.point,
        "predicted_us": us,
        "next_us": after,
        "mw": float(table.power_mw[place]),
        "accuracy": float(table.accuracy[place]),
    }


def write_policy(folder: Path, policy: Policy, table: Table, platform: Platform) -> None:
    """Write policy.json and policy.py into `folder`. Raises UsageError, as `policy_table`."""
    write_json(folder / TABLE, policy_table(policy, table, platform))
    (folder / CODE).write_text(Path(policy_snippet.__file__).read_text(encoding="utf-8"))
