"""Folders that are either complete or not there, and the manifest that says what made them.

A folder is built beside its final place, under a lock, and renamed when done; a killed run leaves
only a `.part` folder, which the next run clears away. The manifest is the proof of completeness: it
lists every file with its hash.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from flow.errors import FlowError, UsageError

MANIFEST = "manifest.json"
SCHEMA = 1

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_REFUSED = frozenset(
    {
        *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR),
        *(errno.ENAMETOOLONG, errno.EBUSY, errno.EXDEV, errno.ENOTEMPTY),
    }
)
_CLEARING_SECONDS = 10.0  # how long the programs of a killed run may go on writing


@contextlib.contextmanager
def locked(folder: Path, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the lock of `folder` (a file beside it); `waiting` is called once if someone has it.

    Raises:
        UsageError, FlowError: nothing can be written there.
    """
    path = folder.parent / f".{folder.name}.lock"
    with writing_to(folder):
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            handle = _lock(path, waiting)
        except FileNotFoundError as error:  # /proc and its like
            raise UsageError(
                f"{folder}: no folder can be made there; choose another place for the results"
            ) from error
    with handle:
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                path.unlink()  # still locked: whoever opened it before sees that it is gone


def _lock(path: Path, waiting: Callable[[], None] | None) -> TextIO:
    """The file, open and locked, and still the one of that name."""
    while True:
        handle = path.open("w")
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if waiting:
                    waiting()
                    waiting = None
                fcntl.flock(handle, fcntl.LOCK_EX)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle.fileno()), path.stat()):
                    return handle
        except BaseException:
            handle.close()
            raise
        handle.close()  # its holder removed it while we waited: lock the new one


@contextlib.contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """A new, empty folder that takes the place of `folder` when the block ends well, and is removed
    when it does not. To be used under `locked(folder)`.

    Raises:
        UsageError, FlowError: the place cannot be written to, or the disk is full.
    """
    stage = folder.parent / f".{folder.name}.part"
    old = folder.parent / f".{folder.name}.old"
    with writing_to(folder):
        for left_over in (stage, old):
            _clear(left_over)
        stage.mkdir()
        try:
            yield stage
            if folder.exists():
                folder.rename(old)
            stage.rename(folder)
        except BaseException:
            if old.exists() and not folder.exists():
                old.rename(folder)
            shutil.rmtree(stage, ignore_errors=True)
            raise
        shutil.rmtree(old, ignore_errors=True)


def _clear(path: Path) -> None:
    """Remove a folder or file, if there. A compiler that outlived its killed run may still put
    files into it."""
    end = time.monotonic() + _CLEARING_SECONDS
    while path.is_symlink() or path.exists():
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno != errno.ENOTEMPTY or time.monotonic() > end:
                raise
            time.sleep(0.05)


@contextlib.contextmanager
def writing_to(place: Path) -> Iterator[None]:
    """Turns the operating system's refusals to write into errors that say what to do.

    Raises:
        UsageError: this place cannot be written.
        FlowError: the disk is full.
    """
    try:
        yield
    except OSError as error:
        named = error.filename
        where = named if isinstance(named, str) and named != str(place) else ""
        detail = f"{where}: {error.strerror}" if where else f"{error.strerror or 'while writing'}"
        if _is_full(error):
            raise FlowError(
                f"{place}: the disk is full ({detail}); free some space and run again"
            ) from error
        if error.errno in _REFUSED:
            raise UsageError(
                f"{place}: cannot be written ({detail}); choose another place for the results"
            ) from error
        raise


def _is_full(error: OSError) -> bool:
    """Copying a folder collects its errors as text, numpy tells how much it could not write."""
    if isinstance(error, shutil.Error):
        return any(f"[Errno {number}]" in str(error) for number in _FULL)
    return error.errno in _FULL or (error.errno is None and " requested and " in str(error))


def user_cache() -> Path:
    """What can be made or fetched again lies here, for all projects of one user.

    Raises:
        RuntimeError: the user has no home folder.
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bitwright"


def replace_bytes(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a killed run, finds the old one or the new one, whole.

    Raises:
        OSError: the folder cannot be written.
    """
    # One fixed name: what a killed run left is overwritten, not piled up.
    temporary = path.with_name(path.name + ".part")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def write_json(path: Path, body: dict[str, Any]) -> None:
    """Write JSON so that the file is either the old one or the new one, whatever happens."""
    replace_bytes(path, (json.dumps(body, indent=1, sort_keys=True) + "\n").encode())


def write_manifest(folder: Path, body: dict[str, Any]) -> None:
    """Write the manifest: `body` plus the hash of every file in the folder."""
    files = {
        str(path.relative_to(folder)): digest(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    write_json(folder / MANIFEST, {"schema": SCHEMA, **body, "files": files})


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a complete artifact, its files checked against their hashes.

    Raises:
        UsageError: the folder is no artifact, or a file was changed or lost since.
    """
    path = folder / MANIFEST
    try:
        if not path.is_file():
            raise UsageError(f"{folder} is not an artifact: it has no {MANIFEST}; compile first")
        body = json.loads(path.read_text())
        schema, files = body["schema"], dict(body["files"])
        if schema != SCHEMA:
            raise UsageError(f"{path} is of schema {schema}, this is {SCHEMA}; compile again")
        for name, expected in files.items():
            file = folder / name
            if not file.resolve().is_relative_to(folder.resolve()):
                raise UsageError(f"{path}: {name!r} lies outside the artifact")
            if not file.is_file() or digest(file) != expected:
                raise UsageError(f"{file} was changed or lost since the compile; compile again")
    except OSError as error:
        raise UsageError(f"{folder}: cannot be read: {error}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(f"{path} is damaged: {error!r}; compile again") from error
    return dict(body)


def foreign_files(folder: Path) -> list[str]:
    """Names in `folder` that no compile put there, so that none may remove them.

    Raises:
        OSError: the folder cannot be read.
    """
    if not folder.exists():
        return []
    ours: set[str] = set()
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        body = json.loads((folder / MANIFEST).read_text())
        if isinstance(body["key"], str):  # many programs have a manifest.json
            ours = {MANIFEST, *(Path(name).parts[0] for name in dict(body["files"]))}
    return sorted(path.name for path in folder.iterdir() if path.name not in ours)


def digest(path: Path) -> str:
    """sha256 of a file, hex."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def json_digest(body: Any) -> str:
    """sha256 of what is told as JSON, hex; the order of keys does not count."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def given_folder(out: Path) -> Path:
    """OUT by the name under which a whole folder can take its place.

    Raises:
        UsageError: it holds something else, or cannot be replaced.
    """
    with writing_to(out):
        # The folder is renamed into place, so it needs a name of its own.
        named = out.resolve() if out.is_symlink() or out.name in ("", "..") else out
        if named.exists() and not named.is_dir():
            raise UsageError(f"OUT={out} is a file; choose an empty or new folder")
        if named.resolve() in (here := Path.cwd(), *here.parents) or named.is_mount():
            raise UsageError(
                f"OUT={out} is the folder that you are in, one above it, or a mount point, "
                f"which cannot be replaced; choose a new folder"
            )
        if foreign := foreign_files(named):
            raise UsageError(
                f"OUT={out} holds other files ({', '.join(foreign[:3])}), which would be lost; "
                f"choose an empty or new folder"
            )
    return named
