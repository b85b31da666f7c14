"""report.json: what is written is what the schema says and reads back; damage is named."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from flow.errors import UsageError
from flow.graph import Graph
from flow.interp import Interpreter
from flow.report.layers import layers_of
from flow.report.run import Run, check_schema, read_run
from flow.report.vendor.folder import read_folder
from targets.hls4ml.target import Hls4ml
from tests.report.support import deep, made_up
from tests.report.vendor.support import DATA

SCHEMA = json.loads(
    (Path(__file__).resolve().parents[2] / "flow/report/run.schema.json").read_text()
)


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_a_compile_writes_what_the_schema_says(compiled: Path) -> None:
    body = json.loads((compiled / "report.json").read_text())
    jsonschema.validate(body, SCHEMA)
    run = read_run(compiled)
    assert json.loads(json.dumps(run.to_json())) == body
    assert run.report.agreement.matches and run.report.artifact == compiled
    assert [layer.name for layer in run.layers] == ["fc1", "fc2"]
    assert [layer.macs for layer in run.layers] == [20, 15]


def test_what_made_it_is_told_without_places(compiled: Path) -> None:
    run = read_run(compiled)
    assert run.origin is not None
    assert run.origin.command == {
        "MODEL": "./small.onnx",
        "TARGET": "tflite",
        "OPTS": "exact=proven",
    }
    assert run.origin.given == ("exact=proven",)
    manifest = json.loads((compiled / "manifest.json").read_text())
    assert (run.origin.onnx, run.origin.key) == (manifest["onnx"], manifest["key"])
    assert run.origin.options == {k: str(v) for k, v in manifest["options"].items()}
    for name in ("report.json", "report.md", "report.html"):
        assert str(compiled.parent) not in (compiled / name).read_text()


def test_the_target_s_own_columns(compiled: Path) -> None:
    first = read_run(compiled).layers[0]
    assert {metric.name for metric in first.metrics} == {"constants", "operators"}
    assert first.accumulator is not None and first.accumulator.width == 32
    assert first.requant == "float32 multiplier (XNNPACK), proven"


def test_hls4ml_s_own_columns(compiled: Path) -> None:
    graph = Graph.from_json((compiled / "graph.json").read_text())
    trace = Interpreter(graph).trace(np.zeros((1, 4), np.int64))
    options = {"strategy": "resource", "fc1.reuse_factor": "2"}
    notes = Hls4ml().with_options(options).layers(graph, compiled)
    first, second = layers_of(graph, trace, notes, {})
    shown = [{metric.name: metric.value for metric in row.metrics} for row in (first, second)]
    assert shown[0] == {"multipliers": 10, "reuse factor": 2, "cycles": 2}
    assert shown[1] == {"multipliers": 15, "reuse factor": 1, "cycles": 1}
    assert first.accumulator is not None and first.accumulator.width == first.accumulator.bits
    assert first.requant == "shift 4, RND_CONV" and second.requant == ""


def test_a_report_of_the_first_schema_is_read(tmp_path: Path) -> None:
    run = made_up(deep(1))
    (tmp_path / "report.json").write_text(json.dumps(run.report.to_json()))
    old = read_run(tmp_path)
    assert old.origin is None and old.layers == ()
    assert old.report.metrics == run.report.metrics
    with pytest.raises(ValueError, match="schema 1"):
        old.to_json()


def test_a_report_of_the_second_schema_is_read() -> None:
    body = json.loads(json.dumps(made_up(deep(1)).to_json()))
    body["schema"] = 2
    del body["twin"], body["synthesis"]
    for layer in body["layers"]:
        del layer["twin_error"]
    old = Run.from_json(body, Path("x"))
    assert old.layers[0].twin_error is None and old.synthesis is None
    assert old.twin.startswith("not known: the report was written by an older bitwright")
    body["layers"][0]["twin_error"] = 0.5
    with pytest.raises(UsageError, match="damaged at layers/0"):
        Run.from_json(body, Path("x"))


def _set(*path: Any) -> Callable[[dict[str, Any]], None]:
    *way, last, value = path

    def change(body: dict[str, Any]) -> None:
        for step in way:
            body = body[step]
        body[last] = value

    return change


DAMAGED = {
    "no schema": (lambda body: body.pop("schema"), "must be a report with a schema"),
    "newer": (_set("schema", 4), "of schema '4', this program reads 1 to 3"),
    "true": (_set("schema", True), "of schema 'True'"),
    "layers": (_set("layers", 3), "damaged at layers"),
    "name": (_set("layers", 0, "name", ["x"]), "damaged at layers/0/name"),
    "macs": (_set("layers", 1, "macs", -1), "damaged at layers/1/macs"),
    "kind": (_set("metrics", 0, "kind", "guessed"), "damaged at metrics/0/kind"),
    "extra": (_set("layers", 0, "more", 1), "damaged at layers/0: .*'more'"),
    "missing": (lambda body: body["origin"].pop("key"), "damaged at origin: 'key' is"),
    "width": (_set("layers", 0, "outputs", "width", 0), "damaged at layers/0/outputs/width"),
    "estimate": (_set("metrics", 0, "kind", "estimated"), "an estimate must carry its interval"),
    "twin": (_set("layers", 0, "twin_error", -0.1), "damaged at layers/0/twin_error"),
    "stage": (_set("synthesis", "stages", 0, "stage", "hoped"), "'hoped' is not a valid Stage"),
    "resource": (_set("synthesis", "stages", 0, "resources", "x", {}), "damaged at synthesis"),
    "date": (_set("synthesis", "stages", 0, "date", "once"), "Invalid isoformat"),
    "matches": (_set("matches_reference", "yes"), "damaged at matches_reference"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damage_is_named(kind: str) -> None:
    damage, says = DAMAGED[kind]
    run = dataclasses.replace(made_up(deep(1)), synthesis=read_folder(DATA / "ravel/timing.rpt"))
    body = copy.deepcopy(json.loads(json.dumps(run.to_json())))
    check_schema(body)
    damage(body)
    with pytest.raises(UsageError, match=says):
        Run.from_json(body, Path("x"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "report.json is damaged"),
        ("[]", "must be a report with a schema"),
        ("[" * 100_000, "report.json is damaged"),
        ('{"schema": NaN}', "NaN is no number"),
        ("\0", "report.json is damaged"),
    ],
)
def test_text_that_is_no_report(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(UsageError, match=says):
        read_run(tmp_path)


def test_no_report(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="its compile did not end"):
        read_run(tmp_path)
