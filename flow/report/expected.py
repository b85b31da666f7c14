"""What was estimated beside what was measured: where it did not hold, that is said."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from flow.metric import Kind, Metric


def outside(metrics: Iterable[Metric]) -> Iterator[str]:
    """Of each figure that was measured outside the interval that was estimated of it, a sentence;
    of figures with one name, unit and kind the last one counts, as it does where they are shown."""
    found: dict[tuple[str, str], dict[Kind, Metric]] = {}
    for metric in metrics:
        found.setdefault((metric.name, metric.unit), {})[metric.kind] = metric
    for (name, unit), kinds in found.items():
        measured, estimated = kinds.get(Kind.MEASURED), kinds.get(Kind.ESTIMATED)
        if measured is None or estimated is None or estimated.interval is None:
            continue
        low, high = estimated.interval.low, estimated.interval.high
        if not low <= measured.value <= high:
            of = "" if unit == "1" else f" {unit}"
            yield (
                f"{name}: {measured.value:,.6g}{of} was measured, outside the interval of "
                f"{low:,.6g} to {high:,.6g}{of} that was estimated"
            )
