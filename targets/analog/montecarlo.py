"""Many chips, one after another, until enough is known; what was simulated is kept."""

from __future__ import annotations

import contextlib
import io
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flow.artifact import replace_bytes, writing_to
from flow.ops import IntArray
from flow.target import Trial
from flow.tools import processors
from targets.analog.engine import Engine
from targets.analog.intervals import BoolArray, mean_interval
from targets.analog.mapping import FloatArray

LOOK = 64  # chips between two looks at the interval; fewer would stop by luck
MEMORY = 96 << 20  # bytes that the chips which are simulated at a time may take
CHUNK = 32  # of them, at most: more leave the processor's cache
NOTE_SECONDS = 5.0
KEEP_SECONDS = 10.0
MAX_BYTES = 1 << 30  # of a file of kept results
_DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class Wanted:
    """At most `chips`, fewer where the interval of the mean accuracy is no wider than `halfwidth`
    (0 to 1, 0: all) to both sides before."""

    chips: int
    halfwidth: float = 0.0


def simulate(
    make: Callable[[], Engine], trial: Trial, wanted: Wanted, kept: Path, threads: int = 0
) -> BoolArray:
    """Which samples each chip answers right: (chips, samples), chips 0 on; those in the file `kept`
    are not simulated again. The result does not depend on `threads`, of which 0 means one for each
    processor, nor on how often the run was stopped.

    Raises:
        UsageError, FlowError: `kept` cannot be written.
    """
    right = trial.right
    assert right is not None
    hits, looked = _read(kept, len(trial.codes)), 0
    shown = written = time.monotonic()
    engines = _Engines(make)
    threads = threads or processors()
    with ThreadPoolExecutor(threads) as pool:
        while (count := _stops(hits.mean(axis=1), looked, wanted)) is None:
            looked = len(hits)
            step = LOOK if wanted.halfwidth else LOOK * threads
            more = min(step - looked % step, wanted.chips - looked)
            parts = _parts(range(looked, looked + more), engines.bytes)
            hits = np.concatenate([hits, *pool.map(_Run(engines, trial.codes, right), parts)])
            now = time.monotonic()
            if now > shown + NOTE_SECONDS and len(hits) > 1:
                shown = now
                trial.note(_told(hits, wanted))
            if now > written + KEEP_SECONDS:
                written = now
                _write(kept, hits)
    _write(kept, hits)
    return hits[:count]


class _Engines:
    """Engines that no two threads use at once: each remembers the chips it programmed."""

    def __init__(self, make: Callable[[], Engine]):
        self._make = make
        self._free = [make()]
        self.bytes = self._free[0].batch * self._free[0].sample_bytes  # of one chip

    @contextlib.contextmanager
    def one(self) -> Iterator[Engine]:
        """One of them, for the time of the block."""
        try:
            engine = self._free.pop()
        except IndexError:
            engine = self._make()
        try:
            yield engine
        finally:
            self._free.append(engine)


class _Run:
    def __init__(
        self,
        engines: _Engines,
        codes: IntArray,
        right: Callable[[IntArray, IntArray], BoolArray],
    ):
        self._engines, self._codes, self._right = engines, codes, right

    def __call__(self, chips: range) -> BoolArray:
        found = np.empty((len(chips), len(self._codes)), dtype=np.bool_)
        with self._engines.one() as engine:
            size = engine.batch
            for batch, start in enumerate(range(0, len(self._codes), size)):
                part = self._codes[start : start + size]
                outputs = engine.run(part, chips, batch)
                numbers = np.tile(np.arange(start, start + len(part)), len(chips))
                flat = outputs.reshape(-1, *outputs.shape[2:])
                found[:, start : start + len(part)] = self._right(flat, numbers).reshape(
                    len(chips), -1
                )
        return found


def _parts(chips: range, bytes_each: int) -> list[range]:
    size = max(1, min(CHUNK, MEMORY // bytes_each))
    return [chips[start : start + size] for start in range(0, len(chips), size)]


def _stops(shares: FloatArray, since: int, wanted: Wanted) -> int | None:
    """How many of the chips answer what was asked; None where more are needed. Looks are taken
    every LOOK chips, those after `since` chips here."""
    if wanted.halfwidth:
        first = max(since - since % LOOK, 0) + LOOK
        for count in range(first, min(len(shares), wanted.chips) + 1, LOOK):
            interval = mean_interval(shares[:count])
            if interval.high - interval.low <= 2 * wanted.halfwidth:
                return count
    return wanted.chips if len(shares) >= wanted.chips else None


def _told(hits: BoolArray, wanted: Wanted) -> str:
    interval = mean_interval(hits.mean(axis=1))
    ends = f"[{100 * interval.low:.2f}, {100 * interval.high:.2f}]"
    return f"{len(hits)} of {wanted.chips} chips: {100 * hits.mean():.2f} % {ends}"


def _read(path: Path, samples: int) -> BoolArray:
    """What an earlier run left; nothing where it cannot be read, since it can be made again."""
    with contextlib.suppress(*_DAMAGED):
        if path.stat().st_size > MAX_BYTES:
            raise ValueError
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            packed = kept["hits"]
        if packed.dtype == np.uint8 and packed.ndim == 2 and packed.shape[1] == -(-samples // 8):
            return np.unpackbits(packed, axis=1, count=samples).astype(np.bool_)
    return np.zeros((0, samples), dtype=np.bool_)


def _write(path: Path, hits: BoolArray) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, hits=np.packbits(hits, axis=1))
    with writing_to(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_bytes(path, buffer.getvalue())
