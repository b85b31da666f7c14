"""TOML tables as frozen dataclasses: every key is a field, nothing is guessed."""

from __future__ import annotations

import dataclasses
import enum
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from flow.errors import UsageError

T = TypeVar("T")
LONGEST = 64  # entries of a list


def read_table(cls: type[T], where: str, row: Any) -> T:
    """The dataclass `cls` from a TOML table; fields that are dataclasses, or those and None, are
    tables in it. What the dataclass's own __post_init__ finds wrong is told with the place.

    Raises:
        UsageError: a key is unknown or missing, or a value is of the wrong type or range.
    """
    if not isinstance(row, Mapping):
        raise UsageError(f"{where} must be a table, not {row!r}")
    kinds = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    if unknown := [key for key in row if key not in fields]:
        raise UsageError(f"{where}: unknown key {', '.join(unknown)}; valid: {', '.join(fields)}")
    needed = [name for name, field in fields.items() if field.default is dataclasses.MISSING]
    if missing := [name for name in needed if name not in row]:
        raise UsageError(f"{where}: {', '.join(missing)} must be given")
    values = {key: _value(kinds[key], f"{where}: {key}", item) for key, item in row.items()}
    try:
        return cls(**values)
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from error


def _value(kind: Any, where: str, item: Any) -> Any:
    if isinstance(kind, types.UnionType):  # a table that may be left out
        (kind,) = (part for part in typing.get_args(kind) if part is not type(None))
    if dataclasses.is_dataclass(kind):
        return read_table(kind, where, item)  # type: ignore[arg-type]
    if typing.get_origin(kind) is tuple:
        if not isinstance(item, list) or not 1 <= len(item) <= LONGEST:
            raise UsageError(f"{where} must be a list of 1 to {LONGEST} numbers, not {item!r}")
        return tuple(_number(where, entry) for entry in item)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        for member in kind:
            if member.value == item:
                return member
        valid = ", ".join(str(member.value) for member in kind)
        raise UsageError(f"{where} must be one of {valid}, not {item!r}")
    if kind is str:
        if not isinstance(item, str) or not item.strip():
            raise UsageError(f"{where} must be a text, not {item!r}")
        return item
    if kind is int:
        if type(item) is not int:
            raise UsageError(f"{where} must be a whole number, not {item!r}")
        return item
    return _number(where, item)


def _number(where: str, item: Any) -> float:
    if type(item) not in (int, float) or not math.isfinite(item):
        raise UsageError(f"{where} must be a finite number, not {item!r}")
    return float(item)


def within(name: str, value: float, low: float, high: float) -> None:
    """Raises ValueError unless low <= value <= high."""
    if not low <= value <= high:
        raise ValueError(f"{name} must be from {low:g} to {high:g}, not {value:g}")
