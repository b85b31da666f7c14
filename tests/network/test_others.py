"""Networks that other people trained and exported, where their files are at hand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flow.driver import check_model, compile_model
from flow.errors import Unsupported
from flow.plan import Events, Request

DATA = Path(os.environ.get("BITWRIGHT_DATA", "../shared/data"))


def network(name: str) -> str:
    """The file, or a skip that says how to get it."""
    path = DATA / "onnx" / name
    if not path.is_file():
        pytest.skip(f"{path} is not there; set BITWRIGHT_DATA to a folder with onnx/{name}")
    return str(path)


def test_a_brevitas_network_keeps_its_accuracy(tmp_path: Path) -> None:
    """TFC_2W2A: shape arithmetic, normalisation before the first quantizer, unfused BatchNorm, a
    float tail; 10,000 MNIST images through C simulation."""
    model = network("TFC_2W2A.onnx")
    if not (DATA / "mnist").is_dir():
        pytest.skip(f"{DATA / 'mnist'} is not there; set BITWRIGHT_DATA to a folder with mnist/")
    options = {"strategy": "resource", "reuse_factor": "64"}
    request = Request(model, "hls4ml", options, tmp_path / "artifact", tmp_path)
    report = check_model(request, DATA / "mnist", Events())
    assert report.agreement.matches
    assert report.agreement.vectors == 10_000
    assert report.accuracy["simulation"].value >= 0.964


def test_a_qkeras_network_with_a_float_input(tmp_path: Path) -> None:
    """The jet tagger: a coarse bias grid, a softmax for the host, an input that we must name."""
    model = network("qkeras_jettagging.onnx")
    with pytest.raises(Unsupported, match="input=fixed<8,3>"):
        compile_model(Request(model, "hls4ml", {}, tmp_path / "a", tmp_path), Events())
    options = {"input": "fixed<16,6>"}
    report = compile_model(Request(model, "hls4ml", options, tmp_path / "b", tmp_path), Events())
    assert report.agreement.matches
    assert report.agreement.outputs == 5 * report.agreement.vectors


def test_a_float_network_is_told_what_to_do(tmp_path: Path) -> None:
    model = network("conv2d_small_keras.onnx")
    with pytest.raises(Unsupported, match="train with quantized weights"):
        compile_model(Request(model, "hls4ml", {}, tmp_path / "a", tmp_path), Events())
