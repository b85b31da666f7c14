"""`bitwright float-check`: the network against a float32 runtime, as a user sees it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from flow import float_check, float_tools, packages
from flow.errors import Mismatch, ToolMissing
from flow.plan import Events, Request
from tests.cli.support import bitwright, mlp


def test_a_network_without_differences(tmp_path: Path) -> None:
    mlp().save(tmp_path / "m.onnx")
    done = bitwright("float-check", "--model", "m.onnx", cwd=tmp_path)
    assert done.code == 0
    first, second = done.out.splitlines()
    assert first == "m in float32"
    assert second.startswith("qonnx ")
    assert second.endswith("none of 8,040 values differs (1005 vectors)")
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_the_user_s_samples_come_first(tmp_path: Path) -> None:
    mlp().save(tmp_path / "m.onnx")
    x = np.random.default_rng(0).normal(0, 4, (31, 4))
    np.savez(tmp_path / "d.npz", x=x, y=np.zeros(31, int))
    args = ("--model", "m.onnx", "--data", "d.npz", "--tool", "qonnx", "--json")
    done = bitwright("float-check", *args, cwd=tmp_path)
    found = json.loads(done.out)
    assert found["vectors"] == 31 + 5 + 64 and found["codes"] == 8 * 100
    assert (found["tool"], found["near_ties"], found["command"]) == ("qonnx", 0, "float-check")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--tool", "qonx"), "unknown tool 'qonx'"),
        (("--tool", "onnxruntime"), "does not know Quant"),
        (("--opts", "reuse_factor=2"), "unknown option 'reuse_factor'"),
    ],
)
def test_wrong_use(tmp_path: Path, args: tuple[str, ...], message: str) -> None:
    mlp().save(tmp_path / "m.onnx")
    done = bitwright("float-check", "--model", "m.onnx", *args, cwd=tmp_path)
    assert done.code == 2 and message in done.err and done.out == ""


def test_a_missing_runtime_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "version", lambda name: None)
    request = Request(str(mlp().save(tmp_path / "m.onnx")), "", runs=tmp_path)
    with pytest.raises(ToolMissing, match=r"qonnx is needed .*pip install 'bitwright\[runtimes\]'"):
        float_check.float_check(request, "", Events())
    assert ToolMissing.exit_code == 3


def test_a_difference_is_exit_code_4(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runtime that gets one value of the 70th vector wrong: the user's own number is named."""
    path = mlp().save(tmp_path / "m.onnx")
    true = float_tools.FloatTool.trace
    calls: list[int] = []

    def trace(self: float_tools.FloatTool, codes: np.ndarray) -> float_tools.Values:
        values = true(self, codes)
        if calls:  # the second part of the vectors
            values["relu1_quant_out"][6, 2] += 0.5
        calls.append(len(codes))
        return values

    monkeypatch.setattr(float_tools.FloatTool, "trace", trace)
    with pytest.raises(Mismatch, match=r"vector 70, channel 2: code \d+, the graph \d+") as caught:
        float_check.float_check(Request(str(path), "", runs=tmp_path), "", Events())
    assert "float32 explains 0 (" in str(caught.value)  # powers of two: nothing
    assert Mismatch.exit_code == 4
