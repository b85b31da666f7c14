"""C simulations that were built before, by everything that they were built from.

A sweep after a change of the flow writes every project again and runs every simulation again, but
g++ only sees those whose text is new.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from flow.tools import GXX, find, version
from targets.hls4ml import csim
from targets.hls4ml.backends import FACTS, Backend
from targets.hls4ml.layers import Layer
from targets.hls4ml.project import fill

Build = Callable[[Path, list[Layer], Backend, str], None]


@contextmanager
def kept_in(cache: Path) -> Iterator[None]:
    """Have hls4ml's simulations built only where `cache` has no program of the same sources."""
    build = csim.build

    def kept(folder: Path, layers: list[Layer], backend: Backend, io_type: str) -> None:
        program = cache / sources_of(folder / "project", layers, backend, io_type)
        made = folder / "csim" / csim.PROGRAM
        if program.is_file():
            made.parent.mkdir()
            shutil.copy(program, made)
            return
        build(folder, layers, backend, io_type)
        cache.mkdir(parents=True, exist_ok=True)
        part = cache / f".{folder.name}.part"  # folders have names of their own, see mkdtemp
        shutil.copy(made, part)
        part.rename(program)

    with mock.patch.object(csim, "build", kept):
        yield


def sources_of(project: Path, layers: list[Layer], backend: Backend, io_type: str) -> str:
    """A hash of the compiler, its flags, and every file but the vectors. The weights count too,
    though a simulation reads them when it runs."""
    found = hashlib.sha256(fill("csim.cpp", project, layers, backend, io_type).encode())
    found.update(Path(csim.__file__).read_bytes())
    found.update(f"{find(GXX)} {version(GXX)} {FACTS[backend]}".encode())
    for path in sorted(project.rglob("*")):
        if path.is_file() and path.parent.name != "tb_data":
            found.update(f"{path.relative_to(project)}\0{path.stat().st_size}\0".encode())
            found.update(path.read_bytes())
    return found.hexdigest()
