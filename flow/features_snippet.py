"""From sound to what a network takes: mel frequency cepstral coefficients, or log mel energies.

    from features import FrontEnd
    front_end = FrontEnd.load("host.json")
    x = front_end.wav("seven.wav")      # float inputs (n, ...), for Host.quantize
    x = front_end.inputs(samples)       # the same of 16-bit samples

Plain numpy, nothing else needed. A copy of this file lies in every artifact whose network was
trained on these features: training computes them with the same lines.

Frames of `window` samples every `hop` are weighted by a Hann window; p[k] = |DFT|^2 of `points`
points; e[m] = sum over k of t[m, k] p[k] with triangles t whose corners are spaced evenly from
`low` to `high` in mel; the log energies are ln(e[m] + floor). Coefficients are their orthonormal
DCT-II, the first `coefficients` of them. The mel scale is "htk", 2595 log10(1 + f / 700), or
"slaney", f / (200/3) below 1000 Hz and 15 + 27 ln(f / 1000) / ln(6.4) above. Sources: S. B. Davis
and P. Mermelstein, IEEE Trans. ASSP 28 (1980), for the triangles and the cosine transform;
S. Young et al., The HTK Book, chapter 5, and M. Slaney, Auditory Toolbox, technical report
1998-010 (Interval Research), for the mel scales.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import wave
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_BYTES = 64 << 20  # of a .wav file
MAX_LENGTH = 1 << 20
GRID = 256.0  # features are multiples of 1/GRID: the last bits of an FFT or BLAS do not reach them


@dataclass(frozen=True)
class FrontEnd:
    """Settings: `rate` in samples a second, lengths in samples, `low` and `high` in Hz,
    `coefficients` 0 for the log energies themselves, `stack` frames to one input, a new one with
    every frame, `scale` the mel scale.

    `skip` samples are left out at a recording's begin; the rest is cut to `samples` (0: as it is),
    or, where it is shorter, filled with silence if `fill`, else refused.
    """

    rate: int
    samples: int
    window: int
    hop: int
    points: int
    filters: int
    low: float
    high: float
    floor: float
    coefficients: int
    stack: int
    scale: str = "htk"
    skip: int = 0
    fill: bool = True

    def __post_init__(self) -> None:
        lengths = (self.rate, self.window, self.hop, self.filters, self.stack)
        if not all(1 <= length <= MAX_LENGTH for length in lengths):
            raise ValueError(f"lengths must be from 1 to {MAX_LENGTH}, not {lengths}")
        if not self.window <= self.points <= MAX_LENGTH:
            raise ValueError(
                f"points must be from window ({self.window}) to {MAX_LENGTH}, not {self.points}"
            )
        if not all(0 <= length <= MAX_BYTES for length in (self.samples, self.skip)):
            raise ValueError(
                f"samples and skip must be from 0 to {MAX_BYTES}, not {self.samples} and "
                f"{self.skip}"
            )
        if not 0 <= self.coefficients <= self.filters:
            raise ValueError(f"coefficients must be from 0 to {self.filters}, the filters")
        if not 0 <= self.low < self.high <= self.rate / 2 or not self.floor > 0:
            raise ValueError(f"need 0 <= low < high <= {self.rate / 2} (half the rate), floor > 0")
        if self.scale not in _SCALES:
            raise ValueError(f"scale must be one of {', '.join(_SCALES)}, not {self.scale!r}")

    @classmethod
    def load(cls, path: str | Path) -> FrontEnd:
        """The settings from an artifact's host.json."""
        return cls(**json.loads(Path(path).read_text())["features"])

    def to_json(self) -> dict[str, Any]:
        """The settings as `load` reads them; what has its default value is left out."""
        fields = {f.name: (getattr(self, f.name), f.default) for f in dataclasses.fields(self)}
        return {name: value for name, (value, default) in fields.items() if value != default}

    @property
    def width(self) -> int:
        """Numbers of one frame."""
        return self.coefficients or self.filters

    def wav(self, path: str | Path) -> NDArray[np.float32]:
        """As `inputs`, of a .wav file. Raises ValueError, OSError."""
        return self.inputs(read_wav(path, self.rate))

    def inputs(self, samples: NDArray[Any]) -> NDArray[np.float32]:
        """Inputs (n, stack, width) of a recording of 16-bit samples (length,).

        Raises:
            ValueError: the samples are not 16-bit ones, or too few for one input.
        """
        frames = self.frames(samples)
        count = len(frames) - self.stack + 1
        if count < 1:
            raise ValueError(
                f"a recording must have {self.stack} frames ({self._needed} samples) or more, "
                f"not {len(frames)}"
            )
        rows = np.arange(count)[:, None] + np.arange(self.stack)
        return frames[rows]

    def frames(self, samples: NDArray[Any]) -> NDArray[np.float32]:
        """Features (frames, width) of a recording. Raises ValueError."""
        if samples.ndim != 1 or samples.dtype != np.int16:
            raise ValueError(
                f"samples must be an int16 array of one axis, not {samples.dtype} of shape "
                f"{samples.shape}; scale floats by 32767"
            )
        samples = samples[self.skip :]
        if self.samples:
            missing = max(0, self.samples - len(samples))
            if missing and not self.fill:
                raise ValueError(
                    f"a recording must have {self.skip + self.samples} samples or more: "
                    f"{missing} are missing"
                )
            samples = np.pad(samples[: self.samples], (0, missing))
        count = max(0, (len(samples) - self.window) // self.hop + 1)
        starts = np.arange(count)[:, None] * self.hop
        real = samples[starts + np.arange(self.window)] / 32768.0
        power = np.abs(np.fft.rfft(real * self.weights, self.points)) ** 2
        features = np.log(power @ self.triangles.T + self.floor)
        if self.coefficients:
            features = features @ self.cosines.T
        rounded: NDArray[np.float32] = (np.rint(features * GRID) / GRID).astype(np.float32)
        return rounded

    @property
    def _needed(self) -> int:
        return self.window + (self.stack - 1) * self.hop

    @cached_property
    def weights(self) -> NDArray[np.float64]:
        """The Hann window (window,), periodic."""
        weights: NDArray[np.float64] = np.sin(np.pi * np.arange(self.window) / self.window) ** 2
        return weights

    @cached_property
    def triangles(self) -> NDArray[np.float64]:
        """How much of each bin of the DFT is in each filter, (filters, points // 2 + 1)."""
        low, high = (mel(edge, self.scale) for edge in (self.low, self.high))
        hertz = _SCALES[self.scale][1](np.linspace(low, high, self.filters + 2))
        bins = np.arange(self.points // 2 + 1) * self.rate / self.points
        left, middle, right = (hertz[i : i + self.filters, None] for i in range(3))
        rising, falling = (bins - left) / (middle - left), (right - bins) / (right - middle)
        triangles: NDArray[np.float64] = np.maximum(0.0, np.minimum(rising, falling))
        return triangles

    @cached_property
    def cosines(self) -> NDArray[np.float64]:
        """The first rows of the orthonormal DCT-II, (coefficients, filters)."""
        rows, places = np.arange(self.coefficients)[:, None], np.arange(self.filters)
        cosines: NDArray[np.float64] = np.cos(np.pi * rows * (places + 0.5) / self.filters)
        cosines *= np.sqrt(np.where(rows == 0, 1.0, 2.0) / self.filters)
        return cosines


def mel(hertz: float, scale: str = "htk") -> float:
    """Where a frequency is on a mel scale."""
    return float(_SCALES[scale][0](hertz))


def _slaney(hertz: Any) -> Any:
    above = 15.0 + np.log(np.maximum(hertz, 1000.0) / 1000.0) / _STEP
    return np.where(hertz < 1000.0, 3.0 * hertz / 200.0, above)


def _slaney_hertz(place: Any) -> Any:
    above = 1000.0 * np.exp(_STEP * (place - 15.0))
    return np.where(place < 15.0, 200.0 * place / 3.0, above)


_STEP = np.log(6.4) / 27.0
# From Hz to mel, and back.
_SCALES: dict[str, Any] = {
    "htk": (
        lambda hertz: 2595.0 * np.log10(1.0 + hertz / 700.0),
        lambda place: 700.0 * (10.0 ** (place / 2595.0) - 1),
    ),
    "slaney": (_slaney, _slaney_hertz),
}


def read_wav(path: str | Path, rate: int) -> NDArray[np.int16]:
    """The samples (length,) of a .wav file of one channel, 16 bits, `rate` samples a second.

    Raises:
        ValueError: it is another file, or shorter than its header says.
        OSError: it cannot be read.
    """
    with Path(path).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_BYTES:
            raise ValueError(f"{path}: more than {MAX_BYTES >> 20} MiB are not read")
        try:
            with wave.open(file) as sound:
                channels, width = sound.getnchannels(), sound.getsampwidth()
                if (channels, width, sound.getframerate()) != (1, 2, rate):
                    raise ValueError(
                        f"{path}: must have 1 channel of 16 bits, {rate} samples a second, not "
                        f"{channels} of {8 * width} bits, {sound.getframerate()}"
                    )
                count = sound.getnframes()
                body = sound.readframes(min(count, size))
        except (wave.Error, EOFError) as error:
            raise ValueError(f"{path} is no .wav file: {error or 'it ends too early'}") from error
    if len(body) != 2 * count:
        raise ValueError(f"{path}: holds {len(body) // 2} samples, not the {count} that it names")
    return np.frombuffer(body, dtype="<i2").astype(np.int16)


def main() -> int:
    """Features of a file: python features.py host.json seven.wav x.npy"""
    settings, sound, output = sys.argv[1:]
    np.save(output, FrontEnd.load(settings).wav(sound))
    return 0


if __name__ == "__main__":
    sys.exit(main())
