"""The targets: one visible table from name to a thunk that imports the target's class.

The thunks keep start-up fast: listing names imports nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flow.target import Target


def _analog() -> type[Target]:
    from targets.analog.target import Analog

    return Analog


def _hls4ml() -> type[Target]:
    from targets.hls4ml.target import Hls4ml

    return Hls4ml


def _tflite() -> type[Target]:
    from targets.tflite.target import Tflite

    return Tflite


def _rtl() -> type[Target]:
    from targets.rtl.target import Rtl

    return Rtl


TARGETS: dict[str, Callable[[], type[Target]]] = {
    "analog": _analog,
    "hls4ml": _hls4ml,
    "rtl": _rtl,
    "tflite": _tflite,
}
