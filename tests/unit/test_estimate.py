"""Estimates before any training: of every model, for every target at once, and what is not told."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from flow.errors import UsageError
from flow.estimate import estimate
from flow.metric import Fit, Kind
from flow.plan import Request
from models import MODELS
from targets import TARGETS
from tests.network.nets import Net


def net(folder: Path, bits: int = 4) -> Path:
    """2 inputs, 2 outputs."""
    made = Net((2,))
    weight = made.quant(made.constant([[0.5, 0.25], [0.75, -0.25]]), 0.25, 4)
    last = made.node("Gemm", [made.quant("x", 0.25, bits), weight], "fc", transB=1)
    return made.save(folder / "net.onnx", last)


FAMILIES = ("ice40", "ecp5", "xc7", "xcup")


@pytest.mark.parametrize("name", MODELS)
def test_every_model_for_all_targets_at_once(name: str) -> None:
    estimate(Request(name, ""))  # loads the fitted files
    begun = time.process_time()
    found = estimate(Request(name, ""))
    assert time.process_time() - begun < 0.3
    assert list(found.targets) == list(TARGETS)
    assert not found.shared.unknown
    assert found.to_json()["targets"]["hls4ml"]["metrics"]
    for line in (f"{name}, estimated from declared shapes and bits", "on rtl", "macs"):
        assert line in str(found)


def test_a_file_is_told_from_its_weights(tmp_path: Path) -> None:
    found = estimate(Request(str(net(tmp_path)), ""))
    assert found.of == "the file's weights"
    rtl = {metric.name: metric for metric in found.targets["rtl"].metrics}
    assert rtl["latency_cycles"].kind is Kind.MEASURED
    counts = {f"{count} on {family}" for count in ("lut", "ff") for family in FAMILIES}
    untold = found.targets["rtl"].unknown  # those, until labels are fitted; never left out
    assert counts == (set(untold) | set(rtl)) & counts and set(untold) <= counts
    shared = {metric.name: metric for metric in found.shared.metrics}
    # 2 and 1; 3 as 4 - 1, and -1: five digits, and two sums of them.
    assert shared["signed digits"].value == 5
    assert shared["signed digits"].kind is Kind.MEASURED


def test_what_a_target_cannot_do_is_said(tmp_path: Path) -> None:
    request = Request(str(net(tmp_path)), "rtl", {"max_products": "1"})
    told = estimate(request).targets["rtl"]
    assert told.metrics == ()
    assert told.unknown["every figure"].startswith(
        "unsupported: the network unrolled is 4 products"
    )
    assert "unknown" in str(estimate(request))


def test_whether_it_fits_a_part(tmp_path: Path) -> None:
    request = Request(str(net(tmp_path)), "rtl", {"part": "xc7z020"})
    told = estimate(request).targets["rtl"]
    assert told.verdict is not None and told.verdict.fit is Fit.FITS
    assert "both Yosys and Vivado" in told.unknown["lut by Vivado"]
    shown = str(estimate(request))
    assert "  on xc7z020               fits  " in shown
    assert estimate(request).to_json()["targets"]["rtl"]["fit"]["fit"] == "fits"
    untold = estimate(Request("digits_mlp", "rtl", {"part": "hx8k"})).targets["rtl"]
    assert untold.verdict is not None and untold.verdict.fit is Fit.MAY_NOT
    assert "depend on the weights" in untold.verdict.why


def test_wrong_names_are_refused() -> None:
    with pytest.raises(UsageError, match=r"unknown target 'rlt' \(did you mean 'rtl'"):
        estimate(Request("digits_mlp", "rlt"))
    with pytest.raises(UsageError, match="unknown model"):
        estimate(Request("nobody", ""))
    with pytest.raises(UsageError, match="unknown option"):
        estimate(Request("digits_mlp", "", {"reuse_factor": "4"}))  # not every target's


def test_nothing_is_loaded_that_trains() -> None:
    code = (
        "import sys\nfrom flow.cli import main\n"
        "main(['estimate', '--model', 'digits_mlp', '--target', 'hls4ml'])\n"
        "print(sys.modules.keys() & {'torch', 'brevitas', 'sklearn', 'hls4ml', 'da4ml'})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"
