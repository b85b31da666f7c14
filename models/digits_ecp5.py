"""Digits at a higher accuracy than `digits_hx8k`, for an ECP5-25k: the same layers, wider, with 3
bits everywhere. `make bench SUITE=rtl` measures what they take and give."""

import dataclasses

from flow.qat.recipe import Conv
from models.digits_hx8k import RECIPE as SMALL

RECIPE = dataclasses.replace(
    SMALL,
    name="digits_ecp5",
    layers=(Conv("conv", 16, kernel=3, stride=2, padding=1), *SMALL.layers[1:]),
    input_bits=3,
    weight_bits=3,
    act_bits=3,
    float_epochs=120,
    epochs=120,
)
