"""Train a recipe once: a finished folder is read without torch, one that another process trains is
waited for."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

from flow import packages
from flow.artifact import locked, writing_to
from flow.qat.data import Split
from flow.qat.recipe import Recipe
from flow.qat.result import Progress, TrainResult, finished
from flow.qat.tuning import Tuning


def trained(
    recipe: Recipe,
    folder: Path,
    twins: Path,
    progress: Callable[[Progress], None] | None = None,
    note: Callable[[str], None] = lambda _: None,
    split: Split | None = None,
    tuning: Tuning | None = None,
) -> TrainResult:
    """What `folder` holds of this very recipe (and data, where a `split` is given), tuned as said,
    trained now if need be; float twins are kept in `twins`.

    Raises:
        ToolMissing: a package that training needs is not there.
        FlowError: as `flow.qat.train.train`.
    """
    wanted = None if split is None else split.digest()
    done = finished(recipe, folder, wanted, tuning)
    if done is not None:
        return done
    for package in packages.TRAINING:
        packages.require(package)
    with locked(folder, lambda: note("waiting for another training of this model")):
        done = finished(recipe, folder, wanted, tuning)
        return done or _train(recipe, folder, twins, progress, split, tuning)


def _train(
    recipe: Recipe,
    folder: Path,
    twins: Path,
    progress: Callable[[Progress], None] | None,
    split: Split | None,
    tuning: Tuning | None,
) -> TrainResult:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "fast_hadamard_transform package not found")
        from flow.qat.train import train  # torch takes seconds to import

    with writing_to(folder):
        folder.mkdir(exist_ok=True)
        try:
            return train(recipe, folder, progress, split, twins, tuning)
        finally:
            for part in folder.glob("*.part"):
                part.unlink(missing_ok=True)
