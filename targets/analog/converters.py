"""What drives arrays and what reads them: codes to pulses, currents to codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from flow.ops import IntArray
from flow.qtype import QType
from targets.analog.device import Adc, Dac, DacKind, Detector, Law, Range
from targets.analog.draws import normals
from targets.analog.grid import clamp
from targets.analog.mapping import FloatArray, Mapped
from targets.analog.optical import spread


@dataclass(frozen=True)
class Drive:
    """How codes of `qtype` are applied. Each is the sum over passes of what is applied times the
    pass's weight; what is applied is rounded to steps of 2^dropped and lies in low..high."""

    qtype: QType
    serial: bool = False
    dropped: int = 0

    @classmethod
    def of(cls, layer: Mapped, dac: Dac | None) -> Drive:
        """Without a DAC, codes are applied as they are."""
        low, high = int(layer.product.low.min()), int(layer.product.high.max())
        qtype = QType.covering(min(low, 0), max(high, 0))
        if dac is None:
            return cls(qtype)
        if dac.kind is DacKind.BIT_SERIAL:
            return cls(qtype, serial=True)
        return cls(qtype, dropped=max(qtype.bits - dac.bits, 0))

    @property
    def weights(self) -> IntArray:
        """Of the passes: of two's complement, where bits are applied one by one."""
        if not self.serial:
            return np.ones(1, dtype=np.int64)
        bits = 1 << np.arange(self.qtype.bits, dtype=np.int64)
        return np.concatenate([bits[:-1], -bits[-1:]]) if self.qtype.signed else bits

    def bounds(self, layer: Mapped) -> tuple[IntArray, IntArray]:
        """The least and the most (groups, inputs) that is applied in a pass."""
        low, high = layer.product.low, layer.product.high
        if self.serial:
            return np.zeros_like(low), np.ones_like(high)
        return self._rounded(low), self._rounded(high)

    def applied(self, codes: IntArray) -> IntArray:
        """Codes (..., m, inputs) as applied, (..., passes * m, inputs)."""
        if not self.serial:
            return self._rounded(codes)
        shifts = np.arange(self.qtype.bits, dtype=np.int64)[:, None, None]
        bits: IntArray = codes[..., None, :, :] >> shifts & 1
        return bits.reshape(*codes.shape[:-2], -1, codes.shape[-1])

    def _rounded(self, codes: IntArray) -> IntArray:
        if not self.dropped:
            return codes
        bits = self.qtype.bits - self.dropped
        held = QType(bits, self.qtype.signed)
        steps = np.rint(codes / (1 << self.dropped)).astype(np.int64)
        kept: IntArray = np.clip(steps, held.low, held.high) << self.dropped
        return kept


@dataclass(frozen=True)
class Converter:
    """An ADC's codes are readings over `step`, rounded and clamped to low..high; without ends it
    takes everything. `offset` is a standard deviation in steps, `noise` the parameter of `law`."""

    step: float = 1.0
    low: int | None = None
    high: int | None = None
    offset: float = 0.0
    noise: float = 0.0
    law: Law = Law.GAUSSIAN

    @classmethod
    def of(cls, lossless: QType, adc: Adc | None, reach: float | None) -> Converter:
        """The converter of a layer whose readings are of the type `lossless`; `reach` is the
        largest magnitude of training samples, for ADCs whose range is calibrated."""
        if adc is None:
            return cls()
        held = QType(adc.bits, lossless.signed)
        step = float(1 << max(lossless.bits - adc.bits, 0))
        if adc.range is Range.CALIBRATED and reach is not None:
            step = min(step, max(reach / held.high, 1.0)) if held.high else step
        return cls(step, held.low, held.high, adc.offset_lsb, adc.noise_lsb)

    @classmethod
    def of_detector(
        cls, low: int, high: int, detector: Detector | None, reach: float | None
    ) -> Converter:
        """The detector of a layer whose readings lie in low..high; `reach` as in `of`."""
        if detector is None:
            return cls()
        most = float(max(-low, high, 1))
        if detector.range is Range.CALIBRATED and reach is not None:
            most = min(most, max(reach, 1.0))
        steps, noise = detector.precision, 0.0
        if detector.leakage:
            noise = steps * spread(detector.noise, detector.leakage, steps)
        least = -steps if low < 0 else 0
        return cls(most / steps, least, steps, 0.0, noise, detector.noise)

    def drawn(self, streams: Sequence[Generator], shape: tuple[int, ...]) -> FloatArray:
        """Errors of conversions (streams, *shape), in steps."""
        if self.law is Law.LAPLACIAN:
            return np.stack([by.laplace(0.0, self.noise, shape) for by in streams])
        return self.noise * normals(streams, shape).astype(np.float64)

    def read(self, readings: FloatArray, errors: FloatArray | float = 0.0) -> FloatArray:
        """What the digital part gets for readings, which are overwritten: codes times the step.
        `errors` are in steps."""
        if self.step != 1.0:
            readings /= self.step
        if isinstance(errors, np.ndarray):
            readings += errors
        np.rint(readings, out=readings)
        if self.low is not None and self.high is not None:
            clamp(readings, self.low, self.high)
        if self.step != 1.0:
            readings *= self.step
        return readings
