"""What a compile found out about one artifact, as `report.json` holds it: read and written here.

`run.schema.json` is the JSON Schema of that file, and the only thing that says what it may hold: a
file that it accepts can be read. What others made is checked against it first.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from flow.errors import UsageError
from flow.metric import Metric
from flow.report.expected import outside
from flow.report.layers import Accumulator, Error, Histogram, Layer, Weights
from flow.report.result import Report
from flow.report.vendor.folder import IF_TOO_LARGE, Found

# 1 was the report alone, without origin and layers; 2 knew nothing of float twins and of what
# vendor tools reported. Both can still be read.
SCHEMA = 3
REPORT = "report.json"
MAX_BYTES = 64 << 20


@dataclass(frozen=True)
class Origin:
    """What made an artifact. `command` are make's variables that make it again; `options` are all
    of the model's and the target's, as text; `given` those that the user set. `training` tells seed
    and hashes of a model that was trained here."""

    command: Mapping[str, str]
    options: Mapping[str, str]
    given: tuple[str, ...]
    onnx: str
    source: str
    key: str
    versions: Mapping[str, str]
    training: Mapping[str, str]
    host: tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """An artifact's report with what made it and its layers. `samples` says what the layers'
    histograms, ranges and errors are of, `twin` what their distances from the float twin are over,
    or why there are none; `confusion` has a row per true class and a column per answer, and
    `confused` says of what. `synthesis` is what vendor tools reported of the artifact's project.
    Without an origin it was read from a file of schema 1."""

    report: Report
    origin: Origin | None = None
    samples: str = ""
    layers: tuple[Layer, ...] = ()
    input: Histogram | None = None
    input_type: str = ""
    input_shape: tuple[int, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()
    confused: str = ""
    twin: str = ""
    synthesis: Found | None = None

    @cached_property
    def told(self) -> Report:
        """The report with the vendor tools' figures, what they found wrong, and what estimates did
        not hold. Of figures with one name and kind theirs stay, as they saw more of the design than
        a formula."""
        report, found = self.report, self.synthesis
        if found is None:
            return dataclasses.replace(
                report, warnings=[*report.warnings, *outside(report.metrics)]
            )
        metrics = [*report.metrics, *found.beside(report.metrics), *found.metrics()]
        problems = (f"synthesis: {text}; {IF_TOO_LARGE}" for text in found.problems())
        return dataclasses.replace(
            report,
            metrics=list({(m.name, m.unit, m.kind): m for m in metrics}.values()),
            warnings=[*report.warnings, *problems, *outside(metrics)],
        )

    @cached_property
    def shown_layers(self) -> tuple[Layer, ...]:
        """The layers, with what vendor tools say that they use; without what all have none of."""
        told = {} if self.synthesis is None else self.synthesis.of_layers()
        used = {(m.name, m.kind) for metrics in told.values() for m in metrics if m.value}
        return tuple(
            dataclasses.replace(
                layer,
                metrics=(
                    *layer.metrics,
                    *(m for m in told.get(layer.name, ()) if (m.name, m.kind) in used),
                ),
            )
            for layer in self.layers
        )

    @property
    def name(self) -> str:
        """The artifact's folder, its name alone."""
        folder = self.report.artifact
        return "" if folder is None else folder.name

    def to_json(self) -> dict[str, Any]:
        """Without the artifact's place, which may change. Raises ValueError without an origin."""
        if self.origin is None:
            raise ValueError(f"a report without origin is of schema 1, not {SCHEMA}")
        body = self.report.to_json()
        body.pop("confusion", None)
        return {
            **body,
            "schema": SCHEMA,
            "artifact": None,
            "origin": dataclasses.asdict(self.origin),
            "samples": self.samples,
            "input": {
                "type": self.input_type,
                "shape": list(self.input_shape),
                "codes": None if self.input is None else dataclasses.asdict(self.input),
            },
            "layers": [_layer_json(layer) for layer in self.layers],
            "confusion": [list(row) for row in self.confusion],
            "confused": self.confused,
            "twin": self.twin,
            "synthesis": self.synthesis and self.synthesis.to_json(),
        }

    @classmethod
    def from_json(cls, body: Any, folder: Path) -> Run:
        """The run of the artifact in `folder`.

        Raises:
            UsageError: `body` is no report, or of a schema that is not known.
        """
        check_schema(body)
        try:
            report = Report.from_json(body, folder)
            if body["schema"] == 1:
                return cls(report)
            return cls(
                report,
                Origin(
                    **{
                        **body["origin"],
                        "given": tuple(body["origin"]["given"]),
                        "host": tuple(body["origin"]["host"]),
                    }
                ),
                body["samples"],
                tuple(_layer(row) for row in body["layers"]),
                _histogram(body["input"]["codes"]),
                body["input"]["type"],
                tuple(body["input"]["shape"]),
                tuple(tuple(row) for row in body["confusion"]),
                body["confused"],
                *_since_schema_3(body),
            )
        except ValueError as error:  # an interval upside down, an estimate without one
            raise UsageError(f"it is damaged: {error}") from error


