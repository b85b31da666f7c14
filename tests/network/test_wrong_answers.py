"""What others get wrong in silence is exact here, or refused with a reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from flow.driver import compile_model
from flow.plan import Events, Request
from tests.network.wrong_answers import FILES


@pytest.mark.parametrize("what", FILES)
def test_the_wrong_answer_list_is_exact_here(tmp_path: Path, what: str) -> None:
    """All of them compile; the compile itself compares with the float64 oracle and simulates."""
    path = FILES[what](tmp_path / "net.onnx")
    report = compile_model(Request(str(path), "hls4ml", {}, tmp_path / "a", tmp_path), Events())
    assert report.agreement.matches
    assert report.agreement.outputs >= 4_000
