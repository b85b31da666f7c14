"""Two convolutions, max-pool and a dense layer for 8x8 digits."""

from flow.qat.recipe import Conv, Dense, Flatten, MaxPool, Recipe

RECIPE = Recipe(
    name="digits_cnn",
    data="digits",
    input_shape=(1, 8, 8),
    layers=(
        Conv("conv1", 8, kernel=3, padding=1),
        Conv("conv2", 16, kernel=3, padding=1),
        MaxPool("pool", 2),
        Flatten("flatten"),
        Dense("fc", 10),
    ),
    augment=0.5,
)
