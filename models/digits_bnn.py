"""Three convolutions and two dense layers for 8x8 digits; all hidden ones have binary weights and
activations (XNOR-Net), the first and the last layer have 8-bit weights."""

from flow.qat.formats import Format
from flow.qat.recipe import Conv, Dense, Flatten, MaxPool, Recipe

RECIPE = Recipe(
    name="digits_bnn",
    data="digits",
    input_shape=(1, 8, 8),
    layers=(
        Conv("conv1", 16, kernel=3, padding=1),
        Conv("conv2", 16, kernel=3, padding=1),
        MaxPool("pool1", 2),
        Conv("conv3", 32, kernel=3, padding=1),
        MaxPool("pool2", 2),
        Flatten("flatten"),
        Dense("fc1", 64),
        Dense("fc2", 10),
    ),
    weight_bits=8,
    weight_format=Format.BINARY,
    act_format=Format.BINARY,
    overrides=(
        ("conv1", "weight_format", Format.INTEGER),
        ("fc2", "weight_format", Format.INTEGER),
    ),
    augment=0.5,
)
