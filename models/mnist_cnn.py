"""Two convolutions with max-pools and two dense layers for MNIST's 28x28 digits."""

from flow.qat.recipe import Conv, Dense, Flatten, MaxPool, Recipe

RECIPE = Recipe(
    name="mnist_cnn",
    data="mnist",
    input_shape=(1, 28, 28),
    layers=(
        Conv("conv1", 8, kernel=3, stride=2),
        Conv("conv2", 16, kernel=3, padding=1),
        MaxPool("pool1", 2),
        Conv("conv3", 24, kernel=3, padding=1),
        MaxPool("pool2", 2),
        Flatten("flatten"),
        Dense("fc1", 48),
        Dense("fc2", 10),
    ),
    act_bits=4,
    float_epochs=8,
    epochs=8,
    batch_size=128,
)
