"""A run as Markdown: for terminals, reviews and issues."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from flow.metric import Kind
from flow.report import numbers
from flow.report.drawing import shape_text
from flow.report.layers import Layer
from flow.report.run import Origin, Run
from flow.report.vendor import text as vendor
from flow.report.vendor.folder import Found


def render(run: Run) -> str:
    """The whole report, ending with a newline."""
    return "\n".join(_lines(run)) + "\n"


def _lines(run: Run) -> Iterator[str]:
    report = run.told
    yield f"matches reference: {report.agreement}"
    yield from ("", f"# {_text(report.model)} on {_text(report.target)}", "")
    if run.origin:
        yield from ("```", numbers.command(run.origin.command).replace("`", "'"), "```", "")
    for warning in report.warnings:
        yield f"* note: {_text(warning)}"
    if report.scores:
        yield from ("", f"## {numbers.heading(report.score)}", "")
        rows = (
            (
                numbers.stage_name(stage, report.target),
                numbers.score(metric),
                f"{metric.kind.value}, {metric.source}",
            )
            for stage, metric in report.scores.items()
        )
        yield from _table(("stage", report.score, "source"), rows, right=(1,))
    if report.metrics:
        yield from ("", "## Figures", "")
        kinds = tuple(kind.value for kind in Kind)
        figures = (
            (
                name,
                *(numbers.value_text(found[kind]) if kind in found else "" for kind in Kind),
                "; ".join(metric.source for metric in found.values()),
            )
            for name, found in numbers.by_name(
                metric for metric in report.metrics if not numbers.is_part(metric)
            ).items()
        )
        yield from _table(("figure", *kinds, "source"), figures, right=(1, 2, 3))
    if numbers.breakdown(run)[0]:
        yield from ("", "## What each layer takes", "")
        yield from _parts(run)
    if run.synthesis:
        yield from ("", "## What vendor tools made of it", "")
        yield from _synthesis(run.synthesis)
    if run.shown_layers:
        yield from ("", "## Layers", "")
        yield from _layers(run)
    if run.origin:
        yield from ("", "## What made it", "")
        yield from _origin(run.origin)


def _parts(run: Run) -> Iterator[str]:
    found, rows = numbers.breakdown(run)
    units = (f"{name}, {unit}" if unit != "1" else name for name, unit, _ in found)
    heads = (f"{name} ({kind.value})" for name, (_, _, kind) in zip(units, found, strict=True))
    cells = ((name, *values) for name, values in rows)
    yield from _table(("layer", *heads), cells, right=range(1, 1 + len(found)))


def _layers(run: Run) -> Iterator[str]:
    columns, macs = numbers.columns(run.shown_layers), numbers.total_macs(run)
    heads = ("layer", "operation", "output", "type", "weights", "bits", "MACs", "share")
    sums = ("accumulator", "bits needed", "bits there", "own rounding, dB", "float twin, dB")
    own = tuple(f"{name} ({kind.value})" for name, _, kind in columns)
    rows = (
        (
            *(layer.name, layer.op, shape_text(layer.shape), layer.type),
            *_weights(layer),
            *((f"{layer.macs:,}", f"{layer.macs / macs:.1%}") if layer.macs else ("", "")),
            *_sums(layer),
            *(
                numbers.value_text(metric) if (metric := numbers.of_layer(layer, column)) else ""
                for column in columns
            ),
            layer.requant,
        )
        for layer in run.shown_layers
    )
    last = 4 + len(heads) + len(own)
    yield from _table((*heads, *sums, *own, "requantization"), rows, right=range(4, last))
    yield from ("", f"Accumulators and rounding over {_text(run.samples)}.")
    known = any(layer.twin_error is not None for layer in run.layers)
    twin = f"signal to difference over {run.twin}" if known else run.twin
    yield f"Float twin: {_text(twin)}."


def _weights(layer: Layer) -> tuple[str, str]:
    return (f"{layer.weights.count:,}", str(layer.weights.bits)) if layer.weights else ("", "")


def _sums(layer: Layer) -> tuple[str, str, str, str, str]:
    sums, error, ratio = layer.accumulator, layer.error, layer.twin_ratio
    lost = "none" if error and error.sqnr is None else f"{error.sqnr:.1f}" if error else ""
    twin = "the same" if layer.twin_error == 0 else f"{ratio:.1f}" if ratio is not None else ""
    if sums is None:
        return "", "", "", lost, twin
    return f"{sums.low:,} to {sums.high:,}", str(sums.bits), str(sums.width or ""), lost, twin


def _synthesis(found: Found) -> Iterator[str]:
    heads, *rows = vendor.table(found)
    yield from _table(("stage", *heads[1:]), rows)
    notes = [f"{stage.by}: {note}" for stage in found.stages for note in stage.notes]
    yield from ("", *(f"* {_text(note)}" for note in (*notes, *found.notes)))


def _origin(origin: Origin) -> Iterator[str]:
    yield f"* network file: sha256 {_text(origin.onnx)}"
    yield f"* artifact: key {_text(origin.key)}"
    yield f"* bitwright's sources: sha256 {_text(origin.source)}"
    for name, given in (("versions", origin.versions), ("training", origin.training)):
        if given:
            yield f"* {name}: " + ", ".join(f"{_text(k)} {_text(v)}" for k, v in given.items())
    options = ", ".join(f"{_text(k)}={_text(v)}" for k, v in origin.options.items())
    yield f"* options: {options}"
    yield "* left to the host: " + ", ".join(("quantizing the input", *map(_text, origin.host)))


def _table(
    heads: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[int] = ()
) -> Iterator[str]:
    to_right = set(right)
    yield _row(heads)
    yield "|" + "|".join("--:" if at in to_right else "---" for at in range(len(heads))) + "|"
    for row in rows:
        yield _row(row)


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(_text(cell) for cell in cells) + " |"


def _text(text: str) -> str:
    """Nothing in it is markup: neither Markdown's nor HTML's."""
    flat = " ".join(text.split())
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", flat).replace("&", "&amp;")
