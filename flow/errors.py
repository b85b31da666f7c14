"""What can go wrong, one class per exit code of the command.

Messages are for users: what is wrong, where (file, field, layer), and what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class FlowError(Exception):
    """Anything else that stops a command; base class of all errors meant for users."""

    exit_code = 1


class UsageError(FlowError):
    """Wrong use or bad input: an unknown name, a value out of range, a file that is damaged."""

    exit_code = 2


class ToolMissing(FlowError):
    """An external program or a Python package that the command needs is not there."""

    exit_code = 3


class ToolFailed(FlowError):
    """An external program was found, ran, and failed."""


class Mismatch(FlowError):
    """An artifact, or an oracle, gives other integers than the reference interpreter."""

    exit_code = 4


class DoesNotFit(FlowError):
    """The design does not fit the part, or misses the clock."""

    exit_code = 6


@dataclass(frozen=True)
class Offence:
    """One node that cannot be handled: where it is, why not, and what to change."""

    node: str
    reason: str
    fix: str

    def __str__(self) -> str:
        return f"{self.node}: {self.reason}\n    fix: {self.fix}"


class Unsupported(FlowError):
    """The network asks for something that cannot be done here; every offending node is listed."""

    exit_code = 5

    def __init__(self, what: str, offences: Sequence[Offence]):
        self.offences = tuple(offences)
        lines = "\n".join(f"  - {offence}" for offence in self.offences)
        super().__init__(f"{what}: {len(self.offences)} unsupported\n{lines}")
