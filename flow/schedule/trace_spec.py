"""Traces as a command takes them: a file, or `poisson:mean_ms=120,n=100000,deadline_ms=60`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from flow.errors import UsageError
from flow.options import parse_value, unknown_name, with_options
from flow.schedule.generators import GENERATORS, Demand, generate
from flow.schedule.trace import Trace
from flow.schedule.trace_file import read_trace

COUNT = 10_000  # requests, where n is not given
TRAINING = 20_000  # requests of a trace that something is tuned on, at most
FILES = (".csv", ".parquet")
_MEAN = "mean_ms"  # what gap_ms is called, too
_COMMON = {"n": int, "seed": int, "deadline_ms": float, "min_accuracy": float}


def make_trace(
    spec: str, models: Sequence[str], demands: Sequence[Demand], training: bool = False
) -> Trace:
    """The trace that `spec` describes: a file's, or a generator's with its options. `demands` say
    what its requests ask for; without them each of `models` is asked for as often, by the
    deadline_ms (and min_accuracy) of `spec`. For `training` the next seed's, or a file's first
    fifth, of at most `TRAINING` requests.

    Raises:
        UsageError: an unknown generator or option, a value out of range, or no deadline.
    """
    if Path(spec).suffix in FILES:
        trace = read_trace(Path(spec))
        return trace.part(0, min(len(trace) // 5 + 1, TRAINING)) if training else trace
    name, _, text = spec.partition(":")
    if name not in GENERATORS:
        raise unknown_name(
            "trace", name, (*GENERATORS, *(f"a file ending in {end}" for end in FILES))
        )
    given = _options(spec, text)
    common = {
        key: parse_value(key, kind, given.pop(key)) for key, kind in _COMMON.items() if key in given
    }
    generator = GENERATORS[name]()
    if _MEAN in given and hasattr(generator, "gap_ms"):
        given["gap_ms"] = given.pop(_MEAN)
    try:
        generator = with_options(generator, given)
    except UsageError as error:
        raise UsageError(f"TRACE={spec}: {error}") from None
    floor = common.get("min_accuracy")
    seed = common.get("seed", 0)
    if seed < 0:
        raise UsageError(f"TRACE={spec}: seed must be from 0, not {seed}")
    wanted = _demands(spec, models, demands, common.get("deadline_ms"), floor)
    count = common.get("n", COUNT)
    if training:
        return generate(generator, wanted, min(count, TRAINING), seed + 1)
    return replace(generate(generator, wanted, count, seed), generator=spec)


def _options(spec: str, text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in filter(None, text.split(",")):
        key, sep, value = word.partition("=")
        if not (key and sep and value) or key in found:
            raise UsageError(
                f"TRACE={spec}: {word!r} must be of the form key=value, each key once, as in "
                f"poisson:mean_ms=120,n=100000,seed=0,deadline_ms=60"
            )
        found[key] = value
    return found


def _demands(
    spec: str,
    models: Sequence[str],
    demands: Sequence[Demand],
    deadline_ms: float | None,
    floor: float | None,
) -> list[Demand]:
    if demands:
        if deadline_ms is not None or floor is not None:
            raise UsageError(
                f"TRACE={spec}: the variants' file has demands, with deadlines and accuracies of "
                f"their own; leave deadline_ms and min_accuracy out"
            )
        return list(demands)
    if deadline_ms is None:
        raise UsageError(f"TRACE={spec}: deadline_ms must be given: until when a request is done")
    micros = round(deadline_ms * 1000)
    return [Demand(model, micros, min_accuracy=floor or 0.0) for model in models]


def stretched(trace: Trace, factor: float) -> Trace:
    """The same requests with gaps `factor` times as long, deadlines as long after arrivals."""
    arrival = (trace.arrival_us * factor).round().astype(trace.arrival_us.dtype)
    allowed = trace.deadline_us - trace.arrival_us
    return replace(
        trace,
        arrival_us=arrival,
        deadline_us=arrival + allowed,
        generator=f"{trace.generator} with gaps times {factor:g}",
    )


def told(trace: Trace) -> Mapping[str, str | int | bool | None]:
    """What a report says of a trace."""
    return {
        "trace": trace.generator,
        "seed": trace.seed,
        "requests": len(trace),
        "closed": trace.closed,
        "sha256": trace.sha256,
    }
