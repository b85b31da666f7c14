"""Digits on the smallest of FPGAs: one convolution and a dense layer that fit an iCE40 HX8K, the
byte stream's module included. `make bench SUITE=rtl` measures what they take and give.

Ternary weights, inputs of 2 bits and activations of 3. A scale for each channel, and of any value,
costs nothing in such hardware: what requantizes an accumulator of ten bits or less is its few
steps.
"""

from flow.qat.formats import ActRounding, Rule
from flow.qat.recipe import Conv, Dense, Flatten, Granularity, Recipe, Scale

RECIPE = Recipe(
    name="digits_hx8k",
    data="digits",
    input_shape=(1, 8, 8),
    layers=(
        Conv("conv", 12, kernel=3, stride=2, padding=1),
        Flatten("flatten"),
        Dense("fc", 10),
    ),
    input_bits=2,
    weight_bits=2,
    act_bits=3,
    scale=Scale.FLOAT,
    granularity=Granularity.CHANNEL,
    rounding=ActRounding.FLOOR,
    rule=Rule.DAQ,
    float_epochs=150,
    epochs=200,
    augment=0.5,
)
