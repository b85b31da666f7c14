"""LUTs and flip-flops of a network that is laid out, by family, as Yosys will count them: by
estimators that were fitted on this project's own labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict

from flow.metric import Kind, Metric, Told
from flow.surrogate.store import Fitted
from flow.surrogate.unrolled import FEATURES, TABLE, Label, features, terms
from targets.rtl.implement.parts import Family
from targets.rtl.structure import Counted

# UltraScale+ is counted as Xilinx 7 is; the table of errors says of how many kernels.
_LIKE = {Family.XCUP: Family.XC7}


def count_estimates(
    counted: Counted, families: Iterable[Family], fitted: Mapping[str, Fitted]
) -> Told:
    """What Yosys will count of a design, without its byte stream, for these families; unknown where
    no estimator was fitted, or the design has what no label has."""
    structure = {name: float(value) for name, value in asdict(counted).items()}
    rows = features([structure])
    metrics, unknown = [], {}
    for family in families:
        for label in Label:
            name = f"{label.value} on {family.value}"
            each = fitted.get(f"own/{_LIKE.get(family, family).value}/{label.value}")
            if each is None:
                unknown[name] = f"{TABLE} has too few labels to fit an estimate on; see make labels"
                continue
            strange = each.estimator.hull.strange(rows)[0]
            if strange.any():
                odd = (part for part, which in zip(FEATURES, strange, strict=True) if which)
                unknown[name] = f"no labelled design is like it in {', '.join(odd)}"
                continue
            found = each.estimator.estimate(rows, terms([structure], label))
            like = f", which {family.value} is counted like" if family in _LIKE else ""
            beyond = "; beyond all that were seen, hence wide" if found.outside[0] else ""
            source = f"without the byte stream. {each.source}{like}{beyond}"
            value = float(found.value[0])
            metrics.append(Metric(name, value, "1", Kind.ESTIMATED, source, found.interval(0)))
    return Told(tuple(metrics), unknown)
