"""The command schedule, whole: typed variants on a phone's processor, artifacts on this host."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from flow.artifact import read_manifest
from flow.cli import main
from flow.driver import compile_model
from flow.errors import ToolMissing, UsageError
from flow.plan import Events, Request
from flow.review import report_all
from flow.schedule.host_table import host_predictor
from flow.schedule_plan import ScheduleRequest
from flow.scheduling import Told, make_schedule
from tests.cli.support import mlp

TYPED = """
[[variants]]
model = "digits"
name = "8 bits"
target = "tflite"
accuracy = 98.5
reference_ms = 8
method = "assumed"
source = "a made-up network"
[[variants]]
model = "digits"
name = "3 bits"
target = "tflite"
accuracy = 96
reference_ms = 5
method = "assumed"
source = "a made-up network"
"""
TRACE = "poisson:mean_ms=60,n=400,seed=1,deadline_ms=60"
XU3 = {"p_awake_mw": "0", "migration_us": "50", "window_ms": "300"}
GOVERNORS = {"ondemand", "conservative", "interactive", "schedutil", "eas"}


def schedule(folder: Path, options: Mapping[str, str], **more: Any) -> Told:
    (folder / "v.toml").write_text(TYPED)
    given = {"platform": "odroid-xu3", "trace": TRACE, "models": str(folder / "v.toml"), **more}
    return make_schedule(ScheduleRequest(**given, options=options, runs=folder / "runs"), Events())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Told, Path]:
    folder = tmp_path_factory.mktemp("schedule")
    return schedule(folder, XU3), folder


def test_every_policy_is_told_with_its_misses_and_bounds(whole: tuple[Told, Path]) -> None:
    body = whole[0].body
    assert body["schema"] == 1 and body["command"] == "schedule"
    assert len(body["policies"]) == 13
    assert 0 < body["lower_bound"] <= body["upper_bound"]
    for row in body["policies"]:
        assert row["cost"] == pytest.approx(
            row["energy"] + body["miss_mj"] * row["misses"] / row["requests"]
        )
        assert sum(row["parts"].values()) == pytest.approx(row["energy"])
        assert row["energy_with_floor"] > row["energy"] and 0 <= row["misses"] <= 400
        assert 96 <= row["accuracy"] <= 98.5
        assert sum(r["percent"] for r in row["residency"]) == pytest.approx(100)
        if row["policy"] not in GOVERNORS:  # which may change a request's point on the way
            assert row["cost"] >= body["lower_bound"] * (1 - 1e-9)
    assert {"p_awake_mw", "migration_us"} <= set(body["platform"]["assumed"])
    assert body["kind"] == "assumed"  # as p_awake_mw is
    assert "GPL" in body["platform"]["sources"]["big.points"]


@pytest.mark.parametrize(
    ("place", "message"),
    [("v.toml", "is a file"), ("kept", "holds other files"), (".", "above it")],
)
def test_a_folder_that_would_be_lost_is_refused(
    place: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "notes.txt").write_text("mine")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=f"OUT={place} .*{message}"):
        schedule(tmp_path, XU3, out=Path(place))
    assert (tmp_path / "kept" / "notes.txt").read_text() == "mine"


def test_sweeps_vary_what_they_say(whole: tuple[Told, Path]) -> None:
    body = whole[0].body
    at_one = next(each for each in body["load_sweep"] if each["value"] == 1.0)
    awake = next(each for each in body["awake_sweep"] if each["value"] == 0.0)
    as_is = body["table_sweep"][0]
    own = {row["policy"]: row["cost"] for row in body["policies"]}
    for swept in (at_one, awake, as_is):
        assert swept["cost"] == pytest.approx(own)
    by_load = [each["miss_percent"]["little_max"] for each in body["load_sweep"]]
    assert by_load[0] < by_load[-1]
    labels = [each["label"] for each in body["table_sweep"]]
    assert "C * V^2 * f of the device tree" in labels and "big running times 1.3" in labels
    more = next(e for e in body["table_sweep"] if e["label"] == "big running times 1.3")
    assert more["cost"]["performance"] > as_is["cost"]["performance"]
    assert more["cost"]["little_max"] == pytest.approx(as_is["cost"]["little_max"])
    assert body["front"] and all(f["energy"] > 0 for f in body["front"])


def test_the_folder_is_whole_and_made_once(whole: tuple[Told, Path]) -> None:
    told, folder = whole
    place = Path(told.body["artifact"])
    names = set(read_manifest(place)["files"])
    plots = {f"{name}.svg" for name in ("pareto", "energy", "latency", "load", "sensitivity")}
    assert names >= {*plots, "timeline.svg", "timeline.json", "schedule.json", "policy.py"}
    before = (place / "manifest.json").stat().st_mtime_ns
    assert schedule(folder, XU3).body == told.body
    assert (place / "manifest.json").stat().st_mtime_ns == before
    held = {name: (place / name).read_bytes() for name in names}
    (place / "report.md").write_text("changed")
    assert schedule(folder, XU3).body == told.body  # made again: the same inputs, the same bytes
    assert {name: (place / name).read_bytes() for name in names} == held


def test_energy_never_stands_without_misses(whole: tuple[Told, Path]) -> None:
    told, _ = whole
    place = Path(told.body["artifact"])
    head = next(line for line in told.text.splitlines() if line.startswith("policy "))
    assert head.index("mJ/request") < head.index("missed %") < head.index("J over")
    text = (place / "report.md").read_text()
    assert "| policy | mJ/request | with floor | missed % |" in text
    assert "measured: mW that one busy core adds" in text and "assumed: set by the user" in text
    page = (place / "report.html").read_text()
    assert page.count("<img") == 6 and "https://" not in page.replace("http://www.w3.org", "")


def test_a_timeline_is_what_chromes_viewer_reads(whole: tuple[Told, Path]) -> None:
    place = Path(whole[0].body["artifact"])
    events = json.loads((place / "timeline.json").read_text())["traceEvents"]
    stretches = [e for e in events if e["ph"] == "X" and e["pid"] == 1]
    assert stretches and all(e["dur"] > 0 for e in stretches)
    for one, other in pairwise(stretches):
        assert one["ts"] + one["dur"] <= other["ts"]  # nothing overlaps
    assert {e["ph"] for e in events} == {"M", "X", "C"}


def test_the_index_of_runs_lists_schedules(whole: tuple[Told, Path]) -> None:
    indexed = report_all(whole[1] / "runs")
    assert not indexed.found  # no compile among them, and none that is half-written
    page = indexed.page.read_text()
    assert "odroid-xu3" in page and 'href="schedule-odroid-xu3-' in page


@pytest.mark.parametrize(
    ("options", "more", "message"),
    [
        ({}, {}, "odroid-xu3.toml: 2 numbers are not known"),
        (XU3, {"platform": "odroid"}, "did you mean 'odroid-xu3'"),
        ({**XU3, "polcy": "x"}, {}, "polcy=x: polcy is no option"),
        ({**XU3, "policy": "powersave"}, {}, "choose one of event_based, predictive, price"),
        ({**XU3, "policies": "fastest"}, {}, "unknown policy 'fastest'"),
        ({**XU3, "price.price_w": "-1"}, {}, "price_w must be a number from 0"),
        ({**XU3, "miss_mj": "nan"}, {}, "option miss_mj must be a finite number"),
        ({**XU3, "grid_us": "0"}, {}, "grid must be from 1"),
        ({**XU3, "drive": "5"}, {}, "PLATFORM must be host"),
        (XU3, {"trace": f"{TRACE},min_accuracy=99"}, "min_accuracy 99 is met by no variant"),
        (XU3, {"trace": "nowhere.csv"}, "no trace nowhere.csv"),
        (XU3, {"models": "nowhere"}, "there is no folder nowhere"),
        (XU3, {"models": "designs"}, "odroid-xu3 has no designs that somebody"),
    ],
)
def test_wrong_use_is_told_and_leaves_nothing(
    tmp_path: Path, options: dict[str, str], more: dict[str, str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        schedule(tmp_path, options, **more)
    runs = tmp_path / "runs"
    assert not runs.exists() or not [p for p in runs.iterdir() if not p.name.endswith(".lock")]


def test_exit_codes_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "v.toml").write_text(TYPED)
    (tmp_path / "t.csv").write_text("arrival_us,model,deadline_us\n50,digits,90\n0,digits,70\n")
    argv = ["schedule", "--platform", "odroid-xu3", "--models", str(tmp_path / "v.toml")]
    opts = ["--opts", "p_awake_mw=0 migration_us=50 studies=false policies=price,little_max"]
    argv += [*opts, "--runs", str(tmp_path / "runs"), "--json", "--trace"]
    assert main([*argv, str(tmp_path / "t.csv")]) == 2
    error = capsys.readouterr().err
    assert "t.csv: row 2: arrival_us must not be before its predecessor's" in error
    assert main([*argv, TRACE]) == 0
    body = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [row["policy"] for row in body["policies"]] == ["price", "little_max"]
    assert body["load_sweep"] == [] and body["lower_bound"] > 0


def test_a_boards_designs_are_variants(tmp_path: Path) -> None:
    """Two networks that were measured on one FPGA: the better one also takes less."""
    options = {
        "p_deep_mw": "100",
        "fabric.gated.power_mw": "100",
        "fabric.gated.exit_us": "50000",
        "fabric.gated.residency_us": "200000",
        "policy": "predictive",
        "studies": "false",
    }
    trace = "poisson:mean_ms=500,n=300,deadline_ms=200"
    models = "designs=image classification"
    body = schedule(tmp_path, options, platform="pynq-z2", trace=trace, models=models).body
    row = next(row for row in body["policies"] if row["policy"] == "predictive")
    assert row["variants"] == {"image classification: CNV-W1A1": 100.0}
    assert any("no frequencies to govern" in warning for warning in body["warnings"])


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A small network and a larger one from files: what is tested here is not what they are."""
    runs = tmp_path_factory.mktemp("runs")
    for name, hidden in (("one", 5), ("two", 2500)):
        path = mlp(hidden=hidden).save(runs / f"{name}.onnx")
        given = {"exact": "proven"}
        made = compile_model(Request(str(path), "tflite", given, runs / name, runs), Events())
        assert made.agreement.matches
    return [runs / "one", runs / "two"]


