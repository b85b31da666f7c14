"""A small residual network for 8x8 digits: both blocks add two values on different scales."""

from flow.qat.recipe import Add, Conv, Dense, GlobalPool, Recipe

RECIPE = Recipe(
    name="digits_resnet",
    data="digits",
    input_shape=(1, 8, 8),
    layers=(
        Conv("conv1", 8, kernel=3, padding=1),
        Conv("conv2", 8, kernel=3, padding=1),
        Conv("conv3", 8, kernel=3, padding=1, relu=False),
        Add("add1", other="conv1"),
        Conv("conv4", 16, kernel=3, stride=2, padding=1),
        Conv("conv5", 16, kernel=3, padding=1, relu=False),
        Conv("shortcut", 16, kernel=1, stride=2, relu=False, source="add1"),
        Add("add2", other="conv5"),
        GlobalPool("pool"),
        Dense("fc", 10),
    ),
    augment=0.5,
)
