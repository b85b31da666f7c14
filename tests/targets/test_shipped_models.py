"""The shipped networks with branches and large images, exact through C simulation."""

from __future__ import annotations

from pathlib import Path

import pytest

from flow.driver import compile_model
from flow.plan import Events, Request

SHORT = {"float_epochs": "2", "epochs": "1"}


@pytest.mark.parametrize(
    "options",
    [
        {"io_type": "io_stream"},
        {"scale": "float", "granularity": "channel", "strategy": "resource"},
    ],
    ids=["stream", "float scales"],
)
def test_a_residual_network_is_exact(tmp_path: Path, options: dict[str, str]) -> None:
    """Both sums add values on different scales; the pool's mean is requantized."""
    request = Request("digits_resnet", "hls4ml", {**SHORT, **options}, tmp_path / "out", tmp_path)
    assert compile_model(request, Events()).agreement.matches


def test_a_network_of_mnist_s_size_is_exact(tmp_path: Path) -> None:
    options = {"untrained": "true", "io_type": "io_stream"}
    request = Request("mnist_cnn", "hls4ml", options, tmp_path / "out", tmp_path)
    assert compile_model(request, Events()).agreement.matches
