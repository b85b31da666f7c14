"""MLPerf Tiny's image classifier (Banbury et al., arXiv:2106.07597): a residual network of eight
layers with weights on the longest path, for CIFAR-10's 32x32 images."""

from flow.qat.formats import Granularity
from flow.qat.recipe import Add, Conv, Dense, GlobalPool, Recipe

RECIPE = Recipe(
    name="ic_resnet8",
    data="cifar10",
    input_shape=(3, 32, 32),
    layers=(
        Conv("conv", 16, kernel=3, padding=1),
        Conv("conv1a", 16, kernel=3, padding=1),
        Conv("conv1b", 16, kernel=3, padding=1, relu=False),
        Add("add1", other="conv"),
        Conv("conv2a", 32, kernel=3, stride=2, padding=1),
        Conv("conv2b", 32, kernel=3, padding=1, relu=False),
        Conv("short2", 32, kernel=1, stride=2, relu=False, source="add1"),
        Add("add2", other="conv2b"),
        Conv("conv3a", 64, kernel=3, stride=2, padding=1),
        Conv("conv3b", 64, kernel=3, padding=1, relu=False),
        Conv("short3", 64, kernel=1, stride=2, relu=False, source="add2"),
        Add("add3", other="conv3b"),
        GlobalPool("pool"),
        Dense("fc", 10),
    ),
    weight_bits=8,
    act_bits=8,
    granularity=Granularity.CHANNEL,
    overrides=(("conv", "act_bits", 7),),  # added to signed codes: int8 holds both
    float_epochs=40,
    epochs=10,
    batch_size=128,
    augment=1.0,
)
