"""The 16-64-32-32-5 jet tagger of hls4ml's first paper (Duarte et al., arXiv:1804.06913)."""

from flow.qat.recipe import Dense, Recipe

RECIPE = Recipe(
    name="jet_mlp",
    data="jets",
    input_shape=(16,),
    layers=(Dense("fc1", 64), Dense("fc2", 32), Dense("fc3", 32), Dense("fc4", 5)),
    weight_bits=6,
    act_bits=6,
    float_epochs=8,
    epochs=8,
    batch_size=1024,
    standardize=True,
)
