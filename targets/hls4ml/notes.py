"""What is known of single layers: how they round, their accumulators, multipliers and cycles."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

import numpy as np

from flow.graph import Graph
from flow.metric import Kind, Metric
from flow.target import LayerNote, node_of
from targets.hls4ml.layers import Layer


def notes(
    graph: Graph,
    layers: Sequence[Layer],
    reuse: Callable[[Layer], int],
    adders: Callable[[Layer], bool],
) -> dict[str, LayerNote]:
    """By node: its hls4ml layers together. `reuse` gives a layer's reuse factor, `adders` says
    whether it has adders instead of multipliers."""
    names = {node.name for node in graph.nodes}
    owned: dict[str, list[Layer]] = {}
    for layer in layers:
        if (name := node_of(layer.name, names)) is not None:
            owned.setdefault(name, []).append(layer)
    return {name: _note(mine, reuse, adders) for name, mine in owned.items()}


def _note(
    layers: Sequence[Layer], reuse: Callable[[Layer], int], adders: Callable[[Layer], bool]
) -> LayerNote:
    weighted = [layer for layer in layers if layer.inputs]
    forms = [layer.form for layer in layers if layer.form]
    widths = [int(found[1]) for form in forms if (found := re.match(r"multiplier (\d+) bit", form))]
    return LayerNote(
        "; ".join(forms),
        max(widths, default=None),
        weighted[0].precision["accum"].bits if weighted else None,
        tuple(
            metric for layer in weighted for metric in _figures(layer, reuse(layer), adders(layer))
        ),
    )


def _figures(layer: Layer, reuse: int, adders: bool) -> list[Metric]:
    positions = int(np.prod(layer.layout.shape[1:], initial=1))
    found = [
        Metric("reuse factor", reuse, "1", Kind.MEASURED, "as the project says"),
        Metric(
            "cycles",
            positions * reuse,
            "cycles",
            Kind.ASSUMED,
            "output positions * reuse factor: between two inputs, if no other layer is slower",
        ),
    ]
    if adders:
        return found
    source = "ceil(weights/reuse factor); zero weights not taken off"
    return [
        Metric("multipliers", math.ceil(layer.products / reuse), "1", Kind.ASSUMED, source),
        *found,
    ]
