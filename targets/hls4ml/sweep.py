"""Many ways to build one hls4ml network, estimated at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flow.errors import UsageError
from flow.metric import Fit
from flow.outline import WEIGHTED, Outline
from flow.report.vendor.synthesis import BY_VIVADO, HLS_REPORT
from flow.spans import Floats, Spans, Swept
from flow.surrogate.energy import ALONE, shipped_energies
from targets.hls4ml.estimate import Build, fit_of
from targets.hls4ml.parts import COUNTED, find_stock
from targets.hls4ml.totals import Setting, Totals, totals

_UNITS = {"latency": "ns", "interval": "ns", ALONE: "uJ", "energy": "uJ"}  # of others counts
Way = tuple[Sequence[Setting], Build]


def swept(network: Outline, ways: Sequence[Way]) -> Swept:
    """Each way has a setting for every layer with weights.

    Raises:
        UsageError: a way is not for AMD's tools, or the network has no layer with weights.
    """
    if not all(build.vendor for _, build in ways):
        raise UsageError(
            "SWEEP needs backend=Vitis or backend=Vivado: of others no design was seen"
        )
    if network.unknown or not any(step.role in WEIGHTED for step in network.steps):
        raise UsageError(f"SWEEP: {network.name} must have layers with weights, all of them known")
    figures: dict[str, Floats] = {}
    costs: dict[str, Floats] = {}
    verdicts: list[tuple[Fit, str]] = [(Fit.MAY_NOT, "")] * len(ways)
    for stream in (False, True):
        rows = [row for row, (_, build) in enumerate(ways) if build.stream is stream]
        if not rows:
            continue
        builds = [ways[row][1] for row in rows]
        found = totals(network, [ways[row][0] for row in rows], stream)
        told = _figures(found, builds)
        for name, spans in told.items():
            into = figures.setdefault(name, np.full((3, len(ways)), np.nan))
            into[0, rows], into[1, rows], into[2, rows] = spans.low, spans.likely, spans.high
        for name, high in _costs(found, told).items():
            costs.setdefault(name, np.full(len(ways), np.nan))[rows] = high
        for at, row in enumerate(rows):
            verdicts[row] = _verdict(found, builds[at], at)
    return Swept(
        {name: Spans(*ends) for name, ends in figures.items()},
        {name: _UNITS.get(name, "1") for name in (*figures, *costs)},
        costs,
        tuple(build.part for _, build in ways),
        tuple(fit for fit, _ in verdicts),
        tuple(why for _, why in verdicts),
    )


def _figures(found: Totals, builds: Sequence[Build]) -> dict[str, Spans]:
    clock = Spans.exactly(np.array([build.clock_ns for build in builds]))
    latency = found.latency * clock
    return {
        **{f"{name} {HLS_REPORT}": spans for name, spans in found.report.items()},
        **{f"{name} {BY_VIVADO}": spans for name, spans in found.vivado.items()},
        "latency": latency,
        "interval": found.interval * clock,
        ALONE: latency * _watts(builds) * Spans.between(1e-3, 1e-3, 1e-3),
    }


def _costs(found: Totals, told: dict[str, Spans]) -> dict[str, Floats]:
    counts = {name: found.worst(name).high for name in COUNTED}
    times = {"latency": told["latency"].high, "interval": told["interval"].high}
    return {**counts, **times, "energy": told[ALONE].high}


def _verdict(found: Totals, build: Build, row: int) -> tuple[Fit, str]:
    told = fit_of(found, build, row)
    if told is None:
        return Fit.MAY_NOT, f"what {build.part} has is not known"
    return told.fit, found.why[row]


def _watts(builds: Sequence[Build]) -> Spans:
    """Of a board with the part, where one was measured."""
    watts = np.full((3, len(builds)), np.nan)
    known = shipped_energies().boards
    for row, build in enumerate(builds):
        stock = find_stock(build.part)
        if stock is not None and stock.device in known:
            each = known[stock.device][1].range
            watts[:, row] = each.low, each.likely, each.high
    return Spans(*watts)
