"""MLPerf Tiny's person detector (Banbury et al., arXiv:2106.07597): MobileNetV1 of width 0.25
(Howard et al., arXiv:1704.04861) for 96x96 colour images, with a person or without."""

from flow.qat.formats import Granularity
from flow.qat.recipe import Conv, Dense, Depthwise, GlobalPool, Layer, Recipe

# Output channels and stride of each depthwise-separable block.
_BLOCKS = (
    *((16, 1), (32, 2), (32, 1), (64, 2), (64, 1)),
    *((128, 2), (128, 1), (128, 1), (128, 1), (128, 1), (128, 1)),
    *((256, 2), (256, 1)),
)


def _layers() -> tuple[Layer, ...]:
    found: list[Layer] = [Conv("conv", 8, kernel=3, stride=2, padding=1)]
    for number, (channels, stride) in enumerate(_BLOCKS, start=1):
        found.append(Depthwise(f"dw{number}", kernel=3, stride=stride, padding=1))
        found.append(Conv(f"pw{number}", channels, kernel=1))
    return (*found, GlobalPool("pool"), Dense("fc", 2))


RECIPE = Recipe(
    name="vww_mobilenet",
    data="vww",
    input_shape=(3, 96, 96),
    layers=_layers(),
    weight_bits=8,
    act_bits=8,
    granularity=Granularity.CHANNEL,
    float_epochs=30,
    epochs=10,
    batch_size=64,
    augment=1.0,
)
