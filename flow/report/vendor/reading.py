"""Reading reports that anyone may have written: bounded, decoded, and number by number.

A report that ends early, or holds what its tool would not write, is refused; nothing is guessed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from flow.errors import UsageError
from flow.report.vendor.synthesis import Synthesis

MAX_BYTES = 64 << 20  # timing reports of large designs take tens of megabytes
_LARGEST = 1e15
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")


class Damaged(UsageError):
    """A report that its tool did not write like this, or not to its end."""


@dataclass(frozen=True)
class Form:
    """One form of report: how a file of that form begins, and who reads it.

    `begins` is given the file's name and its first 4,096 characters. `read` is given the text and
    the name for messages. Where `refused` says why, there is no reader.
    """

    name: str
    begins: Callable[[str, str], bool]
    read: Callable[[str, str], Synthesis] | None
    refused: str = ""


def read_text(path: Path) -> str:
    """The file as text, see `decode`. Raises Damaged where it is not there, too large, or no
    text."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise Damaged(f"{path}: cannot be read: {error.strerror}") from error
    if len(content) > MAX_BYTES:
        raise Damaged(f"{path}: is larger than {MAX_BYTES >> 20} MiB, which no report should be")
    return decode(content, str(path))


def decode(content: bytes, where: str) -> str:
    """UTF-8, or Latin-1 as Quartus writes it. Raises Damaged where it is no text."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    if found := _CONTROL.search(text):
        raise Damaged(f"{where}: is no text: it holds the character {found[0]!r}")
    return text.replace("\r\n", "\n")


def whole(text: str, where: str) -> int:
    """A count, with thousands commas or without. Raises Damaged."""
    plain = text.strip()
    if not re.fullmatch(r"\d{1,15}|\d{1,3}(,\d{3}){1,4}", plain):
        raise Damaged(f"{where}: must be a whole number, not {_short(text)}")
    return int(plain.replace(",", ""))


def real(text: str, where: str, negative: bool = False) -> float:
    """A decimal number. Raises Damaged."""
    plain = text.strip()
    if not re.fullmatch(
        rf"{'-?' if negative else ''}\d{{1,15}}(,\d{{3}}){{0,4}}(\.\d{{1,12}})?", plain
    ):
        raise Damaged(f"{where}: must be a number, not {_short(text)}")
    return float(plain.replace(",", ""))


def json_number(value: Any, where: str) -> float:
    """A number of a JSON file, or one in a string. Raises Damaged."""
    if isinstance(value, str):
        return real(value, where)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LARGEST:
        raise Damaged(f"{where}: must be a number, not {_short(value)}")
    return float(value)


def read_json(text: str, where: str) -> Any:
    """Raises Damaged where it is no JSON, or says NaN, or a key twice."""
    try:
        return json.loads(text, parse_constant=_no_constant, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{where}: is damaged or ends early: {error}; write it again") from error


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def date(text: str, where: str) -> datetime:
    """`Sun Mar 19 07:48:36 2023`, in the time zone of whoever ran the tool. Raises Damaged."""
    try:
        return datetime.strptime(" ".join(text.split()), "%a %b %d %H:%M:%S %Y")
    except ValueError as error:
        raise Damaged(f"{where}: must be a date, not {_short(text)}") from error


def require_end(text: str, where: str) -> None:
    """Raises Damaged where the last line is not ended."""
    if not text.endswith("\n"):
        raise cut(where, "its last line is not ended")


def cut(where: str, sign: str) -> Damaged:
    """The error for a report that ends early; `sign` says what shows it."""
    return Damaged(f"{where}: ends early ({sign}); copy it again, or have the tool write it again")


def close(a: float, b: float, tolerance: float) -> bool:
    return abs(a - b) <= tolerance


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