def rated(folder: Path, artifacts: list[Path]) -> str:
    """A file of the artifacts as variants of one model, the later the more right; half of what is
    asked for may be any, the other half must be the last."""
    rows = [
        f'[[variants]]\nmodel = "digits"\nartifact = "{path}"\naccuracy = {90 + place}\n'
        'method = "measured"\nsource = "a test"\n'
        for place, path in enumerate(artifacts)
    ]
    rows += [
        f'[[demands]]\nmodel = "digits"\ndeadline_ms = 500\nmin_accuracy = {floor}\n'
        for floor in (0, 89 + len(artifacts))
    ]
    (folder / "rated.toml").write_text("\n".join(rows))
    return str(folder / "rated.toml")


def test_real_interpreters_are_driven(artifacts: list[Path], tmp_path: Path) -> None:
    options = {"p_awake_mw": "5000", "p_deep_mw": "10000", "drive": "60", "rounds": "50"}
    options |= {"studies": "false"}
    models = rated(tmp_path, artifacts)
    trace = "poisson:mean_ms=5,n=200"
    body = schedule(tmp_path, options, platform="host", trace=trace, models=models).body
    told = {metric["name"]: metric for metric in body["driven"]["metrics"]}
    assert told["requests"]["value"] == 60 and told["latency p50"]["kind"] == "measured"
    assert 0 < told["latency p50"]["value"] <= told["latency max"]["value"]
    assert told["energy"]["kind"] == "estimated" and told["energy"]["value"] > 0
    shares = body["driven"]["variants"]
    assert set(shares) == {"one", "two"} and sum(shares.values()) == pytest.approx(100)
    # whoever asks for the better network gets it, which is about one in two
    assert 30 < shares["two"]
    for place, each in enumerate(body["models"]):
        assert each["accuracy"]["kind"] == each["latency"]["kind"] == "measured"
        assert each["accuracy"]["value"] == 90 + place and each["artifact_sha256"]
    place = Path(body["artifact"])
    assert (place / "variants/0.tflite").read_bytes() == (
        artifacts[0] / "model.tflite"
    ).read_bytes()


