"""Traces from files: CSV with a header, or Parquet where pyarrow is installed.

Columns: arrival_us, model, deadline_us, and if wanted min_accuracy, session, priority. Times are
whole microseconds; deadlines absolute. Files are untrusted: sizes bounded, nothing is evaluated.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flow.errors import ToolMissing, UsageError
from flow.packages import version
from flow.schedule.trace import MAX_REQUESTS, Trace

MAX_BYTES = 2 << 30
MAX_MODELS = 1000
BATCH = 1 << 16  # rows of a Parquet file that are read at a time
_NEEDED = ("arrival_us", "model", "deadline_us")
_MORE = ("min_accuracy", "session", "priority")
_RANGES = {
    "arrival_us": (-(1 << 62), 1 << 62),
    "deadline_us": (-(1 << 62), 1 << 62),
    "session": (-(1 << 31), (1 << 31) - 1),
    "priority": (-128, 127),
}


def read_trace(path: Path) -> Trace:
    """The requests in a .csv or .parquet file, replayed at the times that it gives.

    Raises:
        UsageError: no such file, another format, or a row that is no request; the message names
            file, row (the first after the header is 1) and column.
        ToolMissing: a Parquet file without pyarrow.
    """
    if path.suffix not in (".csv", ".parquet"):
        raise UsageError(f"trace {path} must be a .csv or .parquet file")
    if not path.is_file():
        raise UsageError(f"no trace {path}")
    if path.stat().st_size > MAX_BYTES:
        raise UsageError(f"trace {path} must be at most {MAX_BYTES:,} bytes")
    columns = _csv(path) if path.suffix == ".csv" else _parquet(path)
    count = len(columns["arrival_us"])
    names = columns["model"]
    if None in names:
        raise UsageError(f"{path}: row {names.index(None) + 1}: model must be given")
    models = tuple(dict.fromkeys(names))
    if len(models) > MAX_MODELS or any(not 0 < len(name) <= 200 for name in models):
        raise UsageError(f"{path}: models must be at most {MAX_MODELS} names of 1 to 200 letters")
    places = {name: place for place, name in enumerate(models)}
    return Trace(
        _integers(path, "arrival_us", columns["arrival_us"], np.int64),
        _integers(path, "deadline_us", columns["deadline_us"], np.int64),
        np.array([places[name] for name in names], np.int32),
        _floats(path, "min_accuracy", columns.get("min_accuracy", [0.0] * count)),
        _integers(path, "session", columns.get("session", [0] * count), np.int32),
        _integers(path, "priority", columns.get("priority", [0] * count), np.int8),
        models,
        str(path),
    )


def _csv(path: Path) -> dict[str, Sequence[Any]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.reader(file, strict=True)
            header = next(rows, [])
            _check_header(path, header)
            found: list[list[str]] = [[] for _ in header]
            for number, row in enumerate(rows, 1):
                if len(row) != len(header):
                    raise UsageError(
                        f"{path}: row {number} must have {len(header)} values, not {len(row)}"
                    )
                if number > MAX_REQUESTS:
                    raise UsageError(f"{path} must have at most {MAX_REQUESTS:,} rows")
                for column, value in zip(found, row, strict=True):
                    column.append(value)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"cannot read trace {path}: {error}") from None
    return dict(zip(header, found, strict=True))


def _parquet(path: Path) -> Mapping[str, Sequence[Any]]:
    """Read batch by batch; models as places in a dictionary, so that a long name that stands in
    every row is held once."""
    if version("pyarrow") is None:
        raise ToolMissing(
            f"reading {path} needs pyarrow, which is not installed. Get it: pip install "
            "'bitwright[parquet]'; or write the trace as .csv"
        )
    try:
        import pyarrow.parquet as parquet  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:  # one for another numpy
        raise ToolMissing(
            f"reading {path} needs pyarrow, which cannot be imported: {error}. Get another: pip "
            "install 'bitwright[parquet]'"
        ) from error
    try:
        file = parquet.ParquetFile(path, read_dictionary=["model"])
        schema = file.schema_arrow
        _check_header(path, list(schema.names))
        for column in schema:
            _check_type(path, column.name, column.type)
        found: dict[str, list[Any]] = {name: [] for name in schema.names}
        for batch in file.iter_batches(batch_size=BATCH):
            for name, values in zip(schema.names, batch.columns, strict=True):
                found[name] += _models(path, values) if name == "model" else values.to_pylist()
            if len(found["model"]) > MAX_REQUESTS:
                raise UsageError(f"{path} must have at most {MAX_REQUESTS:,} rows")
        return found
    except (OSError, ValueError) as error:  # pyarrow's own errors derive from these
        raise UsageError(f"cannot read trace {path}: {error}") from None


def _check_type(path: Path, column: str, kind: Any) -> None:
    """Raises UsageError where a Parquet column is of another type."""
    import pyarrow.types as types  # type: ignore[import-not-found, unused-ignore]

    if column == "model":
        valid, wanted = types.is_dictionary(kind) and _text(types, kind.value_type), "text"
    elif column == "min_accuracy":
        valid, wanted = types.is_integer(kind) or types.is_floating(kind), "numbers"
    else:
        valid, wanted = types.is_integer(kind), "whole numbers"
    if not valid:
        raise UsageError(f"{path}: {column} must be {wanted}, not {kind}")


def _text(types: Any, kind: Any) -> bool:
    return bool(types.is_string(kind) or types.is_large_string(kind))


def _models(path: Path, values: Any) -> list[Any]:
    """The names of a batch's rows."""
    if len(values.dictionary) > MAX_MODELS:
        raise UsageError(f"{path}: models must be at most {MAX_MODELS} names of 1 to 200 letters")
    names = values.dictionary.to_pylist()
    return [None if place is None else names[place] for place in values.indices.to_pylist()]


def _check_header(path: Path, header: Sequence[str]) -> None:
    if len(set(header)) < len(header):
        raise UsageError(f"{path}: a column stands twice")
    if missing := [name for name in _NEEDED if name not in header]:
        raise UsageError(f"{path}: column {', '.join(missing)} must be given")
    if unknown := [name for name in header if name not in (*_NEEDED, *_MORE)]:
        valid = ", ".join((*_NEEDED, *_MORE))
        raise UsageError(f"{path}: unknown column {', '.join(unknown)}; valid: {valid}")


def _integers(path: Path, column: str, values: Sequence[Any], kind: type) -> Any:
    low, high = _RANGES[column]

    def read() -> Iterator[int]:
        for row, value in enumerate(values, 1):
            try:
                number = int(value) if isinstance(value, str) else value.__index__()
            except (ValueError, AttributeError, TypeError):
                raise UsageError(
                    f"{path}: row {row}: {column} must be a whole number, not {value!r}"
                ) from None
            if not low <= number <= high:
                raise UsageError(
                    f"{path}: row {row}: {column} must be from {low} to {high}, not {number}"
                )
            yield number

    return np.fromiter(read(), kind, len(values))


def _floats(path: Path, column: str, values: Sequence[Any]) -> Any:
    def read() -> Iterator[float]:
        for row, value in enumerate(values, 1):
            try:
                number = float(value)
            except (ValueError, TypeError):
                number = math.nan
            if not math.isfinite(number):
                raise UsageError(f"{path}: row {row}: {column} must be a number, not {value!r}")
            yield number

    return np.fromiter(read(), np.float64, len(values))
