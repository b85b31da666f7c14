"""A 64-32-32-10 multi-layer perceptron for 8x8 digits."""

from flow.qat.recipe import Dense, Recipe

RECIPE = Recipe(
    name="digits_mlp",
    data="digits",
    input_shape=(64,),
    layers=(Dense("fc1", 32), Dense("fc2", 32), Dense("fc3", 10)),
    augment=0.5,
)
