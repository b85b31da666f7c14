"""Fitted estimators as plain numbers: arrays in an npz, and where they are from in JSON."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from flow.errors import FlowError, UsageError
from flow.surrogate.estimator import Estimator, Hull
from flow.surrogate.trees import Forest

ARRAYS, ABOUT = "fitted.npz", "fitted.json"
FOLDER = "fitted"
MAX_BYTES = 32 << 20
_TREES = ("feature", "threshold", "left", "right", "value")
_HULL = ("low", "high", "unit", "points")
_NUMBERS = ("base", "depth", "least", "most", "reach", "sizes", "coverage")
_OWN = ("factors", "slope", "edges", "inside", "outside")


@dataclass(frozen=True)
class Fitted:
    """An estimator and where it is from: the table and its licence, the tool whose numbers it
    tells, how many designs and groups, and more that a reader may want."""

    estimator: Estimator
    about: Mapping[str, Any]

    @property
    def source(self) -> str:
        """For figures."""
        about = self.about
        return f"{about['tool']}: fitted on {about['designs']} designs of {about['table']}"


def save(folder: Path, fitted: Mapping[str, Fitted]) -> None:
    """Write both files. Equal estimators give equal files."""
    arrays = {}
    for name, each in fitted.items():
        made, trees, hull = each.estimator, each.estimator.trees, each.estimator.hull
        for key in _TREES:
            array = getattr(trees, key)
            small = np.int16 if array.dtype == np.int64 else np.float64
            arrays[f"{name}/{key}"] = array.astype(small)
        for key in _HULL:
            arrays[f"{name}/{key}"] = getattr(hull, key)
        for key in _OWN:
            arrays[f"{name}/{key}"] = getattr(made, key)
        of = {**vars(trees), **vars(hull), **vars(made)}
        arrays[f"{name}/numbers"] = np.array([float(of[key]) for key in _NUMBERS])
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / ARRAYS, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in sorted(arrays.items()):
            # Of a fixed date, unlike what np.savez writes.
            entry = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(entry, "w") as file:
                np.save(file, array, allow_pickle=False)
    about = {name: dict(each.about) for name, each in sorted(fitted.items())}
    (folder / ABOUT).write_text(json.dumps(about, indent=1, sort_keys=True) + "\n")


def load(folder: Path) -> dict[str, Fitted]:
    """What `save` wrote.

    Raises:
        FlowError: a file is missing or damaged.
    """
    path = folder / ARRAYS
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(f"{path} must be of at most {MAX_BYTES} bytes")
        about = json.loads((folder / ABOUT).read_text())
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: Fitted(_read(arrays, name), about[name]) for name in about}
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise FlowError(f"{path} cannot be read: {error!r}; fit it again") from error


@cache
def shipped() -> Mapping[str, Fitted]:
    """The estimators that are part of this program, by name."""
    with resources.as_file(resources.files("flow.surrogate") / FOLDER) as folder:
        return load(folder)


def _read(arrays: Any, name: str) -> Estimator:
    of = dict(zip(_NUMBERS, arrays[f"{name}/numbers"].tolist(), strict=True))
    if not all(math.isfinite(value) for value in of.values()):
        raise ValueError(f"{name}: its numbers must be finite")
    feature, threshold, left, right, value = (arrays[f"{name}/{key}"] for key in _TREES)
    feature, left, right = (array.astype(np.int64) for array in (feature, left, right))
    trees = Forest(of["base"], feature, threshold, left, right, value, int(of["depth"]))
    low, high, unit, points = (arrays[f"{name}/{key}"] for key in _HULL)
    hull = Hull(low, high, unit, points, of["reach"], int(of["sizes"]))
    factors, slope, edges, inside, outside = (arrays[f"{name}/{key}"] for key in _OWN)
    if not len(low) == len(high) == len(unit) == points.shape[1] == len(slope) - 1:
        raise ValueError(f"{name}: its arrays must be of one number of features")
    if not len(inside) == len(outside) == len(edges) + 1:
        raise ValueError(f"{name}: it must have a half-width for each size")
    if trees.feature.max(initial=0) >= len(low):
        raise ValueError(f"{name}: its trees look at features that there are not")
    return Estimator(
        factors,
        trees,
        slope,
        of["least"],
        of["most"],
        hull,
        edges,
        inside,
        outside,
        of["coverage"],
    )
