"""What `make bench SUITE=latency` measured: latencies of networks on one host, with what their
layers do."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from flow.artifact import replace_bytes
from flow.errors import UsageError
from flow.schedule.latency import LatencyModel, Observation, fit, residual
from flow.schedule.layer_work import LayerWork, Network
from flow.schedule.margin import Margin, margin

TABLE = Path(__file__).with_name("host_latency.csv")
MAX_BYTES = 4 << 20
NOMINAL_MHZ = 1000.0  # a host's clock is not known: cycles are of one of this clock
COVERAGE = 0.9
_FIELDS = ["network", "us", "layers"]


@dataclass(frozen=True)
class Row:
    """A network by its name, the seconds of an inference, and its layers."""

    name: str
    seconds: float
    network: Network

    def observation(self) -> Observation:
        return Observation(self.name, self.network, NOMINAL_MHZ, self.seconds)


def write_table(path: Path, rows: Sequence[Row]) -> None:
    """Write the rows; layers are words kind:macs:bytes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_FIELDS)
    for row in rows:
        words = " ".join(f"{each.kind}:{each.macs}:{each.bytes}" for each in row.network)
        writer.writerow([row.name, f"{row.seconds * 1e6:.2f}", words])
    replace_bytes(path, text.getvalue().encode())


def read_table(path: Path) -> list[Row]:
    """Raises UsageError, with the line, where the file is no such table."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(f"{path}: more than {MAX_BYTES >> 20} MiB are not read")
        lines = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    except (OSError, ValueError, csv.Error) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from error
    if not lines or lines[0] != _FIELDS:
        raise UsageError(f"{path}: its first line must be {','.join(_FIELDS)}")
    found = []
    for number, line in enumerate(lines[1:], 2):
        try:
            name, micros, words = line
            found.append(Row(name, float(micros) * 1e-6, tuple(map(_layer, words.split()))))
            found[-1].observation()
        except (ValueError, UsageError) as error:
            raise UsageError(f"{path}, line {number}: {error}") from error
    return found


def _layer(word: str) -> LayerWork:
    kind, macs, moved = word.split(":")
    return LayerWork(kind, int(macs), int(moved))


@dataclass(frozen=True)
class Predictor:
    """A latency model of a host, with the factors by which it was off for networks that it had not
    seen; `networks` were measured in all."""

    model: LatencyModel
    margin: Margin
    networks: int

    def seconds(self, network: Network) -> float:
        """Of one inference on that host. Raises UsageError, as `LatencyModel.seconds`."""
        return self.model.seconds(network, NOMINAL_MHZ)


def shuffled(rows: Sequence[Row]) -> list[Observation]:
    """In an order that has nothing to do with what the networks are, and is always the same."""
    order = np.random.default_rng(0).permutation(len(rows))
    return [rows[place].observation() for place in order]


@lru_cache(maxsize=1)
def host_predictor() -> Predictor:
    """Fitted to a random half of the committed networks; the others calibrate its margin."""
    seen = shuffled(read_table(TABLE))
    half = len(seen) // 2
    model = fit(seen[:half])
    errors = [residual(model, each) for each in seen[half:]]
    return Predictor(model, margin(errors, COVERAGE), len(seen))
