"""Requests: when each arrives, which model it asks for, until when, and how right it must be."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from flow.errors import UsageError

Times = NDArray[np.int64]
MAX_REQUESTS = 1 << 27


@dataclass(frozen=True, eq=False)
class Trace:
    """Requests in order of arrival; all arrays (n,). Times are whole microseconds from the start,
    deadlines absolute. `model` indexes `models`; `generator` says how the trace came to be, `seed`
    is None where none was used.

    `closed`: a request arrives as long after its predecessor is done as the arrivals here are
    apart, and its deadline lies as long after its arrival as here: one client that waits.

    Raises:
        UsageError: arrays that do not fit each other, times below 0 or not in order, a deadline
            before its arrival, an accuracy that is no number, a model that is not there. The
            message names `generator` and the request, counted from 1.
    """

    arrival_us: Times
    deadline_us: Times
    model: NDArray[np.int32]
    min_accuracy: NDArray[np.float64]
    session: NDArray[np.int32]
    priority: NDArray[np.int8]
    models: tuple[str, ...]
    generator: str
    seed: int | None = None
    closed: bool = False

    def __post_init__(self) -> None:
        where, count = self.generator, len(self.arrival_us)
        if not 0 < count <= MAX_REQUESTS:
            raise UsageError(f"{where}: must have 1 to {MAX_REQUESTS:,} requests, not {count:,}")
        for name, kind in _KINDS.items():
            array = getattr(self, name)
            if array.shape != (count,) or array.dtype != kind:
                raise UsageError(
                    f"{where}: {name} must be {count} of {np.dtype(kind).name}, "
                    f"not {array.shape} of {array.dtype}"
                )
        first = int(self.arrival_us[0])
        if first < 0:
            raise UsageError(f"{where}: row 1: arrival_us must not be negative, not {first}")
        self._refuse(
            1, np.diff(self.arrival_us) < 0, "arrival_us must not be before its predecessor's"
        )
        late = self.deadline_us < self.arrival_us
        self._refuse(0, late, "deadline_us must not be before arrival_us")
        self._refuse(0, ~np.isfinite(self.min_accuracy), "min_accuracy must be a number")
        outside = (self.model < 0) | (self.model >= len(self.models))
        self._refuse(0, outside, f"model must be one of {', '.join(self.models)}")

    def _refuse(self, offset: int, wrong: NDArray[np.bool_], what: str) -> None:
        if wrong.any():
            request = int(np.argmax(wrong)) + offset
            told = {
                name: getattr(self, name)[request].item() for name in ("arrival_us", "deadline_us")
            }
            raise UsageError(f"{self.generator}: row {request + 1}: {what} ({told})")

    def __len__(self) -> int:
        return len(self.arrival_us)

    @property
    def sha256(self) -> str:
        """Of the arrays, the models' names and whether it is closed."""
        digest = hashlib.sha256(repr((self.models, self.closed)).encode())
        for name in _KINDS:
            digest.update(np.ascontiguousarray(getattr(self, name)).data)
        return digest.hexdigest()

    def part(self, start: int, stop: int) -> Trace:
        """Requests `start` up to `stop`, at the times they have here."""
        cut = {name: getattr(self, name)[start:stop] for name in _KINDS}
        return replace(self, **cut, generator=f"{self.generator} [{start}:{stop}]")


_KINDS = {
    "arrival_us": np.int64,
    "deadline_us": np.int64,
    "model": np.int32,
    "min_accuracy": np.float64,
    "session": np.int32,
    "priority": np.int8,
}
