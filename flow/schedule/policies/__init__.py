"""The policies by name. A policy is a frozen dataclass whose fields are its options."""

from __future__ import annotations

from collections.abc import Mapping

from flow.options import unknown_name, with_options
from flow.schedule.policies.base import Policy
from flow.schedule.policies.governors import (
    Conservative,
    EnergyAware,
    Interactive,
    Ondemand,
    Schedutil,
)
from flow.schedule.policies.pinned import LittleMax, Performance, Powersave
from flow.schedule.policies.predictive import (
    EventBased,
    Gated,
    OptimalAvailable,
    Price,
    Tight,
)

POLICIES: dict[str, type[Policy]] = {
    policy.name: policy
    for policy in (
        Performance,
        Powersave,
        LittleMax,
        Ondemand,
        Conservative,
        Interactive,
        Schedutil,
        EnergyAware,
        EventBased,
        Tight,
        Price,
        OptimalAvailable,
        Gated,
    )
}


def find_policy(name: str, options: Mapping[str, str] | None = None) -> Policy:
    """The policy of that name with the options as text.

    Raises:
        UsageError: no such policy, no such option, or a value out of range.
    """
    if name not in POLICIES:
        raise unknown_name("policy", name, POLICIES)
    return with_options(POLICIES[name](), options or {})
