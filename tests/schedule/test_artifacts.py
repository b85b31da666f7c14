"""What every target compiles can be scheduled where it can run, with its own times and energies."""

from __future__ import annotations

from pathlib import Path

import pytest

from flow.driver import compile_model
from flow.errors import UsageError
from flow.metric import Kind, Metric
from flow.plan import Events, Request
from flow.report.run import read_run
from flow.schedule.engine import simulate
from flow.schedule.oracle import bounds
from flow.schedule.platform_file import load_platform
from flow.schedule.policies import find_policy
from flow.schedule.studies import table_of
from flow.schedule.variants import Clocked, on_fixed, read_artifact
from flow.schedule_plan import SchedulePlan, ScheduleRequest
from tests.cli.support import mlp

PYNQ = {
    "p_deep_mw": "100",
    "fabric.gated.power_mw": "100",
    "fabric.gated.exit_us": "50000",
    "fabric.gated.residency_us": "200000",
    "active_mw": "150",
}
TILE = {"p_awake_mw": "10", "p_deep_mw": "5", "tile.idle_mw": "1"}
OPTIONS = {
    "rtl": {"clock_mhz": "100"},
    "hls4ml": {},
    "analog": {"device": "pcm"},
    "ideal": {"device": "ideal"},
    "tflite": {"exact": "proven"},
}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One small network by target, from a file, so that nothing is trained."""
    runs = tmp_path_factory.mktemp("runs")
    path = mlp().save(runs / "small.onnx")
    for name, options in OPTIONS.items():
        target = "analog" if name == "ideal" else name
        made = compile_model(Request(str(path), target, options, runs / name, runs), Events())
        assert made.agreement.matches
    return {name: runs / name for name in OPTIONS}


def plan(
    folder: Path, platform: str, artifacts: list[Path], options: dict[str, str]
) -> SchedulePlan:
    """What the command makes of variants whose accuracies were typed in."""
    rows = [
        f'[[variants]]\nmodel = "m"\nartifact = "{path}"\naccuracy = {90 + place}\n'
        f'method = "measured"\nsource = "a test"\n'
        for place, path in enumerate(artifacts)
    ]
    (folder / "v.toml").write_text("\n".join(rows))
    trace = "poisson:mean_ms=5,n=300,deadline_ms=20"
    return SchedulePlan(
        ScheduleRequest(platform, trace, str(folder / "v.toml"), options, runs=folder), Events()
    )


def served(made: SchedulePlan) -> None:
    """Every policy that is not for frequencies serves all in time."""
    table = table_of(made.platform, made.known, made.trace.models)
    found = bounds(made.trace, table, made.platform, 1000.0)
    assert found.lower_mj <= found.upper_mj
    for name in ("performance", "predictive", "gated"):
        outcome = simulate(find_policy(name), made.trace, table, made.platform)
        assert outcome.misses == 0 and outcome.energy_mj >= found.lower_mj > 0


def metric(artifact: Path, name: str, unit: str) -> float:
    told = read_run(artifact).told.metrics
    (found,) = (metric for metric in told if (metric.name, metric.unit) == (name, unit))
    return found.value


def test_designs_for_fpgas_are_variants_of_a_board(
    compiled: dict[str, Path], tmp_path: Path
) -> None:
    """rtl tells its time at the clock that is meant, hls4ml cycles of its own; both take the next
    input of a batch sooner. Energy is what the design adds to its board."""
    made = plan(tmp_path, "pynq-z2", [compiled["rtl"], compiled["hls4ml"]], PYNQ)
    rtl, hls = (known.to_json() for known in made.known)
    ms = metric(compiled["rtl"], "latency_cycles", "cycles") / 100e3
    assert rtl["target"] == "rtl" and rtl["latency"]["value"] == pytest.approx(ms)
    assert rtl["latency"]["kind"] == "assumed" and "1e-05 ms each" in rtl["latency"]["source"]
    ms = metric(compiled["hls4ml"], "latency", "cycles") * 10e-6
    assert hls["latency"]["value"] == pytest.approx(ms)
    assert hls["latency"]["kind"] == "estimated" and hls["latency"]["interval"]["high"] > ms
    assert "clock_ns=10" in hls["latency"]["source"]
    for each in (rtl, hls):
        assert each["energy"]["kind"] == "assumed"
        assert each["energy"]["value"] == pytest.approx(0.150 * each["latency"]["value"])
    served(made)


def test_an_estimated_tile_is_a_platform(compiled: dict[str, Path], tmp_path: Path) -> None:
    """Time and energy are the estimate's own."""
    made = plan(tmp_path, "analog-tile", [compiled["analog"]], TILE)
    (tile,) = (known.to_json() for known in made.known)
    assert tile["latency"]["value"] == metric(compiled["analog"], "latency", "ns") * 1e-6
    assert tile["energy"]["value"] == metric(compiled["analog"], "energy", "pJ") * 1e-9
    assert tile["energy"]["kind"] in ("estimated", "assumed")
    served(made)


@pytest.mark.parametrize(
    ("target", "platform", "options", "message"),
    [
        ("rtl", "analog-tile", TILE, "no cluster of kind fpga for what was compiled for rtl"),
        ("analog", "pynq-z2", PYNQ, "no cluster of kind analog_tile"),
        ("tflite", "pynq-z2", PYNQ, "tells no speeds of programs"),
        ("hls4ml", "pynq-z2", {**PYNQ, "active_mw": "-1"}, "set OPTS active_mw=… "),
    ],
)
def test_what_cannot_run_there_is_refused(
    compiled: dict[str, Path], tmp_path: Path,
    target: str, platform: str, options: dict[str, str], message: str,
) -> None:  # fmt: skip
    with pytest.raises(UsageError, match=message):
        assert plan(tmp_path, platform, [compiled[target]], options).known


def test_a_design_for_another_part_is_refused(compiled: dict[str, Path]) -> None:
    numbers = {name: float(text) for name, text in PYNQ.items() if name != "active_mw"}
    board = load_platform("pynq-z2", numbers)
    rated = Metric("accuracy", 90, "%", Kind.MEASURED, "a test")
    artifact = read_artifact(compiled["rtl"], rated)
    for part in ("", "xc7z020", "xc7z020clg400-1"):
        assert on_fixed(artifact, "m", board, 150.0, Clocked(part)).latency.value > 0
    with pytest.raises(UsageError, match="made for xcku5p, and fabric of pynq-z2 is of xc7z020"):
        on_fixed(artifact, "m", board, 150.0, Clocked("xcku5p"))


def test_an_estimate_without_energy_is_refused(compiled: dict[str, Path], tmp_path: Path) -> None:
    """The ideal device has no numbers for what its parts take."""
    with pytest.raises(UsageError, match="its report has no latency in ns, us, ms, s"):
        assert plan(tmp_path, "analog-tile", [compiled["ideal"]], TILE).known


def test_an_accuracy_that_was_typed_needs_its_source(
    compiled: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "v.toml").write_text(
        f'[[variants]]\nmodel = "m"\nartifact = "{compiled["tflite"]}"\naccuracy = 90\n'
    )
    given = {"p_awake_mw": "1", "p_deep_mw": "1"}
    request = ScheduleRequest("host", "poisson:deadline_ms=5", str(tmp_path / "v.toml"), given)
    with pytest.raises(UsageError, match=r"variants\[0\].method must be given"):
        SchedulePlan(request, Events())
