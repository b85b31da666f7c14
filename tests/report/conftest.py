"""An artifact that is made once for the tests of reports."""

from __future__ import annotations

from pathlib import Path

import pytest

from flow.driver import compile_model
from flow.plan import Events, Request
from tests.cli.support import mlp


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small network for tflite, which needs no compiler; not to be changed."""
    folder = tmp_path_factory.mktemp("compiled")
    path = mlp().save(folder / "small.onnx")
    request = Request(str(path), "tflite", {"exact": "proven"}, runs=folder)
    made = compile_model(request, Events()).artifact
    assert made is not None
    return made
