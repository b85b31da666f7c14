"""What a .tflite file will take of a processor, told from shapes and bits."""

from __future__ import annotations

from flow.errors import UsageError
from flow.metric import Kind, Metric, Told
from flow.outline import WEIGHTED, Outline
from flow.schedule.host_table import host_predictor
from flow.schedule.layer_work import outline_work
from flow.surrogate import energy
from flow.surrogate.structure import products

LATENCY = "latency on one thread"
OTHERS = "only LiteRT's kernels of int8 were measured"
BYTE = 8  # bits of the codes that the measured networks had


def estimates(network: Outline, measured: bool = True) -> Told:
    """Of files of int8 tensors: latency of one inference, calls fused as the runtime fuses them,
    where its kernels are those that were `measured`, and energy on processors that others had."""
    if network.unknown:
        why = network.why_unknown
        return Told((), dict.fromkeys((LATENCY, "energy"), why))
    latency, unknown = _latency(network) if measured else ([], {LATENCY: OTHERS})
    macs = sum(products(step) for step in network.steps)
    return Told((*latency, *energy.processors(macs)), unknown)


def _latency(network: Outline) -> tuple[list[Metric], dict[str, str]]:
    weighted = [step for step in network.steps if step.role in WEIGHTED]
    wide = [s for s in weighted if max(s.given_bits, s.weight_bits or 0) > BYTE]
    if wide:
        return [], {LATENCY: f"{wide[0].name} is of more than {BYTE} bits: only int8 was measured"}
    predictor = host_predictor()
    try:
        seconds = predictor.seconds(outline_work(network))
    except UsageError as error:
        return [], {LATENCY: str(error)}
    source = f"{predictor.networks} networks by {predictor.measured}; another machine differs"
    micros = predictor.margin.interval(1e6 * seconds)
    return [Metric(LATENCY, 1e6 * seconds, "us", Kind.ESTIMATED, source, micros)], {}
