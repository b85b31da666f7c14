"""Variants as a command takes them: folders of artifacts, networks measured on the platform's
board, or a TOML file of both and of what users know themselves.

    [[variants]]
    model = "digits"                      # what requests ask for
    artifact = "../digits_mlp-tflite-…"   # or name, target and accuracy (percent), which an
                                          # artifact that was compiled from a file needs, too
    load = "compute"                      # what it is short of on a processor
    reference_ms = 8.0                    # of an inference at the platform's fastest point, or:
    runs.little = { time_ms = [40.0, 21.5], energy_mj = [1.1, 1.3] }
    runs.fabric = { time_ms = [1.5], energy_mj = [0.1], next_ms = [0.2] }  # behind its like
    method = "measured"                   # of what was typed in: measured or assumed
    source = "where it is from"

    [[demands]]                           # what a generated trace asks for
    model = "digits"
    deadline_ms = 60
    share = 1.0
    min_accuracy = 97
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flow.errors import UsageError
from flow.metric import Kind, Metric
from flow.schedule.generators import Demand
from flow.schedule.platform import Load
from flow.schedule.variants import MAX_VARIANTS, Known
from flow.schedule.work import Run, Variant

MAX_BYTES = 1 << 20
DESIGNS = "designs"  # the networks that somebody measured on the platform's board
_METHODS = (Kind.MEASURED.value, Kind.ASSUMED.value)  # an estimate would need an interval
_TIMED = ("reference_ms", "runs")
_FIELDS = ("model", "artifact", "name", "target", "accuracy", "load", *_TIMED, "method", "source")


@dataclass(frozen=True)
class Item:
    """One variant that is asked for: an artifact's folder, the platform's own `designs` (of one
    task where `model` names it), or one that is `known` by what the user typed. Without a `model`
    the artifact's own counts, and `accuracy` is of one that tells none."""

    model: str = ""
    folder: Path | None = None
    load: Load = Load.COMPUTE
    designs: bool = False
    known: Known | None = None
    typed: Mapping[str, Any] | None = None
    accuracy: Metric | None = None


def read_items(given: str, runs: Path) -> tuple[list[Item], list[Demand]]:
    """What `MODELS=` asks for: a .toml file, or folders (or their names in `runs`) and `designs`,
    parted by commas; `digits=folder` says what requests call a variant, `designs=task` keeps one
    task's.

    Raises:
        UsageError: nothing is given, or a file is not right; the message names file and field.
    """
    if given.endswith(".toml"):
        return read_file(Path(given))
    items = []
    for word in filter(None, (word.strip() for word in given.split(","))):
        model, sep, place = word.rpartition("=")
        if word == DESIGNS or (sep and model == DESIGNS):
            items.append(Item(place if sep else "", designs=True))
            continue
        items.append(Item(model, _folder(place, runs, f"MODELS={given}")))
    if not 0 < len(items) <= MAX_VARIANTS:
        raise UsageError(
            f"MODELS must be 1 to {MAX_VARIANTS} folders of compiled artifacts, parted by commas, "
            f"or a .toml file of variants, not {given!r}"
        )
    return items, []


def _folder(name: str, runs: Path, where: str) -> Path:
    for folder in (Path(name), runs / name):
        if folder.is_dir():
            return folder
    raise UsageError(f"{where}: there is no folder {name}, nor one of that name in {runs}; compile")


