"""What `make bench SUITE=latency` measured: latencies of networks on one host, with what their
layers do."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from flow.artifact import replace_bytes
from flow.csv_table import CsvTable
from flow.errors import FlowError
from flow.schedule.latency import LatencyModel, Observation, fit, residual
from flow.schedule.layer_work import LayerWork, Network
from flow.schedule.margin import Margin, margin

TABLE = Path(__file__).with_name("host_latency.csv")
FITTED = TABLE.with_suffix(".json")  # the predictor that the table gives
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
    seen; `networks` were measured in all, and `measured` says where, by what and when."""

    model: LatencyModel
    margin: Margin
    networks: int
    measured: str

    def seconds(self, network: Network) -> float:
        """Of one inference on that host. Raises UsageError, as `LatencyModel.seconds`."""
        return self.model.seconds(network, NOMINAL_MHZ)


def shuffled(rows: Sequence[Row]) -> list[Observation]:
    """In an order that has nothing to do with what the networks are, and is always the same."""
    order = np.random.default_rng(0).permutation(len(rows))
    return [rows[place].observation() for place in order]


def fitted_predictor(rows: Sequence[Row], measured: str) -> Predictor:
    """Fitted to a random half of the networks; the others calibrate its margin. `measured` says
    where, by what and when they were."""
    seen = shuffled(rows)
    half = len(seen) // 2
    model = fit(seen[:half])
    errors = [residual(model, each) for each in seen[half:]]
    return Predictor(model, margin(errors, COVERAGE), len(seen), measured)


def write_predictor(path: Path, predictor: Predictor) -> None:
    """So that who estimates need not fit. Equal ones give equal files."""
    body = {**asdict(predictor), "table": TABLE.name}
    replace_bytes(path, f"{json.dumps(body, indent=1, sort_keys=True)}\n".encode())


def read_predictor(path: Path) -> Predictor:
    """What `write_predictor` wrote. Raises FlowError where it is damaged."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES >> 20} MiB")
        body = json.loads(path.read_text(encoding="utf-8"))
        rates = (dict(body["model"][name]) for name in ("call_s", "mac_cycles", "byte_s"))
        model = LatencyModel(*rates)
        found = Predictor(model, Margin(**body["margin"]), body["networks"], body["measured"])
        numbers = [*asdict(found.margin).values(), found.networks]
        for rate in asdict(model).values():
            numbers += rate.values()
        if not all(0 <= number < float("inf") for number in numbers) or not found.measured:
            raise ValueError("its numbers must be finite, from 0 on, and it must say of what")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FlowError(f"{path} cannot be read: {error!r}; fit it again") from error
    return found


@lru_cache(maxsize=1)
def host_predictor() -> Predictor:
    """Of the committed networks."""
    return read_predictor(FITTED)
