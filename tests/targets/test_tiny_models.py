"""MLPerf Tiny's networks: their shapes, exact through the .tflite file, and the speech network with
its features, from a recording to real scores."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flow import driver, vectors
from flow.driver import compile_model, run_artifact
from flow.errors import UsageError
from flow.features_snippet import FrontEnd
from flow.graph import Graph
from flow.host_snippet import Host
from flow.interp import Interpreter
from flow.plan import Events, Request
from flow.qat import train
from flow.report.result import Report
from flow.report.run import read_run
from models import MODELS
from tests.qat.test_sound import tone, write_fsdd, write_wav

SHORT = {"float_epochs": "12", "epochs": "1", "batch_size": "8"}
# Input, and multiplications of one inference added up by hand: output places x weights of one.
BLOCKS = ((8, 16, 48), (16, 32, 24), (32, 32, 24), (32, 64, 12), (64, 64, 12), (64, 128, 6))
SHAPES = {
    "kws_dscnn": ((1, 49, 10), 25 * 5 * (64 * 40 + 4 * (64 * 9 + 64 * 64)) + 640),
    "ic_resnet8": (
        (3, 32, 32),
        1024 * (3 * 9 * 16 + 2 * 16 * 9 * 16)
        + 256 * (16 * 9 * 32 + 32 * 9 * 32 + 16 * 32)
        + 64 * (32 * 9 * 64 + 64 * 9 * 64 + 32 * 64)
        + 640,
    ),
    "vww_mobilenet": (
        (3, 96, 96),
        48 * 48 * 27 * 8
        + sum(size * size * (taken * 9 + taken * given) for taken, given, size in BLOCKS)
        + 5 * 36 * (128 * 9 + 128 * 128)
        + 9 * (128 * 9 + 128 * 256 + 256 * 9 + 256 * 256)
        + 512,
    ),
    "ad_autoencoder": ((640,), 2 * (640 * 128 + 3 * 128 * 128 + 128 * 8)),
}


def check_shape(artifact: Path, report: Report) -> None:
    """Its graph and its report have the network's input and size."""
    shape, macs = SHAPES[report.model]
    graph = Graph.from_json((artifact / "graph.json").read_text())
    assert graph.input.shape == shape
    assert {m.name: m.value for m in report.metrics}["macs"] == macs


@pytest.mark.parametrize("name", ["ic_resnet8", "vww_mobilenet", "ad_autoencoder"])
def test_untrained_networks_are_exact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """At full size, on few vectors."""
    monkeypatch.setattr(train, "RANDOM_SAMPLES", (20, 4))
    monkeypatch.setattr(vectors, "RANDOM", 4)
    monkeypatch.setattr(driver, "ORACLE_VECTORS", 4)
    options = {"untrained": "true"}
    report = compile_model(Request(name, "tflite", options, tmp_path / "out", tmp_path), Events())
    assert report.agreement.matches
    assert report.agreement.vectors == 13
    assert not report.accuracy
    assert any("untrained" in warning for warning in report.warnings)
    check_shape(tmp_path / "out", report)


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with small recordings in `sounds`, and in `artifact` what was trained on them."""
    folder = tmp_path_factory.mktemp("speech")
    sounds = write_fsdd(folder / "sounds")
    request = Request("kws_dscnn", "tflite", SHORT, folder / "artifact", folder / "runs", sounds)
    report = compile_model(request, Events())
    assert report.agreement.matches
    assert report.accuracy["integer"].value == report.accuracy["quantized"].value
    assert report.accuracy["float"].value > 0.5  # one tone a digit, after some fifty steps
    check_shape(folder / "artifact", report)
    return folder


def test_the_artifact_hears_as_its_training_did(speech: Path, tmp_path: Path) -> None:
    """Copied to where nothing knows of bitwright: a recording's features are the training's own,
    bit for bit, and its scores those of the integer network."""
    elsewhere = shutil.copytree(speech / "artifact", tmp_path / "elsewhere")
    (reference,) = (speech / "runs" / "models").glob("kws_dscnn-*/reference.npz")
    with np.load(reference) as arrays:
        x = arrays["x"]
    names = sorted(p.name for p in (speech / "sounds").iterdir() if int(p.stem.split("_")[2]) < 5)
    assert len(names) == len(x) == 100
    code = (
        "import sys, numpy as np; from features import FrontEnd; from run_tflite import Network\n"
        "front_end, network = FrontEnd.load('host.json'), Network('model.tflite')\n"
        "x = np.concatenate([front_end.wav(p) for p in sys.argv[1:]])\n"
        "y = np.concatenate([network.wav(p) for p in sys.argv[1:]])\n"
        "np.savez('made.npz', x=x, y=y)"
    )
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    paths = [str(speech / "sounds" / name) for name in names]
    command = [sys.executable, "-c", code, *paths]
    done = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    host = Host.load(elsewhere / "host.json")
    graph = Graph.from_json((elsewhere / "graph.json").read_text())
    with np.load(elsewhere / "made.npz") as made:
        assert made["x"].tobytes() == x.tobytes()
        wanted = host.dequantize(Interpreter(graph).run(host.quantize(x)))
        assert np.array_equal(made["y"], wanted)
    command = [sys.executable, "features.py", "host.json", paths[0], "x.npy"]
    subprocess.run(command, cwd=elsewhere, env=environment, check=True)
    assert np.array_equal(np.load(elsewhere / "x.npy")[0], x[0, 0])


def test_the_file_s_labels_are_the_digits(speech: Path) -> None:
    with zipfile.ZipFile(speech / "artifact" / "model.tflite") as archive:
        assert archive.read("labels.txt").decode().split() == list("0123456789")
    assert read_run(speech / "artifact").report.classes == tuple("0123456789")


def test_a_recording_is_run_like_an_array(speech: Path, tmp_path: Path) -> None:
    sound = write_wav(tmp_path / "tone.WAV", tone(900, 0.4))
    ran = run_artifact(speech / "artifact", sound)
    settings = json.loads((speech / "artifact" / "host.json").read_text())["features"]
    np.save(tmp_path / "x.npy", FrontEnd(**settings).wav(sound)[:, None])
    assert np.array_equal(ran.real, run_artifact(speech / "artifact", tmp_path / "x.npy").real)
    assert ran.real.shape == (1, 10)


def test_a_recording_that_cannot_be_heard_is_refused(speech: Path, tmp_path: Path) -> None:
    sound = write_wav(tmp_path / "fast.wav", tone(900), rate=16000)
    with pytest.raises(UsageError, match="8000 samples a second"):
        run_artifact(speech / "artifact", sound)


def test_another_front_end_is_another_artifact(speech: Path) -> None:
    """Two models may have one ONNX file, and hear otherwise."""
    from flow.plan import Plan

    recipe = MODELS["kws_dscnn"]()
    assert recipe.front_end is not None
    request = Request("kws_dscnn", "tflite", SHORT, None, speech / "runs", speech / "sounds")
    plan, other = Plan(request, Events()), Plan(request, Events())
    assert plan.recipe is not None
    assert other.file.sha256 == plan.file.sha256
    louder = replace(recipe.front_end, floor=1e-3)
    head = replace(plan.imported.head, front_end=louder)
    other.__dict__["imported"] = replace(plan.imported, head=head)
    assert other.key != plan.key
