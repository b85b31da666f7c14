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
from flow.csv_table import CsvTable
from flow.schedule.latency import LatencyModel, Observation, fit, residual
from flow.schedule.layer_work import LayerWork, Network
from flow.schedule.margin import Margin, margin

TABLE = Path(__file__).with_name("host_latency.csv")
MAX_BYTES = 4 << 20
NOMINAL_MHZ = 1000.0  # a host's clock is not known: cycles are of one of this clock
COVERAGE = 0.9
_FIELDS = ("network", "us", "layers")


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
    table = CsvTable(path, _FIELDS, MAX_BYTES, "latency of a network")
    return table.rows(table.text(), _row)


def _row(cells: dict[str, str]) -> Row:
    layers = tuple(map(_layer, cells["layers"].split()))
    row = Row(cells["network"], float(cells["us"]) * 1e-6, layers)
    row.observation()
    return row


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
