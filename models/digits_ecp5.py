"""Digits at a higher accuracy than `digits_hx8k`, for an ECP5-25k: the same network, wider.
`make bench SUITE=rtl` measures what it takes and gives."""

import dataclasses

from flow.qat.recipe import Conv
from models.digits_hx8k import RECIPE as SMALL

RECIPE = dataclasses.replace(
    SMALL,
    name="digits_ecp5",
    layers=(Conv("conv", 16, kernel=3, stride=2, padding=1), *SMALL.layers[1:]),
)
