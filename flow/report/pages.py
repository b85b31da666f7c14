"""The files that a compile leaves for readers: report.json, report.md and report.html."""

from __future__ import annotations

from pathlib import Path

from flow.artifact import write_json
from flow.report.run import REPORT, Run

MARKDOWN = "report.md"
PAGE = "report.html"


def write_pages(folder: Path, run: Run) -> None:
    """Write all three into `folder`; the same run gives the same bytes."""
    write_json(folder / REPORT, run.to_json())
