"""The files that a compile leaves for readers: report.json, report.md and report.html."""

from __future__ import annotations

import json
from pathlib import Path

from flow.artifact import write_json
from flow.report.html import run_page
from flow.report.markdown import render
from flow.report.run import REPORT, Run

MARKDOWN = "report.md"
PAGE = "report.html"


def write_pages(folder: Path, run: Run) -> None:
    """Write all three into `folder`; the same run gives the same bytes.

    Raises:
        ToolMissing: the plotting library is not installed.
    """
    write_json(folder / REPORT, run.to_json())
    for name, text in pages(Run.from_json(json.loads((folder / REPORT).read_text()), folder)):
        (folder / name).write_text(text, encoding="utf-8")


def pages(run: Run) -> tuple[tuple[str, str], ...]:
    """Name and text of the files that follow from report.json."""
    return (MARKDOWN, render(run)), (PAGE, run_page(run))
