"""Whether a synthesized design fits a part, told before it is placed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flow.errors import DoesNotFit
from flow.report.vendor.synthesis import Count, Resource, Synthesis
from targets.rtl.implement.parts import Family, Part

# Where a carry of the ECP5 (CCU2C) sits, two LUTs are taken (FPGA-DS-02012, ripple mode).
_LUTS_OF_A_CARRY = {Family.ECP5: 2}


@dataclass(frozen=True)
class Excess:
    """What a design needs too much of; `what` is a resource's name, or `pins`. It needs more yet
    where that is the `least`."""

    what: str
    needed: int
    available: int
    least: bool = False

    def __str__(self) -> str:
        over = f"{self.needed - self.available:,} too many"
        if self.available:
            over += f" ({self.needed / self.available:.2f} times the part)"
        at = "at least " if self.least else ""
        return f"{self.what}: {at}{self.needed:,} needed, {self.available:,} there: {over}"


class TooLarge(DoesNotFit):
    """The design does not fit the part; `excess` says of what it needs too much. Empty where the
    tool says so only when it places the design."""

    def __init__(self, part: Part, excess: Sequence[Excess], why: str = ""):
        self.part, self.excess = part, tuple(excess)
        listed = "".join(f"\n  {one}" for one in self.excess)
        super().__init__(f"the design does not fit {part.name} ({part.title}){why}{listed}")


def demand(found: Synthesis, part: Part) -> dict[Resource, Count]:
    """What a synthesized design takes of everything that the part has or the design uses."""
    used = taken({kind: count.used for kind, count in found.resources.items()}, part.family)
    return {
        kind: Count(used.get(kind, 0), part.has[kind].count if kind in part.has else 0)
        for kind in Resource
        if kind in used or kind in part.has
    }


def taken(cells: Mapping[Resource, float], family: Family) -> dict[Resource, float]:
    """What cells take of a family's parts, which have carries of their own or make them of LUTs."""
    used = {**cells}
    carries = used.get(Resource.CARRY, 0)
    used[Resource.LUT] = used.get(Resource.LUT, 0) + _LUTS_OF_A_CARRY.get(family, 0) * carries
    if family in _LUTS_OF_A_CARRY:
        used.pop(Resource.CARRY, None)
    return used


def excess(needed: Mapping[Resource, Count], ports: int, part: Part) -> list[Excess]:
    """What is too much of `needed`, and of `ports`, the bits of the design's ports."""
    found = [
        Excess(kind.value, int(count.used), int(count.available))
        for kind, count in needed.items()
        if count.available is not None and count.used > count.available
    ]
    if part.pins is not None and ports > part.pins.count:
        found.append(Excess("pins", ports, part.pins.count))
    return found
