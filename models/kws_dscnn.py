"""MLPerf Tiny's keyword spotter (DS-CNN; Banbury et al., arXiv:2106.07597; Zhang et al.,
arXiv:1711.07128) for spoken digits: a second at 8 kHz as 49 frames of 10 cepstral coefficients."""

from flow.features_snippet import FrontEnd
from flow.qat.formats import Granularity
from flow.qat.recipe import Conv, Dense, Depthwise, GlobalPool, Recipe

RECIPE = Recipe(
    name="kws_dscnn",
    data="fsdd",
    input_shape=(1, 49, 10),
    layers=(
        Conv("conv", 64, kernel=(10, 4), stride=2, padding=(5, 1)),
        Depthwise("dw1", kernel=3, padding=1),
        Conv("pw1", 64, kernel=1),
        Depthwise("dw2", kernel=3, padding=1),
        Conv("pw2", 64, kernel=1),
        Depthwise("dw3", kernel=3, padding=1),
        Conv("pw3", 64, kernel=1),
        Depthwise("dw4", kernel=3, padding=1),
        Conv("pw4", 64, kernel=1),
        GlobalPool("pool"),
        Dense("fc", 10),
    ),
    weight_bits=8,
    act_bits=8,
    granularity=Granularity.CHANNEL,
    float_epochs=15,
    epochs=10,
    batch_size=64,
    augment=1.0,
    standardize=True,
    front_end=FrontEnd(
        rate=8000,
        samples=8000,
        window=240,
        hop=160,
        points=256,
        filters=40,
        low=20.0,
        high=4000.0,
        floor=1e-4,
        coefficients=10,
        stack=49,
    ),
)
