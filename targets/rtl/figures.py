"""What the reports tell of the hardware's speed, and of what layers and byte stream take of it."""

from __future__ import annotations

from collections.abc import Iterator

from flow.metric import Interval, Kind, Metric
from targets.rtl.implement.accounts import Spent, named
from targets.rtl.implement.implement import Implementation, called
from targets.rtl.origins import PORTS, STREAM
from targets.rtl.ports import Timing

SEVERAL = "several layers"
_BY_LINES = "by the lines of Verilog that cells are from"


def speed(timing: Timing, clock_mhz: float, made: Implementation | None) -> list[Metric]:
    """In time: at the clock that was routed, else at the one that is meant."""
    if made is None or made.best is None or made.best.fmax_mhz is None:
        clock, kind, spread = clock_mhz, Kind.ASSUMED, None
        at = f"of clock_mhz={clock_mhz:g}, which only place and route can show to be met"
    else:
        clock, kind, spread, at = made.best.fmax_mhz, Kind.MEASURED, made.spread, "at fmax"
    alone, through = "the network alone", "first byte in to last byte out"
    times = (("latency", timing.latency, alone), ("stream latency", timing.stream_latency, through))
    rates = (
        ("throughput", timing.interval, f"{alone}, an input every"),
        ("stream throughput", timing.stream_interval, "through bytes, an input every"),
    )
    return [
        *(
            Metric(
                name,
                1000 * cycles / clock,
                "ns",
                kind,
                f"{what}: {_cycles(cycles)} {at}",
                spread
                and Interval(
                    1000 * cycles / spread.high, 1000 * cycles / spread.low, spread.coverage
                ),
            )
            for name, cycles, what in times
        ),
        *(
            Metric(
                name,
                1e6 * clock / cycles,
                "1/s",
                kind,
                f"{what} {_cycles(cycles)} {at}",
                spread
                and Interval(
                    1e6 * spread.low / cycles, 1e6 * spread.high / cycles, spread.coverage
                ),
            )
            for name, cycles, what in rates
        ),
    ]


def _cycles(count: int) -> str:
    return "cycle" if count == 1 else f"{count} cycles"


def hardware(made: Implementation) -> list[Metric]:
    """What place and route and synthesis found, the network without its byte stream too, and what
    is of no one layer."""
    return [*made.timing(), *made.counts(), *_apart(made), *made.work()]


def _apart(made: Implementation) -> Iterator[Metric]:
    if made.accounts is None:
        return
    source = f"{made.synthesized_by}, {_BY_LINES}"
    stream, several = made.accounts.of_part(STREAM), made.accounts.shared
    for kind in made.counted:
        if whole := made.count(kind):
            alone, why = whole - stream.get(kind, 0), f"{source}: all but the byte stream's"
            name = f"network {called(kind, made.part)}"
            yield Metric(name, alone, "1", Kind.MEASURED, why)
    cannot = f"{source}: they lie between layers and cannot be told apart"
    for part, counts, said in (
        (STREAM, stream, source),
        (PORTS, made.accounts.of_part(PORTS), source),
        (SEVERAL, several, cannot),
    ):
        for kind in made.counted:
            if count := counts.get(kind):
                name = f"{called(kind, made.part)}: {part}"
                yield Metric(name, count, "1", Kind.MEASURED, said)
    for found in _critical(made):
        if found.parts in ((STREAM,), (PORTS,)) or len(found.parts) != 1:
            name = f"critical path: {named(found.parts)}"
            yield Metric(name, found.delay_ns, "ns", Kind.MEASURED, made.routed_by)


def _critical(made: Implementation) -> tuple[Spent, ...]:
    """By parts, the critical path of the kept seed's slowest clock."""
    if made.accounts is None or made.best is None or made.best.clock is None:
        return ()
    paths = made.accounts.paths.get(made.best.seed, ())
    return next((path.spent for path in paths if path.clock == made.best.clock.name), ())


def of_layer(made: Implementation, layer: str) -> Iterator[Metric]:
    """What one layer takes, and how much of the critical path is in it."""
    if made.accounts is None:
        return
    counts = made.accounts.of_part(layer)
    for kind in made.counted:
        if made.count(kind):
            source = f"{made.synthesized_by}, {_BY_LINES}"
            name = called(kind, made.part)
            yield Metric(name, counts.get(kind, 0), "1", Kind.MEASURED, source)
    if path := _critical(made):
        found = next((spent for spent in path if spent.parts == (layer,)), Spent((layer,), 0, 0))
        split = f"{found.logic_ns:.1f} ns logic, {found.routing_ns:.1f} ns routing"
        source = f"{made.routed_by}: {split}"
        yield Metric("critical path", found.delay_ns, "ns", Kind.MEASURED, source)
