"""Reading a user's arrays and data sets: .npy, .npz, .csv or a folder with x.npy and y.npy.

Files are untrusted: no pickle, sizes bounded.
"""

from __future__ import annotations

import contextlib
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.errors import UsageError
from flow.idx import Part, is_idx_folder, read_idx

MAX_BYTES = 4 << 30

_DAMAGED = (
    *(ValueError, OSError, EOFError, SyntaxError, tokenize.TokenError, RecursionError),
    *(MemoryError, OverflowError, TypeError),  # a header that asks for an impossible shape
    *(zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError),
)


@dataclass(frozen=True, eq=False)
class Labelled:
    """Samples x (n, ...) and labels y (n,). `recordings` (n,) numbers what samples are parts of;
    None where each stands for itself."""

    x: NDArray[Any]
    y: NDArray[np.int64]
    recordings: NDArray[np.int64] | None = None


def read_array(path: Path) -> NDArray[Any]:
    """The array in a .npy file. Raises UsageError."""
    _need_file(path)
    with _reading(path, ".npy array"), path.open("rb") as file:
        array = np.load(file, allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise UsageError(f"{path} holds several arrays; give one .npy array")
    return _numeric(path, array)


def read_labelled(path: Path, shape: tuple[int, ...]) -> Labelled:
    """Samples of `shape` with labels: .npz with x and y, a folder with x.npy and y.npy or with
    MNIST's idx files (their test split, 0 to 1), or a .csv of numbers without a header, the label
    last. Samples may also be flat.

    Raises:
        UsageError: no such file, another format, or shapes that do not fit.
    """
    kind = path.suffix.lower()
    if path.is_dir() and is_idx_folder(path):
        x, y = read_idx(path, Part.TEST)
    elif path.is_dir():
        x, y = read_array(path / "x.npy"), read_array(path / "y.npy")
    elif kind == ".npz":
        x, y = _npz(path)
    elif kind == ".csv":
        table = _csv(path)
        x, y = table[:, :-1], table[:, -1]
    else:
        raise UsageError(f"DATA={path}: must be a folder, .npz or .csv")
    if y.ndim != 1 or x.ndim < 2 or len(x) != len(y) or not len(x):
        raise UsageError(
            f"DATA={path}: samples of shape {x.shape} do not go with labels of shape {y.shape}; "
            f"they must be (n, ...) and (n,)"
        )
    if not _reshapes(x.shape[1:], shape):
        raise UsageError(f"DATA={path}: samples must be of shape {shape}, not {x.shape[1:]}")
    if (y.dtype.kind == "f" and (np.abs(y) > 1 << 53).any()) or (y != np.rint(y)).any():
        raise UsageError(f"DATA={path}: labels must be whole numbers")
    return Labelled(x.reshape(-1, *shape), y.astype(np.int64))


def _reshapes(given: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether a reshape keeps every entry's place: channels-last images, for one, it scrambles."""
    if int(np.prod(given)) != int(np.prod(shape)):
        return False
    real, wanted = ([extent for extent in s if extent != 1] for s in (given, shape))
    return real == wanted or len(real) <= 1 or len(wanted) <= 1


def _npz(path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    _need_file(path)
    with _reading(path, ".npz archive"):
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > MAX_BYTES:
            raise UsageError(f"{path}: unpacks to more than {MAX_BYTES >> 30} GiB")
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            found = [arrays[name] if name in arrays else None for name in ("x", "y")]
    x, y = found
    if not isinstance(x, np.ndarray) or not isinstance(y, np.ndarray):
        raise UsageError(f"{path}: must hold the arrays x (samples) and y (labels)")
    return _numeric(path, x), _numeric(path, y)


def _csv(path: Path) -> NDArray[Any]:
    _need_file(path)
    with _reading(path, "table of numbers without a header"), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of an empty table: refused below
        table = np.loadtxt(path, delimiter=",", ndmin=2)
    if table.shape[0] < 1 or table.shape[1] < 2:
        raise UsageError(f"{path}: needs rows of at least one number and the label")
    return _numeric(path, table)


def _need_file(path: Path) -> None:
    try:
        if not path.exists():
            raise UsageError(f"{path}: no such file")
        if not path.is_file():
            raise UsageError(f"{path} is not a file")
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(f"{path}: more than {MAX_BYTES >> 30} GiB are not read")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error


@contextlib.contextmanager
def _reading(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except _DAMAGED as error:
        raise UsageError(f"{path} is not a {what}: {error or type(error).__name__}") from error


def _numeric(path: Path, array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype.kind not in "iufb":
        raise UsageError(f"{path}: must hold numbers, not {array.dtype}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise UsageError(f"{path}: holds NaN or infinity")
    return array
