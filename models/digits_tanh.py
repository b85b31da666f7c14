"""A 64-32-32-10 multi-layer perceptron of tanh for 8x8 digits, for ADCs that are the function."""

from flow.qat.formats import Activation
from flow.qat.recipe import Dense, Recipe

RECIPE = Recipe(
    name="digits_tanh",
    data="digits",
    input_shape=(64,),
    layers=(Dense("fc1", 32), Dense("fc2", 32), Dense("fc3", 10)),
    activation=Activation.TANH,
    input_bits=5,  # the images' 17 levels; a table is of fewer sums for it
    act_bits=8,
    augment=0.5,
    float_epochs=40,
    epochs=40,
)
