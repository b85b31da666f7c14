"""Three convolutions and two dense layers for MNIST's 28x28 digits; all hidden ones have binary
weights and activations (XNOR-Net), the first and the last layer have 8-bit weights."""

from flow.qat.formats import Format
from flow.qat.recipe import Conv, Dense, Flatten, MaxPool, Recipe

RECIPE = Recipe(
    name="mnist_bnn",
    data="mnist",
    input_shape=(1, 28, 28),
    layers=(
        Conv("conv1", 16, kernel=3, stride=2),
        Conv("conv2", 24, kernel=3, padding=1),
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
    float_epochs=2,
    epochs=4,
    batch_size=128,
    overrides=(
        ("conv1", "weight_format", Format.INTEGER),
        ("fc2", "weight_format", Format.INTEGER),
    ),
)
