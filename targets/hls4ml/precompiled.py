"""The headers that every C simulation of a backend begins with, compiled once for all projects.

They take g++ two seconds a file; precompiled, they are mapped into memory. What is kept lies in the
user's cache folder, under the hash of everything that it was made from: the text, the flags, the
backend's headers, and size and time of the compiler and of every system header. A folder there is
complete or absent and never changes, so that any number of commands may use it at once. Where
nothing can be kept the text is compiled each time: the object file is the same, byte for byte.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
import time
from pathlib import Path

from flow.artifact import user_cache
from flow.errors import ToolFailed
from flow.tools import run

_STANDARD = ("algorithm", "cstdlib", "cstring", "fstream", "iostream", "map", "string", "vector")
_OTHERS = {Path("."), Path("firmware"), Path("firmware/nnet_utils")}
_NAME = "types.h"
_KEPT_DAYS = 30  # a folder that no command used for so long goes


def begin_with(
    gxx: Path, flags: tuple[str, ...], headers: tuple[str, ...], more: str, project: Path
) -> Path | None:
    """The header file that begins with the standard library and the `headers` of the written
    `project`, ends with the text `more`, and is precompiled; None where it cannot be kept.

    g++ must be given it first (-include), with the same flags and in the same folder.
    """
    text = "".join(f"#include <{name}>\n" for name in _STANDARD)
    text += "".join(f'#include "{name}"\n' for name in headers) + more
    searched = [os.environ.get(name, "") for name in ("CPATH", "CPLUS_INCLUDE_PATH")]
    key = _digest(str(gxx), *flags, text, *searched, *_contents(project, flags))
    with contextlib.suppress(OSError, RuntimeError, ToolFailed):
        home = user_cache().absolute() / "precompiled"
        home.mkdir(parents=True, exist_ok=True)
        listed = home / f"{key}.list"
        if listed.is_file() and (folder := home / _stamped(key, listed.read_text())).is_dir():
            os.utime(folder)
            return folder / _NAME
        _clear_old(home)
        return _made(gxx, flags, text, project, key, listed)
    return None


def _made(
    gxx: Path, flags: tuple[str, ...], text: str, project: Path, key: str, listed: Path
) -> Path:
    """Precompile into a folder of its own, then give it its name."""
    home = listed.parent
    part = Path(tempfile.mkdtemp(prefix=".part-", dir=home))
    try:
        header = part / _NAME
        header.write_text(text)
        made = ["-o", f"{header}.gch", "-MD", "-MF", str(part / "depends")]
        run([str(gxx), *flags, "-x", "c++-header", str(header), *made], project, part / "log")
        used = [name for name in _depends(part / "depends") if not name.startswith(str(part))]
        names = "\n".join([str(gxx.resolve()), *used])
        folder = home / _stamped(key, names)
        try:
            part.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another command was first
                raise
        new = home / f".{part.name}.list"
        new.write_text(names)
        new.replace(listed)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder / _NAME


def _depends(rule: Path) -> list[str]:
    """The files with absolute names in a make rule that g++ wrote."""
    words = re.split(r"(?<!\\)\s+", rule.read_text().replace("\\\n", " "))
    return sorted({name for word in words if (name := word.replace("\\ ", " ")).startswith("/")})


def _contents(project: Path, flags: tuple[str, ...]) -> list[str]:
    """Names and hashes of the headers in the project's include folders; not of its own and hls4ml's
    layers', none of which is part of the precompiled text."""
    found = []
    for flag in flags:
        folder = Path(flag.removeprefix("-I"))
        if flag.startswith("-I") and not folder.is_absolute() and folder not in _OTHERS:
            for path in sorted((project / folder).rglob("*.h")):
                found += [str(path.relative_to(project)), _digest(path.read_text("latin-1"))]
    return found


def _stamped(key: str, names: str) -> str:
    """The folder's name: the key, and size and time of what the compiler read."""
    stamps = []
    for name in names.splitlines():
        stat = os.stat(name)
        stamps.append(f"{name} {stat.st_size} {stat.st_mtime_ns}")
    return _digest(key, *stamps)


def _clear_old(home: Path) -> None:
    limit = time.time() - _KEPT_DAYS * 86400
    for path in home.iterdir():
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < limit:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()
