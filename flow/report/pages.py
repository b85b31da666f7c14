"""The files that a compile leaves for readers: report.json, report.md and report.html."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from flow.artifact import MANIFEST, digest, replace_bytes, write_json
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


def refresh_pages(folder: Path, manifest: dict[str, Any], run: Run) -> None:
    """Write again those pages of a complete artifact that this version of bitwright makes otherwise
    of the run, and the hashes of all three files into its manifest. To be used under
    `locked(folder)`.

    Raises:
        ToolMissing: as `write_pages`.
    """
    for name, text in pages(run):
        path = folder / name
        if not path.is_file() or path.read_bytes() != text.encode():
            replace_bytes(path, text.encode())
    found = {name: digest(folder / name) for name in (REPORT, MARKDOWN, PAGE)}
    if not found.items() <= manifest["files"].items():
        write_json(folder / MANIFEST, {**manifest, "files": {**manifest["files"], **found}})
