"""Options are the fields of frozen dataclasses; text such as `reuse_factor=4` parses into them.

The field's type decides how its text is read (bool, int, float, str, Enum), the dataclass's own
`__post_init__` checks ranges and raises `UsageError`. There is no second schema.
"""

from __future__ import annotations

import dataclasses
import difflib
import enum
import functools
import math
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from flow.errors import UsageError

T = TypeVar("T")

_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})


def split_assignments(text: str) -> dict[str, str]:
    """Read `"a=1 conv1.bits=3"` into `{"a": "1", "conv1.bits": "3"}`.

    Raises:
        UsageError: a word is not of the form key=value, or a key stands twice.
    """
    found: dict[str, str] = {}
    for word in text.split():
        key, sep, value = word.partition("=")
        if not (key and sep and value):
            raise UsageError(f"OPTS: {word!r} must be of the form key=value")
        if key in found:
            raise UsageError(f"OPTS: {key!r} is given twice")
        found[key] = value
    return found


def option_types(cls: type) -> Mapping[str, type]:
    """The fields of `cls` that can be set as text, with their types, in order."""
    return _option_types(cls)


@functools.cache
def _option_types(cls: type) -> Mapping[str, type]:
    hints = typing.get_type_hints(cls)
    return {
        field.name: hints[field.name]
        for field in dataclasses.fields(cls)
        if _readable(hints[field.name])
    }


def _readable(kind: Any) -> bool:
    return isinstance(kind, type) and (
        kind in (bool, int, float, str) or issubclass(kind, enum.Enum)
    )


def parse_value(name: str, kind: type, text: str) -> Any:
    """Read `text` as a value of type `kind`; `name` is named in the error.

    Raises:
        UsageError: the text is not a value of that type.
    """
    if kind is bool:
        lowered = text.lower()
        if lowered in _TRUE | _FALSE:
            return lowered in _TRUE
        raise UsageError(f"option {name} must be true or false, not {text!r}")
    if issubclass(kind, enum.Enum):
        for member in kind:
            if member.value == text:
                return member
        valid = ", ".join(str(member.value) for member in kind)
        raise UsageError(f"option {name} must be one of {valid}, not {text!r}")
    if kind is int:
        try:
            return int(text)
        except ValueError:
            raise UsageError(f"option {name} must be a whole number, not {text!r}") from None
    if kind is float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise UsageError(f"option {name} must be a finite number, not {text!r}")
        return number
    return text


def show_value(value: Any) -> Any:
    """The JSON-able form of an option's value, as a user would type it."""
    return value.value if isinstance(value, enum.Enum) else value


def with_options(base: T, assignments: Mapping[str, str]) -> T:
    """A copy of the dataclass instance `base` with the named fields read from text.

    Raises:
        UsageError: an unknown name (valid ones are listed), or a value of the wrong type or range.
    """
    types = option_types(type(base))
    values: dict[str, Any] = {}
    for name, text in assignments.items():
        if name not in types:
            raise unknown_name("option", name, types)
        values[name] = parse_value(name, types[name], text)
    return dataclasses.replace(base, **values)  # type: ignore[type-var]


def unknown_name(what: str, name: str, valid: typing.Iterable[str]) -> UsageError:
    """The error for a name that is not in a list: says which are, and the nearest one."""
    names = sorted(valid)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return UsageError(f"unknown {what} {name!r}{hint}; valid: {', '.join(names) or 'none'}")


def require_range(name: str, value: float, low: float, high: float) -> None:
    """Raises UsageError unless low <= value <= high."""
    if not low <= value <= high:
        raise UsageError(f"option {name} must be from {low} to {high}, not {value}")
