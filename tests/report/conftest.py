"""Artifacts that are made once for the tests of reports."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from flow.driver import compile_model
from flow.plan import Events, Request
from tests.cli.support import mlp


@dataclass(frozen=True)
class Compiled:
    """The small network for both targets; not to be changed."""

    hls4ml: Path
    tflite: Path


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    folder = tmp_path_factory.mktemp("compiled")
    path = mlp().save(folder / "small.onnx")
    made = [
        compile_model(Request(str(path), target, options, runs=folder), Events()).artifact
        for target, options in (("hls4ml", {"io_type": "io_stream"}), ("tflite", {}))
    ]
    assert made[0] is not None and made[1] is not None
    return Compiled(made[0], made[1])
