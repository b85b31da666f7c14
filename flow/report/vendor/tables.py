"""Tables drawn with characters, as Vivado (`|`) and Quartus (`;`) write them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from flow.report.vendor.reading import Damaged, cut

_BORDER = re.compile(r"\+[-+]*\+")


@dataclass(frozen=True)
class Table:
    """`rows` of cells with the blanks at their right cut off, and one blank at their left: the rest
    is the depth in a hierarchy. `header` is empty where a table has none."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    where: str

    def column(self, name: str) -> int:
        """Raises Damaged where there is not exactly one such column."""
        if self.header.count(name) != 1:
            raise Damaged(f"{self.where}: must have one column {name!r}, not {list(self.header)}")
        return self.header.index(name)

    def values(self) -> dict[str, str]:
        """A table of two columns as a mapping. Raises Damaged where a name stands twice."""
        rows = [(row[0].strip(), row[1].strip()) for row in self.rows if len(row) == 2]
        found = dict(rows)
        if len(rows) != len(self.rows) or len(found) != len(rows):
            raise Damaged(f"{self.where}: must have two columns and each name once")
        return found


def read_table(lines: list[str], start: int, mark: str, where: str) -> Table:
    """The table whose upper border is at lines[start].

    Raises:
        Damaged: it ends before its lower border, or a row has not as many cells as the others.
    """
    parts: list[list[tuple[str, ...]]] = []
    width = len(lines[start].rstrip())
    for line in lines[start:]:
        text = line.rstrip()
        if _BORDER.fullmatch(text):
            parts.append([])
        elif text.startswith(mark) and text.endswith(mark) and len(text) == width and parts:
            parts[-1].append(tuple(_cell(cell) for cell in text[1:-1].split(mark)))
        else:
            break
    if len(parts) < 2 or parts[-1]:
        raise cut(where, "a table has no lower border")
    # Headers stand above a border of their own, some in rows of which one spans columns.
    above, body = ([], parts[:-1]) if len(parts) == 2 else (parts[0], parts[1:-1])
    rows = tuple(row for part in body for row in part)
    cells = {len(row) for row in rows or above[-1:]}
    if len(cells) > 1:
        raise Damaged(f"{where}: a row of a table has more or fewer cells than its others")
    columns = zip(*(row for row in above if len(row) in cells), strict=True)
    return Table(tuple(_heading(column) for column in columns), rows, where)


def _cell(text: str) -> str:
    return text.rstrip().removeprefix(" ")


def _heading(cells: tuple[str, ...]) -> str:
    return " ".join(cell.strip() for cell in cells if cell.strip())


def borders(lines: list[str], start: int, stop: int) -> Iterator[int]:
    """The first border of each table between two lines."""
    inside = False
    for index in range(start, stop):
        border = bool(_BORDER.fullmatch(lines[index].rstrip()))
        if border and not inside:
            yield index
        inside = border or (inside and bool(lines[index].strip()))


def depth(cell: str) -> int:
    """How deep a row's name is indented; the outermost is 0."""
    return (len(cell) - len(cell.lstrip())) // 2


def only(found: Mapping[str, str], name: str, where: str) -> str:
    """Raises Damaged where the mapping has no such name."""
    if name not in found:
        raise Damaged(f"{where}: does not say {name!r}")
    return found[name]