def test_artifacts_are_predicted_where_asked(artifacts: list[Path], tmp_path: Path) -> None:
    models = rated(tmp_path, artifacts[:1])
    options = {**XU3, "studies": "false", "latency": "predicted", "policies": "price"}
    with pytest.raises(UsageError, match="host_speed=… "):
        schedule(tmp_path, options, models=models)
    more = {"models": models, "trace": "poisson:mean_ms=60,n=200"}
    body = schedule(tmp_path, {**options, "host_speed": "5"}, **more).body
    (known,) = body["models"]
    assert known["latency"]["kind"] == "assumed" and "host_speed=5" in known["latency"]["source"]
    host = {"p_awake_mw": "1", "p_deep_mw": "0", "latency": "predicted", "studies": "false"}
    body = schedule(tmp_path, {**host, "policies": "price"}, platform="host", **more).body
    margin = host_predictor().margin
    (note,) = (warning for warning in body["warnings"] if "margin=" in warning)
    assert f"policy price: margin={margin.upper - 1:.4f}".rstrip("0") in note and "90%" in note
    exported = json.loads((Path(body["artifact"]) / "policy.json").read_text())
    assert exported["rule"]["margin"] == pytest.approx(margin.upper - 1, abs=1e-4)
    own = schedule(
        tmp_path, {**host, "policies": "price", "price.margin": "0.2"}, platform="host", **more
    )
    assert not any("margin=" in warning for warning in own.body["warnings"])
    latency = body["models"][0]["latency"]
    assert latency["kind"] == "estimated" and latency["interval"]["coverage"] == 0.9
    assert 5 * latency["value"] == pytest.approx(known["latency"]["value"])


def test_a_changed_artifact_is_refused(artifacts: list[Path], tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(artifacts[0], copy)
    (copy / "model.tflite").write_bytes(b"other")
    with pytest.raises(UsageError, match="was changed or lost since the compile"):
        schedule(tmp_path, XU3, models=str(copy))


def test_an_artifact_of_a_file_has_no_accuracy(artifacts: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="it has no accuracy"):
        schedule(tmp_path, XU3, models=str(artifacts[0]))


def test_without_its_packages_the_command_says_how_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flow.packages.version", lambda name: None)
    with pytest.raises(ToolMissing, match="scipy"):
        schedule(tmp_path, XU3)
