"""The commands that look at what compiles left: report and compare. Nothing is printed here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flow.artifact import MANIFEST, locked, read_manifest, replace_bytes
from flow.errors import UsageError
from flow.options import unknown_name
from flow.report import compare
from flow.report.pages import refresh_pages
from flow.report.run import Run, read_run
from flow.report.runs import INDEX, Found, Schedule, find_runs, page

COMPARED = "compare.html"


def report_run(folder: Path) -> Run:
    """The run of an artifact; its pages are written again where this version of bitwright makes
    other ones.

    Raises:
        UsageError: no artifact, or a damaged one.
    """
    read_manifest(folder)  # before anything is written
    with locked(folder):
        manifest = read_manifest(folder)
        run = read_run(folder)
        refresh_pages(folder, manifest, run)
    return run


@dataclass(frozen=True)
class Indexed:
    """The runs of a folder, newest first, and the page that lists them."""

    found: Sequence[Found]
    page: Path

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": 1,
            "command": "report",
            "page": str(self.page),
            "runs": [
                {"folder": str(each.folder), "complete": each.run is not None}
                for each in self.found
            ],
        }


def report_all(runs: Path) -> Indexed:
    """Write the index of all runs in a folder. Raises UsageError where there is no such folder."""
    if not runs.is_dir():
        raise UsageError(f"{runs} is no folder with results; compile first")
    found, schedules = find_runs(runs)
    return Indexed(found, _write(runs / INDEX, found, "All runs", True, schedules))


@dataclass(frozen=True)
class Compared:
    """The runs that were compared, and the page that shows them."""

    found: tuple[Found, ...]
    page: Path

    @property
    def runs(self) -> tuple[Run, ...]:
        return tuple(each.run for each in self.found if each.run is not None)


def compare_runs(given: Sequence[str], runs: Path, out: Path | None) -> Compared:
    """Compare two or more runs, given as folders or as their names in `runs`; the page is `out`,
    or compare.html in `runs`.

    Raises:
        UsageError: an unknown, half-written or damaged run, or fewer than two.
    """
    if len(given) < 2:
        raise UsageError('compare needs at least two runs: A=… B=…, or RUNS="… …"')
    found = [_complete(run_folder(name, runs)) for name in given]
    place = out if out is not None else runs / COMPARED
    if place.suffix != ".html" or not place.parent.is_dir():
        raise UsageError(f"OUT={place}: must be a .html file in a folder that is there")
    title = "Comparison" if len(found) > 2 else "A and B compared"
    written = _write(place, found, title, newest_first=False)
    return Compared(tuple(found), written)


def run_folder(name: str, runs: Path) -> Path:
    """The folder of a run that is given as one, or as its name in `runs`. Raises UsageError."""
    for folder in (Path(name), runs / name):
        if folder.is_dir():
            return folder
    known = [path.parent.name for path in runs.glob(f"*/{MANIFEST}")]
    raise unknown_name("run", name, known)


def _complete(folder: Path) -> Found:
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise UsageError(f"{folder} is incomplete: it has no {MANIFEST}; compile it again")
    try:
        json.loads(manifest.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{manifest} is damaged: {error}; compile again") from error
    # The folder may be given as `.`: its own name is what readers know it by.
    run = read_run(folder if folder.name else folder.resolve())
    return Found(folder, manifest.stat().st_mtime, run)


def _write(
    path: Path,
    found: Sequence[Found],
    title: str,
    newest_first: bool,
    schedules: Sequence[Schedule] = (),
) -> Path:
    with locked(path):
        replace_bytes(path, page(found, path.parent, title, newest_first, schedules).encode())
    return path


def check_limits(given: str, compared: Compared) -> None:
    """Raises LimitCrossed, or UsageError where FAIL_IF cannot be read or names no figure."""
    limits = compare.read_limits(given)
    if len(compared.runs) != 2:
        raise UsageError(f"FAIL_IF compares A with B; give two runs, not {len(compared.runs)}")
    compare.check(limits, *compared.runs)