def read_run(folder: Path) -> Run:
    """The run of the artifact in `folder`, from its report.json; nothing else is read.

    Raises:
        UsageError: there is none, or it cannot be read.
    """
    path = folder / REPORT
    try:
        if not path.is_file():
            raise UsageError(f"{folder} holds no {REPORT}: its compile did not end; compile again")
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(f"{path}: more than {MAX_BYTES >> 20} MiB are not read")
        body = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is damaged: {error}; compile again") from error
    try:
        return Run.from_json(body, folder)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def check_schema(body: Any) -> None:
    """Raises UsageError, with the place, where `body` is no report of a known schema."""
    if not isinstance(body, dict) or "schema" not in body:
        raise UsageError("it must be a report with a schema; compile again")
    version = body["schema"]
    if version not in range(1, SCHEMA + 1) or isinstance(version, bool):
        raise UsageError(
            f"it is of schema {str(version)[:20]!r}, this program reads 1 to {SCHEMA}; use the "
            f"bitwright that wrote it, or compile again"
        )
    wrong = best_match(_validator(version).iter_errors(body))
    if wrong is not None:
        place = "/".join(str(part)[:40] for part in wrong.absolute_path) or "its top"
        raise UsageError(f"it is damaged at {place}: {wrong.message[:200]}; compile again")


@cache
def _validator(version: int) -> Draft202012Validator:
    body = json.loads(Path(__file__).with_name("run.schema.json").read_text(encoding="utf-8"))
    return Draft202012Validator({"$ref": f"#/$defs/schema{version}", "$defs": body["$defs"]})


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number")


def _layer_json(layer: Layer) -> dict[str, Any]:
    rows = dataclasses.asdict(dataclasses.replace(layer, metrics=()))
    return {**rows, "metrics": [metric.to_json() for metric in layer.metrics]}


def _layer(row: dict[str, Any]) -> Layer:
    weights, sums, error = row["weights"], row["accumulator"], row["error"]
    return Layer(
        **{
            **row,
            **{name: tuple(row[name]) for name in ("nodes", "inputs", "shape")},
            "twin_error": row.get("twin_error"),
            "weights": weights
            and Weights(**{**weights, "histogram": _histogram(weights["histogram"])}),
            "accumulator": sums and Accumulator(**sums),
            "error": error and Error(**error),
            "outputs": _histogram(row["outputs"]),
            "metrics": tuple(Metric.from_json(metric) for metric in row["metrics"]),
        }
    )


def _since_schema_3(body: dict[str, Any]) -> tuple[str, Found | None]:
    if body["schema"] < 3:
        return "not known: the report was written by an older bitwright; compile again", None
    synthesis = body["synthesis"]
    return body["twin"], None if synthesis is None else Found.from_json(synthesis)


def _histogram(row: dict[str, Any] | None) -> Histogram | None:
    return None if row is None else Histogram(row["first"], row["width"], tuple(row["counts"]))
