"""What a command found out, as data: what `JSON=1` prints and what lies in an artifact."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flow.metric import Metric
from flow.verify import Agreement

STAGES = ("float", "quantized", "integer", "simulation")  # of accuracy, in order


@dataclass(frozen=True)
class Report:
    """What a command found out; `to_json` is what `JSON=1` prints."""

    command: str
    model: str
    target: str
    artifact: Path | None
    agreement: Agreement
    accuracy: dict[str, Metric]
    metrics: list[Metric]
    warnings: list[str]
    up_to_date: bool = False
    confusion: tuple[tuple[int, ...], ...] = ()  # a row per true class, a column per answer
    classes: tuple[str, ...] = ()  # what they are called, where that is known

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": 1,
            "command": self.command,
            "model": self.model,
            "target": self.target,
            "artifact": None if self.artifact is None else str(self.artifact),
            "matches_reference": self.agreement.matches,
            "vectors": self.agreement.vectors,
            "vectors_equal": self.agreement.vectors_equal,
            "outputs_equal": self.agreement.outputs_equal,
            "outputs_total": self.agreement.outputs,
            "largest_difference": self.agreement.largest,
            "accuracy": {stage: metric.to_json() for stage, metric in self.accuracy.items()},
            "metrics": [metric.to_json() for metric in self.metrics],
            "warnings": self.warnings,
            **({"confusion": [list(row) for row in self.confusion]} if self.confusion else {}),
            **({"classes": list(self.classes)} if self.classes else {}),
        }

    @classmethod
    def from_json(cls, body: dict[str, Any], folder: Path) -> Report:
        """The report of the artifact in `folder`. Raises KeyError, TypeError or ValueError where
        `body` is none."""
        same = Agreement(
            body["vectors"],
            body["vectors_equal"],
            body["outputs_total"],
            body["outputs_equal"],
            body["largest_difference"],
        )
        return cls(
            body["command"],
            body["model"],
            body["target"],
            folder,
            same,
            {s: Metric.from_json(body["accuracy"][s]) for s in _in_order(body["accuracy"])},
            [Metric.from_json(row) for row in body["metrics"]],
            list(body["warnings"]),
            up_to_date=True,
            classes=tuple(body.get("classes", ())),
        )


def _in_order(stages: Iterable[str]) -> list[str]:
    """JSON files are sorted by name."""
    return sorted(stages, key=lambda s: (STAGES.index(s) if s in STAGES else len(STAGES), s))
