"""Precompiled headers change the time that g++ takes, and nothing else."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flow.tools import GXX, require, run
from targets.hls4ml.precompiled import begin_with

FLAGS = ("-O1", "-std=c++11", "-Ifirmware/types")
SOURCE = """\
#include "width.h"
#include <vector>
unsigned long sum(const std::vector<number> &of) {
    unsigned long all = 0;
    for (number n : of) all += n + WIDTH;
    return all;
}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of one source and one header, with a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a cache"))
    types = tmp_path / "project" / "firmware" / "types"
    types.mkdir(parents=True)
    write_width(types.parents[1], "short", 3)
    (types.parents[1] / "source.cpp").write_text(SOURCE)
    return types.parents[1]


def write_width(project: Path, number: str, width: int) -> None:
    text = f"#ifndef WIDTH\n#define WIDTH {width}\ntypedef {number} number;\n#endif\n"
    (project / "firmware" / "types" / "width.h").write_text(text)


def header(project: Path) -> Path | None:
    return begin_with(require(GXX), FLAGS, ("width.h",), "int more();\n", project)


def compiled(project: Path, first: Path) -> bytes:
    argv = [str(require(GXX)), *FLAGS, "-include", str(first), "-c", "source.cpp", "-o", "out.o"]
    run(argv, project, project / "log")
    return (project / "out.o").read_bytes()


def test_the_object_file_is_the_same_and_the_next_project_uses_what_is_there(
    project: Path,
) -> None:
    kept = header(project)
    assert kept is not None and Path(f"{kept}.gch").is_file()
    plain = project / "plain.h"
    plain.write_text(kept.read_text())
    expected = compiled(project, plain)
    assert compiled(project, kept) == expected
    written = Path(f"{kept}.gch").stat().st_mtime_ns
    assert header(project) == kept and Path(f"{kept}.gch").stat().st_mtime_ns == written
    assert sorted(path.suffix for path in kept.parents[1].iterdir()) == ["", ".list"]
    # g++ takes no damaged one.
    Path(f"{kept}.gch").write_bytes(b"gpch" + bytes(100))
    assert compiled(project, kept) == expected


def test_another_header_is_another_one(project: Path, tmp_path: Path) -> None:
    """One of the project, and one of the system."""
    system = tmp_path / "of the system"
    system.mkdir()
    (system / "system.h").write_text("int old;\n")
    text = f'#include "{system}/system.h"\n'
    first = begin_with(require(GXX), FLAGS, ("width.h",), text, project)
    assert first is not None
    before = compiled(project, first)
    write_width(project, "int", 4)
    second = begin_with(require(GXX), FLAGS, ("width.h",), text, project)
    assert second is not None and second != first
    assert compiled(project, second) != before
    (system / "system.h").write_text("long newer;\n")
    third = begin_with(require(GXX), FLAGS, ("width.h",), text, project)
    assert third is not None and third not in (first, second)
    assert b"newer" in compiled(project, third)


def test_two_at_once_get_one_whole_folder(project: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        found = set(pool.map(lambda _: header(project), range(2)))
    (kept,) = found
    assert kept is not None and compiled(project, kept)
    assert sorted(path.suffix for path in kept.parents[1].iterdir()) == ["", ".list"]


def test_where_nothing_can_be_kept_there_is_none(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = project / "file"
    file.touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(file))
    assert header(project) is None
    monkeypatch.setenv("XDG_CACHE_HOME", os.devnull)
    assert header(project) is None
