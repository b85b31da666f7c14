"""Reports as pages for a browser: one file each, which needs nothing else and no network.

What comes from a network or a user is escaped by Jinja; the page's own policy forbids every
connection and every script but its own.
"""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from flow.metric import Kind
from flow.report import charts, numbers
from flow.report.bundle import bundle
from flow.report.drawing import HEIGHT, WIDTH, draw, shape_text
from flow.report.run import Run
from flow.report.vendor import text as vendor
from flow.report.vendor.folder import Found

MODULES = 40  # of a stage of synthesis, on the page; report.json has all
_TEMPLATES = Path(__file__).with_name("templates")


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals |= {
        "Kind": Kind,
        "figure": numbers.figure,
        "named_score": numbers.named_score,
        "score": numbers.score,
        "score_parts": numbers.score_parts,
        "heading": numbers.heading,
        "shape_text": shape_text,
        "value_parts": numbers.value_parts,
        "value_text": numbers.value_text,
        "of_layer": numbers.of_layer,
        "WIDTH": WIDTH,
        "HEIGHT": HEIGHT,
    }
    return made


def render(template: str, pictures: bool = True, **values: Any) -> str:
    """A page of a template, with style, script and, for `pictures`, the plotting library.

    Raises:
        ToolMissing: the plotting library is not installed.
    """
    own = {name: Markup((_TEMPLATES / name).read_text("utf-8")) for name in ("page.css", "page.js")}
    library = Markup(bundle()) if pictures else Markup()
    page = _environment().get_template(template)
    return page.render(css=own["page.css"], script=own["page.js"], library=library, **values)


def run_page(run: Run) -> str:
    """The page of one run. Raises ToolMissing, as `render`."""
    report = run.told
    macs = numbers.total_macs(run)
    columns = numbers.columns(run.shown_layers)
    return render(
        "run.html",
        run=run,
        report=report,
        origin=run.origin,
        command=numbers.command(run.origin.command) if run.origin else "",
        stages={numbers.stage_name(k, report.target): m for k, m in report.scores.items()},
        figures=numbers.by_name(m for m in report.metrics if not numbers.is_part(m)),
        breakdown=numbers.breakdown(run),
        macs=macs,
        columns=columns,
        multipliers=any(layer.multiplier_bits is not None for layer in run.shown_layers),
        drawing=draw(run.shown_layers, f"{shape_text(run.input_shape)} {run.input_type}"),
        charts=_charts(run, columns),
        data=_data(run, columns, macs),
        stages_table=vendor.table(run.synthesis) if run.synthesis else [],
        modules=_modules(run.synthesis) if run.synthesis else {},
        estimate_holds=numbers.estimate_holds,
    )


def _modules(found: Found) -> dict[str, list[tuple[str, str]]]:
    """The largest modules of each stage that names any."""
    told = {stage.stage.value: vendor.largest_modules(stage)[:MODULES] for stage in found.stages}
    return {stage: modules for stage, modules in told.items() if modules}


def _charts(run: Run, columns: list[tuple[str, str, Kind]]) -> dict[str, Any]:
    layers = run.shown_layers
    stages = {
        numbers.stage_name(stage, run.report.target): metric
        for stage, metric in run.report.scores.items()
    }
    macs = {layer.name: float(layer.macs) for layer in layers}
    drawn = {"MACs": charts.shares(layers, "MACs", macs, {})}
    for column in columns:
        told = {layer.name: numbers.of_layer(layer, column) for layer in layers}
        name = f"{column[0]} ({column[2].value})"
        values = {layer: metric.value for layer, metric in told.items() if metric}
        others = numbers.of_no_layer(run.told.metrics, layers, column)
        drawn[name] = charts.shares(layers, name, values, others)
    found = {
        "accuracy": charts.scores(stages, run.report.score),
        "accumulators": charts.accumulators(layers),
        "errors": charts.errors(layers),
        "histogram": charts.histogram(),
    }
    return {
        **{name: spec for name, spec in found.items() if spec},
        "costs": {name: spec for name, spec in drawn.items() if spec},
    }


def _data(run: Run, columns: list[tuple[str, str, Kind]], macs: int) -> list[dict[str, Any]]:
    """What the page shows of a layer when it is clicked: facts in order, and two histograms."""
    return [
        {
            "name": layer.name,
            "facts": _facts(run, number, columns, macs),
            "weights": layer.weights and dataclasses.asdict(layer.weights.histogram),
            "outputs": dataclasses.asdict(layer.outputs),
        }
        for number, layer in enumerate(run.shown_layers)
    ]


def _facts(
    run: Run, number: int, columns: list[tuple[str, str, Kind]], macs: int
) -> list[tuple[str, str]]:
    layer = run.shown_layers[number]
    rows = [
        ("operation", layer.op),
        ("reads", ", ".join(layer.inputs)),
        ("output", f"{shape_text(layer.shape)} {layer.type}, scale {layer.scale}"),
    ]
    if layer.weights:
        w = layer.weights
        rows.append(
            ("weights", f"{w.count:,} of {w.bits} bits, scale {w.scale}; {w.zeros:,} are 0")
        )
    if layer.accumulator:
        a = layer.accumulator
        width = f"; the target has {a.width}" if a.width else ""
        rows.append(("accumulator", f"{a.low:,} to {a.high:,}: {a.bits} bits{width}"))
        rows.append(("occurred", f"{a.seen_low:,} to {a.seen_high:,}"))
    if layer.requant:
        rows.append(("requantization", layer.requant))
    if layer.multiplier_bits is not None:
        rows.append(("multiplier", f"{layer.multiplier_bits} bits"))
    if layer.error:
        e = layer.error
        ratio = "nothing lost" if e.sqnr is None else f"{e.sqnr:.1f} dB signal to noise"
        lost = f"{ratio}, rms {e.rms:.2f} steps, {100 * e.clipped:.2f} % clipped"
        rows.append(("own rounding", lost))
    if layer.twin_error is not None:
        ratio = "the same" if layer.twin_ratio is None else f"{layer.twin_ratio:.1f} dB"
        away = f"{ratio}, rms difference {100 * layer.twin_error:.2f} % of its rms"
        rows.append(("against float twin", away))
    share = f" ({layer.macs / macs:.1%} of all)" if macs and layer.macs else ""
    rows.append(("MACs", f"{layer.macs:,}{share}"))
    for column in columns:
        if metric := numbers.of_layer(layer, column):
            kind = f"{metric.kind.value}: {metric.source}"
            rows.append((metric.name, f"{numbers.value_text(metric)} ({kind})"))
    return rows
