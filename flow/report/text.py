"""A report as the table that ends a command."""

from __future__ import annotations

from collections.abc import Iterator

from flow.report.numbers import score_parts, stage_name, value_text
from flow.report.result import Report

_WIDTH = 13


def render(report: Report) -> str:
    """The table, without a newline at its end."""
    return "\n".join(_lines(report))


def _lines(report: Report) -> Iterator[str]:
    state = " (up to date)" if report.up_to_date else ""
    differs = "" if report.agreement.matches else " differs from the reference"
    yield f"{report.model} on {report.target}{differs}{state}"
    yield f"matches reference: {report.agreement}"
    if report.scores:
        yield report.score
    for stage, metric in report.scores.items():
        value, around = score_parts(metric)
        name = stage_name(stage, report.target)
        yield f"  {name:{_WIDTH}} {value:>8}  {around:13}  {metric.kind.value}, {metric.source}"
    if report.confusion:
        yield "confusion: a row per true class, a column per answer of the artifact"
        width = max(len(str(count)) for row in report.confusion for count in row)
        names = report.classes or [str(label) for label in range(len(report.confusion))]
        longest = max(3, *map(len, names))
        for name, row in zip(names, report.confusion, strict=True):
            yield f"  {name:>{longest}}: {' '.join(f'{count:{width}d}' for count in row)}"
    if report.metrics:
        yield "figures"
    width = max((len(metric.name) for metric in report.metrics), default=0)
    for metric in report.metrics:
        name = f"{metric.name:{max(width, _WIDTH)}}"
        yield f"  {name} {value_text(metric):23}  {metric.kind.value}, {metric.source}"
    for warning in report.warnings:
        yield f"note: {warning}"
    yield f"artifact: {report.artifact}"
    if report.artifact is not None:
        yield f"page: {report.artifact / 'report.html'}"