def read_file(path: Path) -> tuple[list[Item], list[Demand]]:
    """The variants and demands of a TOML file; artifacts' folders are beside it."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(f"{path} must be at most {MAX_BYTES:,} bytes")
        body = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from error
    _keys(path, "", body, ("variants",), ("demands",))
    rows = _tables(path, "variants", body["variants"])
    items = [_item(path, f"variants[{place}]", row) for place, row in enumerate(rows)]
    demands = _tables(path, "demands", body.get("demands", []))
    if not items:
        raise UsageError(f"{path}: variants: there must be one at the least")
    return items, [_demand(path, f"demands[{place}]", row) for place, row in enumerate(demands)]


def _item(path: Path, place: str, row: Mapping[str, Any]) -> Item:
    _keys(path, place, row, ("model",), _FIELDS[1:])
    model = _word(path, f"{place}.model", row["model"])
    load = _load(path, place, row.get("load", Load.COMPUTE.value))
    if "artifact" in row:
        if extra := [key for key in ("name", "target") if key in row]:
            raise UsageError(f"{path}: {place}: {', '.join(extra)}: the artifact tells; leave out")
        folder = path.parent / _word(path, f"{place}.artifact", row["artifact"])
        if not folder.is_dir():
            raise UsageError(f"{path}: {place}.artifact: there is no folder {folder}; compile it")
        timed = any(key in row for key in _TIMED)
        return Item(
            model,
            folder,
            load,
            typed=_times(path, place, row) if timed else None,
            accuracy=_accuracy(path, place, row) if "accuracy" in row else None,
        )
    _keys(path, place, row, ("model", "name", "target", "accuracy"), _FIELDS)
    times, accuracy = _times(path, place, row), _accuracy(path, place, row)
    name, target = (_word(path, f"{place}.{key}", row[key]) for key in ("name", "target"))
    return Item(model, known=known(model, name, target, accuracy, load, times))


def known(
    model: str, name: str, target: str, accuracy: Metric, load: Load, times: Mapping[str, Any]
) -> Known:
    """A variant by the times that were typed in."""
    reference, runs = times["reference_us"], times["runs"]
    variant = Variant(model, target, name, accuracy.value, load, reference, runs)
    first = reference if reference is not None else next(iter(runs.values())).time_us[0]
    latency = _metric("latency", first / 1e3, "ms", times)
    spent = None if runs is None else next(iter(runs.values())).energy_mj
    energy = None if spent is None else _metric("energy", spent[0], "mJ", times)
    return Known(variant, accuracy, latency, energy)


def _metric(name: str, value: float, unit: str, times: Mapping[str, Any]) -> Metric:
    return Metric(name, value, unit, times["kind"], times["source"])


def _accuracy(path: Path, place: str, row: Mapping[str, Any]) -> Metric:
    """In percent, as typed."""
    value = _number(path, f"{place}.accuracy", row["accuracy"], 0, 100)
    return Metric("accuracy", value, "%", *_origin(path, place, row))


def _origin(path: Path, place: str, row: Mapping[str, Any]) -> tuple[Kind, str]:
    """What the numbers that were typed are, and where they are from."""
    for key in ("method", "source"):
        if key not in row:
            raise UsageError(f"{path}: {place}.{key} must be given: where the numbers are from")
    if row["method"] not in _METHODS:
        valid = ", ".join(_METHODS)
        raise UsageError(f"{path}: {place}.method must be one of {valid}, not {row['method']!r}")
    return Kind(row["method"]), _word(path, f"{place}.source", row["source"])


def _times(path: Path, place: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """What an inference takes, as typed, with where it is from."""
    if ("reference_ms" in row) == ("runs" in row):
        raise UsageError(f"{path}: {place}: give either reference_ms or runs")
    kind, source = _origin(path, place, row)
    reference = runs = None
    if "reference_ms" in row:
        reference = 1e3 * _number(path, f"{place}.reference_ms", row["reference_ms"], 0, 1e9)
    else:
        if not isinstance(row["runs"], dict) or not row["runs"]:
            raise UsageError(f"{path}: {place}.runs must be a table of clusters")
        runs = {
            name: _run(path, f"{place}.runs.{name}", each) for name, each in row["runs"].items()
        }
    return {"kind": kind, "source": source, "reference_us": reference, "runs": runs}


def _run(path: Path, place: str, row: Any) -> Run:
    if not isinstance(row, dict):
        raise UsageError(f"{path}: {place} must be a table")
    _keys(path, place, row, ("time_ms",), ("energy_mj", "next_ms"))
    given = {key: _numbers(path, f"{place}.{key}", values) for key, values in row.items()}
    times, then = (
        tuple(1e3 * value for value in given[key]) if key in given else None
        for key in ("time_ms", "next_ms")
    )
    assert times is not None
    return Run(times, tuple(given["energy_mj"]) if "energy_mj" in given else None, then)


def _demand(path: Path, place: str, row: Mapping[str, Any]) -> Demand:
    _keys(path, place, row, ("model", "deadline_ms"), ("share", "min_accuracy", "priority"))
    deadline = _number(path, f"{place}.deadline_ms", row["deadline_ms"], 0, 1e9)
    priority = row.get("priority", 0)
    if type(priority) is not int:
        raise UsageError(f"{path}: {place}.priority must be a whole number, not {priority!r}")
    try:
        return Demand(
            _word(path, f"{place}.model", row["model"]),
            round(1e3 * deadline),
            _number(path, f"{place}.share", row.get("share", 1.0), 0, 1e9),
            _number(path, f"{place}.min_accuracy", row.get("min_accuracy", 0.0), 0, 100),
            priority,
        )
    except UsageError as error:
        raise (
            error if str(error).startswith(str(path)) else UsageError(f"{path}: {place}: {error}")
        ) from error


def _load(path: Path, place: str, text: Any) -> Load:
    try:
        return Load(text)
    except ValueError:
        valid = ", ".join(load.value for load in Load)
        raise UsageError(f"{path}: {place}.load must be one of {valid}, not {text!r}") from None


def _number(path: Path, place: str, value: Any, low: float, high: float) -> float:
    if type(value) not in (int, float) or not (math.isfinite(value) and low <= value <= high):
        raise UsageError(
            f"{path}: {place} must be a number from {low:g} to {high:g}, not {value!r}"
        )
    return float(value)


def _numbers(path: Path, place: str, values: Any) -> list[float]:
    if not isinstance(values, list) or not 0 < len(values) <= 256:
        raise UsageError(f"{path}: {place} must be a number for each point of the cluster")
    return [_number(path, place, value, 0, 1e9) for value in values]


def _word(path: Path, place: str, value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 500:
        raise UsageError(f"{path}: {place} must be a text, not {value!r}")
    return value


def _tables(path: Path, place: str, rows: Any) -> Sequence[Mapping[str, Any]]:
    if not isinstance(rows, list) or len(rows) > MAX_VARIANTS:
        raise UsageError(f"{path}: {place} must be at most {MAX_VARIANTS} tables")
    if any(not isinstance(row, dict) for row in rows):
        raise UsageError(f"{path}: {place} must be tables, written [[{place}]]")
    return rows


def _keys(
    path: Path, place: str, row: Mapping[str, Any], needed: Sequence[str], more: Sequence[str]
) -> None:
    dot = f"{place}: " if place else ""
    if missing := [key for key in needed if key not in row]:
        raise UsageError(f"{path}: {dot}{', '.join(missing)} must be given")
    if unknown := [key for key in row if key not in (*needed, *more)]:
        raise UsageError(
            f"{path}: {dot}unknown {', '.join(unknown)}; valid: {', '.join((*needed, *more))}"
        )
