"""The tools of this flow, run with a word to the user while they run, and what they took."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flow.errors import ToolFailed
from flow.tools import Programs, Running, Tool, passed_over, processors, require, version

_FIRST_START = b"Preparing to run"  # what a tool of the wheels prints when it compiles itself
_LOOKED_AT = 4096  # bytes of a log that are looked at, at either end
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


@dataclass(frozen=True)
class Job:
    """One run of a tool: what it is called with, the name of its log, and what it is for; `circles`
    says of the end of its log whether it goes in circles, and will not end."""

    arguments: Sequence[str]
    log: str
    purpose: str
    circles: Callable[[bytes], bool] | None = None


class Circling(ToolFailed):
    """A tool that would not have ended, in its `job`."""

    def __init__(self, tool: Tool, job: Job):
        super().__init__(f"{tool.name}: {job.purpose}: it went in circles, and was stopped")
        self.job = job


def run_tool(tool: Tool, job: Job, folder: Path, note: Callable[[str], None]) -> Used:
    """Run the tool in `folder`; see `run_side_by_side`."""
    (used,) = run_side_by_side(tool, [job], folder, note)
    return used


def run_side_by_side(
    tool: Tool, jobs: Sequence[Job], folder: Path, note: Callable[[str], None], each_bytes: int = 0
) -> list[Used]:
    """Run the tool in `folder` for all the jobs, as many at a time as there are processors, and as
    there is memory for where each takes about `each_bytes`. When one fails, the others are stopped.

    Raises:
        ToolMissing: it is not there, or too old.
        ToolFailed: it ended with an error, was killed, or ran out of memory.
        Circling: it would not have ended.
    """
    program = require(tool)
    if said := passed_over(tool):
        note(said)
    known = version(tool) or "of an unknown version"
    many, used = _at_a_time(each_bytes), []
    if many < min(len(jobs), processors()):
        note(f"{tool.name}: {many} at a time, as the memory that is free allows no more")
    with Programs() as programs:
        for first in range(0, len(jobs), many):
            batch = jobs[first : first + many]
            started = []
            for job in batch:
                note(f"{tool.name}: {job.purpose}")
                argv = [str(program), *job.arguments]
                started.append(programs.start(argv, folder, folder / job.log))
            for job, running in zip(batch, started, strict=True):
                ran = running.wait(_Watch(tool, job, folder, note, started))
                used.append(Used(tool.name, known, job.purpose, ran.seconds, ran.peak_bytes))
    return used


def _at_a_time(each_bytes: int) -> int:
    """How many may run; 1 at least, which may then fail by itself."""
    free = _free_bytes()
    if free is None or not each_bytes:
        return processors()
    return min(processors(), free // each_bytes) or 1


def _free_bytes() -> int | None:
    """Memory that programs can have without swapping; None where the system does not tell."""
    try:
        text = Path("/proc/meminfo").read_text()
    except OSError:
        return None
    found = re.search(r"^MemAvailable:\s*(\d+) kB$", text, re.MULTILINE)
    return 1024 * int(found[1]) if found else None


class _Watch:
    """Tells the user, while a tool runs, that it compiles itself first, and that it still runs."""

    def __init__(
        self,
        tool: Tool,
        job: Job,
        folder: Path,
        note: Callable[[str], None],
        beside: Sequence[Running],
    ):
        self._tool, self._job, self._log = tool, job, folder / job.log
        self._note, self._beside = note, beside
        self._compiles = False
        self._next = _SAY_SECONDS

    def __call__(self, seconds: float) -> None:
        for running in self._beside:
            running.look()
            if running.failed:
                running.wait()
        if not self._compiles and self._starts_first():
            self._compiles = True
            self._note(
                f"{self._tool.name}: its first start here compiles it, once (Yosys: about half a "
                f"minute on an idle machine, and 2 GB of memory)"
            )
        if self._job.circles is not None and self._job.circles(self._end()):
            raise Circling(self._tool, self._job)
        if seconds >= self._next:
            self._next += _SAY_SECONDS
            held = max((running.peak_bytes or 0 for running in self._beside), default=0)
            memory = f", {held / 2**20:,.0f} MiB" if held else ""
            self._note(f"{self._tool.name}: still running, {seconds:.0f} s{memory}")

    def _starts_first(self) -> bool:
        with self._log.open("rb") as file:
            return _FIRST_START in file.read(_LOOKED_AT)

    def _end(self) -> bytes:
        with self._log.open("rb") as file:
            file.seek(max(self._log.stat().st_size - _LOOKED_AT, 0))
            return file.read(_LOOKED_AT)
