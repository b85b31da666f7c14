"""MLPerf Tiny's autoencoder on small recordings of a machine: trained to give its input again, and
rated by how well its errors tell anomalous recordings, through the .tflite file."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from sklearn.metrics import roc_auc_score

from flow import pareto
from flow.cli import main
from flow.driver import NOT_RATED, check_model, compile_model, run_artifact
from flow.errors import UsageError
from flow.features_snippet import FrontEnd
from flow.host_snippet import Host
from flow.plan import Events, Request
from flow.report import compare
from flow.report.run import Run, read_run
from flow.report.runs import Found, page
from flow.report.text import render
from models import MODELS
from tests.qat.support import quantizers
from tests.qat.test_machines import write_machines
from tests.qat.test_sound import write_wav

SHORT = {"float_epochs": "2", "epochs": "1", "batch_size": "64"}
FILES = 16  # for testing, 8 of each kind
WINDOWS = 196


@dataclasses.dataclass(frozen=True)
class Cars:
    """Recordings in `sounds`; in `artifact` what was trained on them, and how `check` rated it."""

    folder: Path
    check: str
    auc: dict[str, float]

    @property
    def artifact(self) -> Path:
        return self.folder / "artifact"

    def request(self, data: Path | None = None) -> Request:
        out, runs = self.artifact, self.folder / "runs"
        return Request("ad_autoencoder", "tflite", SHORT, out, runs, data)


@pytest.fixture(scope="module")
def cars(tmp_path_factory: pytest.TempPathFactory) -> Cars:
    folder = tmp_path_factory.mktemp("cars")
    cars = Cars(folder, "", {})
    compiled = compile_model(cars.request(write_machines(folder / "sounds")), Events())
    assert compiled.agreement.matches
    assert list(compiled.auc) == ["float", "quantized", "integer"]
    assert NOT_RATED in compiled.warnings
    checked = check_model(cars.request(), None, Events())
    assert checked.up_to_date and checked.agreement.matches
    assert checked.agreement.vectors == FILES * WINDOWS
    assert not checked.accuracy and not checked.confusion
    assert NOT_RATED not in checked.warnings
    auc = {stage: metric.value for stage, metric in checked.auc.items()}
    assert {k: m.value for k, m in compiled.auc.items()}.items() <= auc.items()
    return Cars(folder, render(checked), auc)


def test_anomalies_have_larger_errors_at_every_stage(cars: Cars) -> None:
    assert list(cars.auc) == ["float", "quantized", "integer", "simulation"]
    assert 0.7 < min(cars.auc.values()) <= max(cars.auc.values()) < 1
    assert cars.auc["quantized"] == cars.auc["integer"] == cars.auc["simulation"]
    for metric in read_run(cars.artifact).report.auc.values():
        around = metric.interval
        assert around is not None and around.low < metric.value < around.high
        assert metric.source == "8 anomalous against 8 normal recordings"


def test_the_auc_is_that_of_the_file_s_own_numbers(cars: Cars) -> None:
    """Once more from the recordings: features, the file's constants, training's float64 outputs."""
    (folder,) = (cars.folder / "runs" / "models").glob("ad_autoencoder-*")
    front_end = FrontEnd.load(cars.artifact / "host.json")
    files = sorted((cars.folder / "sounds" / "test").glob("*3.wav"))
    x = np.concatenate([front_end.wav(path) for path in files]).reshape(-1, 640)
    with np.load(folder / "reference.npz") as arrays:
        assert np.array_equal(arrays["x"], x)
        assert np.array_equal(arrays["recordings"], np.repeat(np.arange(FILES), WINDOWS))
        y = arrays["y"]
    graph = onnx.load(folder / "model.onnx").graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    mean, gain = [constants[n.input[1]] for n in graph.node if n.op_type in ("Sub", "Mul")]
    scale = quantizers(folder / "model.onnx")["input.act_quant"]["scale"]
    given = np.clip(np.rint((x - mean) * gain / scale), -128, 127) * scale.astype(np.float64)
    errors = ((y - given) ** 2).mean(axis=1).reshape(FILES, WINDOWS).mean(axis=1)
    anomalous = [path.name.startswith("anomaly") for path in files]
    assert cars.auc["quantized"] == pytest.approx(roc_auc_score(anomalous, errors), abs=1e-12)


def test_what_is_no_anomaly_is_not_told(cars: Cars, tmp_path: Path) -> None:
    """The negative control: normal recordings in two halves, of which one is called anomalous."""
    front_end = FrontEnd.load(cars.artifact / "host.json")
    files = sorted((cars.folder / "sounds" / "test").glob("normal*3.wav"))
    x = np.concatenate([front_end.wav(path)[::3] for path in files]).reshape(-1, 640)
    np.savez(tmp_path / "control.npz", x=x, y=np.arange(len(x)) % 2)
    report = check_model(cars.request(), tmp_path / "control.npz", Events())
    assert list(report.auc) == ["integer", "simulation"]
    around = report.auc["simulation"].interval
    assert around is not None and around.low < 0.5 < around.high
    assert 0.4 < report.auc["simulation"].value < 0.6


@pytest.mark.parametrize("labels", [(0, 0), (1, 1), (0, 2)])
def test_data_without_both_kinds_are_refused(
    cars: Cars, tmp_path: Path, labels: tuple[int, int]
) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 640), np.float32), y=np.array(labels))
    with pytest.raises(UsageError, match=r"0 \(normal\) and 1 \(anomalous\), some of each"):
        check_model(cars.request(), tmp_path / "x.npz", Events())


def test_reports_call_it_auc_and_never_accuracy(cars: Cars) -> None:
    assert "\nAUC\n" in cars.check and "accuracy" not in cars.check.lower()
    page = (cars.artifact / "report.html").read_text()
    assert '<h2 id="h-accuracy">AUC</h2>' in page and ">accuracy<" not in page
    assert '"title":"AUC"' in page.replace(" ", "")
    lines = (cars.artifact / "report.md").read_text().splitlines()
    assert "## AUC" in lines and "| stage | AUC | source |" in lines
    (row,) = [line for line in lines if line.startswith("| integer ")]
    assert f"| {cars.auc['integer']:.4f} \\[0." in row
    body = json.loads((cars.artifact / "report.json").read_text())
    assert body["accuracy"] == {} and not body["confusion"]
    assert body["auc"]["integer"]["name"] == "AUC integer"
    assert body["auc"]["integer"]["value"] == cars.auc["integer"]


def changed(run: Run, by: float) -> Run:
    moved = {
        stage: dataclasses.replace(metric, value=metric.value + by, interval=None)
        for stage, metric in run.report.auc.items()
    }
    return dataclasses.replace(run, report=dataclasses.replace(run.report, auc=moved))


def test_two_runs_are_compared_by_it(cars: Cars) -> None:
    run = read_run(cars.artifact)
    one, worse = changed(run, 0), changed(run, -0.05)
    assert compare.verdict(one, one) == "nothing tells them apart: the same AUC"
    assert compare.verdict(one, worse) == "A is better: -0.0500 of AUC"
    shown = compare.text(one, worse)
    assert "AUC integer" in shown and "accuracy" not in shown
    for limit, crosses in (("auc<-0.04", True), ("auc<-0.06", False), ("auc_float<0.1", False)):
        limits = compare.read_limits(limit)
        if crosses:
            with pytest.raises(compare.LimitCrossed, match="AUC integer"):
                compare.check(limits, one, worse)
        else:
            compare.check(limits, one, worse)
    with pytest.raises(UsageError, match=r"'accuracy'.*auc"):
        compare.check(compare.read_limits("accuracy<-1"), one, worse)


def test_the_index_of_runs_says_what_it_is(cars: Cars) -> None:
    found = Found(cars.artifact, 0.0, read_run(cars.artifact))
    shown = f"AUC {cars.auc['integer']:.4f} [0."
    assert found.summary.startswith(shown)
    index = page([found], cars.folder, "All runs", newest_first=True)
    assert f">{shown}" in index and ">AUC</button>" in index


def test_a_recording_s_error_is_told_where_it_is_run(
    cars: Cars, capsys: pytest.CaptureFixture[str]
) -> None:
    sound = cars.folder / "sounds" / "test" / "normal_id_01_00000013.wav"
    arguments = ["run", "--artifact", str(cars.artifact), "--input", str(sound)]
    assert main([*arguments, "--json"]) == 0
    body = json.loads(capsys.readouterr().out.splitlines()[-1])
    host = Host.load(cars.artifact / "host.json")
    x = FrontEnd.load(cars.artifact / "host.json").wav(sound).reshape(-1, 640)
    errors = host.errors(host.quantize(x), np.array(body["outputs"]))
    assert errors.shape == (WINDOWS,) and body["errors"] == errors.tolist()
    assert body["error"] == errors.mean() and "argmax" not in body
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert f"mean squared error of 196 reconstructed inputs: {errors.mean():.6g}\n" in said
    assert "argmax" not in said


def test_too_short_a_recording_is_refused(cars: Cars, tmp_path: Path) -> None:
    sound = write_wav(tmp_path / "short.wav", np.ones(99_999, np.int16), rate=16000)
    with pytest.raises(UsageError, match="128000 samples or more: 28001 are missing"):
        run_artifact(cars.artifact, sound)


def test_errors_are_mean_squares_and_only_of_such_networks() -> None:
    part = {"shape": [2], "scale": 0.5, "zero_point": 3}
    output = {"scale": ["1/4"], "offset": ["0"], "low": None, "high": None}
    host = Host({"reconstructs": True, "input": part, "output": output})
    codes, outputs = np.array([[3, 5], [1, 3]]), np.array([[4, 4], [-4, 0]])
    assert host.errors(codes, outputs).tolist() == [0.5, 0.0]
    with pytest.raises(ValueError, match="not its inputs"):
        Host({"input": part, "output": output}).errors(codes, outputs)


def test_bits_are_not_searched_by_an_accuracy_that_is_not_there(tmp_path: Path) -> None:
    search = pareto.Search("ad_autoencoder")
    with pytest.raises(UsageError, match="ad_autoencoder has no classes"):
        pareto.search(search, None, tmp_path, tmp_path, Events())
    assert not list(tmp_path.iterdir())


def test_an_output_of_another_shape_than_the_input_is_refused() -> None:
    recipe = MODELS["ad_autoencoder"]()
    with pytest.raises(UsageError, match=r"input's shape \(640,\)"):
        dataclasses.replace(recipe, layers=recipe.layers[:-1])
