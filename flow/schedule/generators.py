"""Traces that are drawn: arrivals by a generator, what each request asks for by its demands.

Generators are frozen dataclasses whose fields are their options; times are milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np

from flow.errors import UsageError
from flow.schedule.trace import MAX_REQUESTS, Times, Trace
from flow.schedule.work import FloatArray


@dataclass(frozen=True)
class Demand:
    """One kind of request: for `model`, to be done `deadline_us` after it arrived, at the least
    `min_accuracy` percent right; `share` is its weight in the mix."""

    model: str
    deadline_us: int
    share: float = 1.0
    min_accuracy: float = 0.0
    priority: int = 0

    def __post_init__(self) -> None:
        if self.deadline_us < 0:
            raise UsageError(f"{self.model}: deadline_us must not be negative")
        if not (math.isfinite(self.share) and self.share > 0):
            raise UsageError(f"{self.model}: share must be above 0, not {self.share}")
        if not math.isfinite(self.min_accuracy):
            raise UsageError(f"{self.model}: min_accuracy must be a number")
        if not -128 <= self.priority <= 127:
            raise UsageError(f"{self.model}: priority must be from -128 to 127")


class Generator:
    """Base of generators: `draw` gives (arrivals in us, sessions), each (count,)."""

    closed = False

    def __post_init__(self) -> None:
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if not (math.isfinite(value) and value >= 0):
                raise UsageError(f"{self}: {field.name} must be a number from 0, not {value}")

    def draw(self, count: int, random: np.random.Generator) -> tuple[Times, Times]:
        raise NotImplementedError


@dataclass(frozen=True)
class Poisson(Generator):
    """Gaps are exponential."""

    gap_ms: float = 120.0

    def draw(self, count: int, random: np.random.Generator) -> tuple[Times, Times]:
        return _times(random.exponential(self.gap_ms, count)), np.zeros(count, np.int64)


@dataclass(frozen=True)
class Bursty(Generator):
    """A Markov-modulated Poisson process: gaps are exponential of mean `gap_ms / busy` in bursts
    and of what makes the mean over all requests `gap_ms` between them. A burst goes on after each
    request with a probability so that its mean length is `burst`, and a share `inside` of requests
    is in bursts."""

    gap_ms: float = 120.0
    busy: float = 4.0
    burst: float = 20.0
    inside: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.busy > 1 and self.burst >= 1 and 0 < self.inside < 1):
            raise UsageError(f"{self}: must have busy > 1, burst >= 1 and inside from 0 to 1")

    def draw(self, count: int, random: np.random.Generator) -> tuple[Times, Times]:
        quiet = self.burst * (1 - self.inside) / self.inside
        pairs = 2 + math.ceil(2 * count / (self.burst + max(quiet, 1.0)))
        session = np.zeros(0, np.int64)
        in_burst = np.zeros(0, np.bool_)
        start = 0
        while len(session) < count:  # lengths are geometric, at least 1
            lengths = np.empty(2 * pairs, np.int64)
            lengths[0::2] = random.geometric(1 / self.burst, pairs)
            lengths[1::2] = random.geometric(1 / max(quiet, 1.0), pairs)
            number = np.repeat(np.arange(start, start + 2 * pairs), lengths)
            session = np.concatenate([session, number])
            in_burst = np.concatenate([in_burst, number % 2 == 0])
            start += 2 * pairs
        session, in_burst = session[:count], in_burst[:count]
        short = self.gap_ms / self.busy
        share = self.burst / (self.burst + max(quiet, 1.0))
        long = (self.gap_ms - share * short) / (1 - share)
        gaps = random.exponential(1.0, count)
        gaps *= np.where(in_burst, short, long)
        return _times(gaps), session


@dataclass(frozen=True)
class Periodic(Generator):
    """Every `period_ms`, each request late by up to `jitter_ms`, uniformly; the order of release
    is kept."""

    period_ms: float = 33.3
    jitter_ms: float = 2.0

    def draw(self, count: int, random: np.random.Generator) -> tuple[Times, Times]:
        at = np.arange(count) * self.period_ms + random.uniform(0, self.jitter_ms, count)
        return np.maximum.accumulate(_whole(at)), np.zeros(count, np.int64)


@dataclass(frozen=True)
class Interactive(Generator):
    """Sessions of frames: from `least` to `most` of them, uniformly, `frame_ms` apart, with a time
    to think between sessions that is exponential of mean `think_ms`."""

    frame_ms: float = 33.3
    least: int = 20
    most: int = 60
    think_ms: float = 2000.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.least <= self.most:
            raise UsageError(f"{self}: must have 1 <= least <= most")

    def draw(self, count: int, random: np.random.Generator) -> tuple[Times, Times]:
        sessions = 1 + count // self.least
        lengths = random.integers(self.least, self.most, sessions, endpoint=True)
        session = np.repeat(np.arange(sessions), lengths)[:count]
        gaps = np.full(count, float(self.frame_ms))
        first = np.flatnonzero(np.diff(session, prepend=-1))
        gaps[first] += random.exponential(self.think_ms, len(first))
        return _times(gaps), session


@dataclass(frozen=True)
class Diurnal(Generator):
    """A Poisson process whose rate swings as a sine over `day_s` seconds, by the share `swing` of
    its mean, which `gap_ms` tells; by inverting the integral of the rate."""

    gap_ms: float = 120.0
    swing: float = 0.8
    day_s: float = 86400.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.swing < 1 and self.day_s > 0):
            raise UsageError(f"{self}: must have swing below 1 and day_s above 0")

    def draw(self, count: int, random: np.random.Generator) -> tuple[Times, Times]:
        day = self.day_s * 1000.0
        wanted = np.cumsum(random.exponential(self.gap_ms, count))  # of the integral, in ms
        at, wave = wanted.copy(), day / (2 * math.pi)
        low, high = wanted - 2 * self.swing * wave, wanted.copy()
        for _ in range(60):  # t + swing * wave * (1 - cos(t / wave)) rises: halve
            at = (low + high) / 2
            below = at + self.swing * wave * (1 - np.cos(at / wave)) < wanted
            low, high = np.where(below, at, low), np.where(below, high, at)
        return np.maximum.accumulate(_whole(np.maximum(at, 0))), (at // day).astype(np.int64)


@dataclass(frozen=True)
class ClosedLoop(Generator):
    """One client that sends the next request a time to think after it has the answer, exponential
    of mean `think_ms`."""

    think_ms: float = 20.0
    closed = True

    def draw(self, count: int, random: np.random.Generator) -> tuple[Times, Times]:
        return _times(random.exponential(self.think_ms, count)), np.zeros(count, np.int64)


GENERATORS: dict[str, Callable[[], Generator]] = {
    "poisson": Poisson,
    "bursty": Bursty,
    "periodic": Periodic,
    "interactive": Interactive,
    "diurnal": Diurnal,
    "closed_loop": ClosedLoop,
}


def generate(generator: Generator, demands: Sequence[Demand], count: int, seed: int) -> Trace:
    """A trace of `count` requests. Seeds are PCG64's; the same seed gives the same trace.

    Raises:
        UsageError: no demand, a model that stands twice, or a count that is out of range.
    """
    if not 0 < count <= MAX_REQUESTS:
        raise UsageError(f"{generator}: must be 1 to {MAX_REQUESTS:,} requests, not {count:,}")
    if not demands:
        raise UsageError(f"{generator}: there must be a demand at the least")
    random = np.random.Generator(np.random.PCG64(seed))
    arrival, session = generator.draw(count, random)
    shares = np.array([demand.share for demand in demands])
    pick = np.searchsorted(np.cumsum(shares / shares.sum())[:-1], random.random(count), "right")
    models = tuple(dict.fromkeys(demand.model for demand in demands))
    own = np.array([models.index(demand.model) for demand in demands], np.int32)
    deadline = np.array([demand.deadline_us for demand in demands], np.int64)[pick]
    deadline += arrival
    return Trace(
        arrival,
        deadline,
        own[pick],
        np.array([demand.min_accuracy for demand in demands], np.float64)[pick],
        session.astype(np.int32),
        np.array([demand.priority for demand in demands], np.int8)[pick],
        models,
        repr(generator),
        seed,
        generator.closed,
    )


def _whole(ms: FloatArray) -> Times:
    times: Times = np.rint(ms * 1000.0).astype(np.int64)
    return times


def _times(gaps_ms: FloatArray) -> Times:
    return _whole(np.cumsum(gaps_ms))
