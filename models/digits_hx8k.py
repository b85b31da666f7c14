"""Digits on the smallest of FPGAs: one convolution and a dense layer that fit an iCE40 HX8K, the
byte stream's module included. `make bench SUITE=rtl` measures what they take and give.

Ternary weights, inputs of 2 bits and activations of 3. A scale for each channel, and of any value,
costs nothing in such hardware: what requantizes an accumulator of ten bits or less is its few
steps. A network this small learns more from larger ones, three of which answer nearly every digit,
than from labels. The 140 digits of the validation split do not tell its last epochs apart.
"""

from flow.qat.formats import ActRounding, Rule
from flow.qat.recipe import Conv, Dense, Flatten, Granularity, Keep, Recipe, Scale, Teacher

RECIPE = Recipe(
    name="digits_hx8k",
    data="digits",
    input_shape=(1, 8, 8),
    layers=(
        Conv("conv", 10, kernel=3, stride=2, padding=1),
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
    keep=Keep.LAST,
    teacher=Teacher(
        layers=(
            Conv("wide", 32, kernel=3, padding=1),
            Conv("wider", 48, kernel=3, stride=2, padding=1),
            Flatten("flatten"),
            Dense("hidden", 96),
            Dense("fc", 10),
        ),
        float_epochs=120,
        networks=3,
    ),
)
