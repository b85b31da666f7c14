"""Tables in CSV files, which others may have written: small enough, with the columns that are
needed, and errors that name the line."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from flow.errors import UsageError

T = TypeVar("T")


@dataclass(frozen=True)
class CsvTable:
    """A file of at most `most` bytes whose first line names `columns` at least. In messages, `row`
    is what a row should be, and `advice` what to do."""

    path: Path
    columns: tuple[str, ...]
    most: int
    row: str
    advice: str = ""

    def text(self) -> str:
        """Raises UsageError where the file is too large, or cannot be read."""
        try:
            if self.path.stat().st_size > self.most:
                raise UsageError(f"{self.path} must be of at most {self.most} bytes")
            return self.path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise self._error(f" cannot be read: {error}") from error

    def rows(self, text: str, read: Callable[[dict[str, str]], T]) -> list[T]:
        """What `read` makes of each row of the file's text, its cells by their columns; it may
        raise KeyError, ValueError and UsageError.

        Raises:
            UsageError: a column is missing, or a row has not the cells of the first line, or not
                those that `read` wants.
        """
        lines = csv.reader(io.StringIO(text))
        found = []
        try:
            head = next(lines, [])
            for cells in lines if set(self.columns) <= set(head) else ():
                if len(cells) != len(head):
                    raise ValueError(f"{len(cells)} cells, not {len(head)}")
                found.append(read(dict(zip(head, cells, strict=True))))
        except (KeyError, ValueError, UsageError, csv.Error) as error:
            said = f" line {lines.line_num} is no {self.row}: {error}"
            raise self._error(said) from error
        if missing := [name for name in self.columns if name not in head]:
            raise self._error(
                f": its first line must name the columns {', '.join(self.columns)}; "
                f"{missing[0]} is missing"
            )
        return found

    def _error(self, said: str) -> UsageError:
        return UsageError(f"{self.path}{said}" + (f"; {self.advice}" if self.advice else ""))
