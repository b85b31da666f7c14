"""What a command found out, as data: what `JSON=1` prints and what lies in an artifact."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flow import roc
from flow.metric import Metric
from flow.verify import Agreement

STAGES = (
    "float",
    "quantized",
    "integer",
    "simulation",
    "converters",
    "chips",
)  # of a network's score, in order


@dataclass(frozen=True)
class Report:
    """What a command found out; `to_json` is what `JSON=1` prints. `accuracy`, or, where there are
    no classes, `auc` has the network's score at each stage."""

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
    auc: dict[str, Metric] = field(default_factory=dict)

    @property
    def scores(self) -> dict[str, Metric]:
        """The network's score at each stage, whatever it is."""
        return self.auc or self.accuracy

    @property
    def score(self) -> str:
        """What the scores are."""
        return roc.NAME if self.auc else "accuracy"

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
            **(
                {"auc": {s: metric.to_json() for s, metric in self.auc.items()}} if self.auc else {}
            ),
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
            _stages(body["accuracy"]),
            [Metric.from_json(row) for row in body["metrics"]],
            list(body["warnings"]),
            up_to_date=True,
            classes=tuple(body.get("classes", ())),
            auc=_stages(body.get("auc", {})),
        )


def _stages(body: dict[str, Any]) -> dict[str, Metric]:
    """In their order: JSON files are sorted by name."""
    known = sorted(body, key=lambda s: (STAGES.index(s) if s in STAGES else len(STAGES), s))
    return {stage: Metric.from_json(body[stage]) for stage in known}
