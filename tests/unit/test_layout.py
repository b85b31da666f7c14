"""Channels-last layouts, there and back."""

from __future__ import annotations

import numpy as np
import pytest

from flow.layout import Layout


@pytest.mark.parametrize("shape", [(5,), (2, 3), (2, 3, 4)])
def test_channels_last_is_numpy_s_transpose_and_comes_back(shape: tuple[int, ...]) -> None:
    codes = np.arange(2 * int(np.prod(shape))).reshape(2, *shape)
    layout = Layout.channels_last(shape)
    stored = layout.to_device(codes)
    assert np.array_equal(stored, np.moveaxis(codes, 1, -1).reshape(2, -1))
    assert np.array_equal(layout.to_graph(stored), codes)
    assert layout.usual


def test_a_flattened_image_is_not_in_the_usual_layout_of_a_vector() -> None:
    image = Layout.channels_last((2, 2, 2))
    assert not Layout((8,), image.order).usual
