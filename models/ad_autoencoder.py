"""MLPerf Tiny's anomaly detector (Banbury et al., arXiv:2106.07597): an autoencoder of five frames
of 128 log mel energies of a machine's sound, as the baseline of DCASE 2020's task 2."""

from flow.features_snippet import FrontEnd
from flow.qat.formats import Granularity
from flow.qat.recipe import Dense, Recipe

RECIPE = Recipe(
    name="ad_autoencoder",
    data="machines",
    input_shape=(640,),
    layers=(
        Dense("enc1", 128),
        Dense("enc2", 128),
        Dense("enc3", 128),
        Dense("enc4", 128),
        Dense("code", 8),
        Dense("dec1", 128),
        Dense("dec2", 128),
        Dense("dec3", 128),
        Dense("dec4", 128),
        Dense("out", 640),
    ),
    weight_bits=8,
    act_bits=8,
    granularity=Granularity.CHANNEL,
    float_epochs=30,
    epochs=10,
    batch_size=512,
    standardize=True,
    front_end=FrontEnd(
        rate=16000,
        samples=199 * 512 + 1024,  # frames 50 to 249 of those centred on every 512th sample
        window=1024,
        hop=512,
        points=1024,
        filters=128,
        low=0.0,
        high=8000.0,
        floor=1e-7,
        coefficients=0,
        stack=5,
        scale="slaney",
        skip=50 * 512 - 512,
        fill=False,
    ),
)
