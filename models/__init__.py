"""The models that ship: one visible table from name to a thunk that makes the recipe."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flow.qat.recipe import Recipe


def _ad_autoencoder() -> Recipe:
    from models.ad_autoencoder import RECIPE

    return RECIPE


def _digits_mlp() -> Recipe:
    from models.digits_mlp import RECIPE

    return RECIPE


def _digits_bnn() -> Recipe:
    from models.digits_bnn import RECIPE

    return RECIPE


def _digits_cnn() -> Recipe:
    from models.digits_cnn import RECIPE

    return RECIPE


def _digits_ecp5() -> Recipe:
    from models.digits_ecp5 import RECIPE

    return RECIPE


def _digits_hx8k() -> Recipe:
    from models.digits_hx8k import RECIPE

    return RECIPE


def _digits_resnet() -> Recipe:
    from models.digits_resnet import RECIPE

    return RECIPE


def _digits_tanh() -> Recipe:
    from models.digits_tanh import RECIPE

    return RECIPE


def _ic_resnet8() -> Recipe:
    from models.ic_resnet8 import RECIPE

    return RECIPE


def _jet_mlp() -> Recipe:
    from models.jet_mlp import RECIPE

    return RECIPE


def _kws_dscnn() -> Recipe:
    from models.kws_dscnn import RECIPE

    return RECIPE


def _mnist_bnn() -> Recipe:
    from models.mnist_bnn import RECIPE

    return RECIPE


def _mnist_cnn() -> Recipe:
    from models.mnist_cnn import RECIPE

    return RECIPE


def _vww_mobilenet() -> Recipe:
    from models.vww_mobilenet import RECIPE

    return RECIPE


MODELS: dict[str, Callable[[], Recipe]] = {
    "ad_autoencoder": _ad_autoencoder,
    "digits_bnn": _digits_bnn,
    "digits_cnn": _digits_cnn,
    "digits_ecp5": _digits_ecp5,
    "digits_hx8k": _digits_hx8k,
    "digits_mlp": _digits_mlp,
    "digits_resnet": _digits_resnet,
    "digits_tanh": _digits_tanh,
    "ic_resnet8": _ic_resnet8,
    "jet_mlp": _jet_mlp,
    "kws_dscnn": _kws_dscnn,
    "mnist_bnn": _mnist_bnn,
    "mnist_cnn": _mnist_cnn,
    "vww_mobilenet": _vww_mobilenet,
}
