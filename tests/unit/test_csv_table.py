"""Tables that others wrote: read whole, or refused with the line."""

from __future__ import annotations

from pathlib import Path

import pytest

from flow.csv_table import CsvTable
from flow.errors import UsageError


def read(path: Path, text: str) -> list[tuple[str, int]]:
    path.write_text(text)
    table = CsvTable(path, ("size", "name"), 200_000, "box", "buy another")
    return table.rows(table.text(), lambda cells: (cells["name"], int(cells["size"])))


def test_columns_are_known_by_their_names(tmp_path: Path) -> None:
    text = 'name,colour,size\na,red,3\n"b, or\nc",blue,4\n'
    assert read(tmp_path / "t.csv", text) == [("a", 3), ("b, or\nc", 4)]
    assert read(tmp_path / "t.csv", "size,name\n") == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "first line must name the columns size, name; size is missing; buy another"),
        ("name,size,\na,3\n", "line 2 is no box: 2 cells, not 3; buy another"),
        ("name,size\na,3\na,3,4\n", "line 3 is no box: 3 cells, not 2"),
        ("name,size\n\n", "line 2 is no box: 0 cells"),
        ('name,size\n"a\nb",3\nc,x\n', "line 4 is no box: invalid literal .* 'x'"),
        ("name,size\n" + "a" * 140_000 + ",3\n", "line 2 is no box: field larger than"),
        ("name,size\n" + "a,3\n" * 60_000, "must be of at most 200000 bytes"),
        ("name,size\n\ud800,3\n", r"t\.csv cannot be read: .*; buy another"),
    ],
    ids=["empty", "short", "long", "blank", "not_read", "field", "large", "bytes"],
)
def test_what_is_no_table_is_refused(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(text.encode("utf-8", "surrogatepass"))
    table = CsvTable(tmp_path / "t.csv", ("size", "name"), 200_000, "box", "buy another")
    with pytest.raises(UsageError, match=said):
        table.rows(table.text(), lambda cells: int(cells["size"]))


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        CsvTable(tmp_path / "t.csv", (), 10, "box").text()
