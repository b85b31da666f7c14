"""The tools of this flow, run with a word to the user while they run, and what they took."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flow.tools import Tool, passed_over, require, run, version

_FIRST_START = b"Preparing to run"  # what a tool of the wheels prints when it compiles itself
_HEAD = 4096
_SAY_SECONDS = 30.0


@dataclass(frozen=True)
class Used:
    """A program that ran: for what, for how long, and the most memory it held at one time."""

    tool: str
    version: str
    purpose: str
    seconds: float
    peak_bytes: int | None

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


def run_tool(
    tool: Tool,
    arguments: Sequence[str],
    folder: Path,
    log: str,
    note: Callable[[str], None],
    purpose: str,
) -> Used:
    """Run the tool in `folder`, its output to the file `log` there.

    Raises:
        ToolMissing: it is not there, or too old.
        ToolFailed: it ended with an error, was killed, or ran out of memory.
    """
    program = require(tool)
    if said := passed_over(tool):
        note(said)
    note(f"{tool.name}: {purpose}")
    watch = _Watch(tool, folder / log, note)
    ran = run([str(program), *arguments], folder, folder / log, watch)
    known = version(tool) or "of an unknown version"
    return Used(tool.name, known, purpose, ran.seconds, ran.peak_bytes)


class _Watch:
    """Tells the user, while a tool runs, that it compiles itself first, and that it still runs."""

    def __init__(self, tool: Tool, log: Path, note: Callable[[str], None]):
        self._tool, self._log, self._note = tool, log, note
        self._compiles = False
        self._next = _SAY_SECONDS

    def __call__(self, seconds: float) -> None:
        if not self._compiles and self._starts_first():
            self._compiles = True
            self._note(
                f"{self._tool.name}: its first start here compiles it, about half a minute and "
                f"2 GB of memory, once"
            )
        if seconds >= self._next:
            self._next += _SAY_SECONDS
            self._note(f"{self._tool.name}: still running, {seconds:.0f} s")

    def _starts_first(self) -> bool:
        with self._log.open("rb") as file:
            return _FIRST_START in file.read(_HEAD)
