"""Checkpoints of a training: written whole or not at all, read only when they are this recipe's."""

from __future__ import annotations

import io
import logging
import math
import pickle
import time
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from flow.artifact import replace_bytes
from flow.qat.result import METHOD, Epoch, Phase

CHECKPOINT = "checkpoint.pt"
VERSION = (METHOD, 1)  # the second one is that of the file's form

Weights = dict[str, Tensor]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Best:
    """The weights to keep of a phase: the best on the validation split so far. `merit` is their
    accuracy there, without classes the loss with its sign changed."""

    epoch: int
    merit: float
    weights: Weights

    def or_better(self, other: Best | None) -> Best:
        """These weights or the earlier `other` ones; of equals these, as they learned longer."""
        if other is None or self.merit >= other.merit:
            return self
        return other

    def averaged(self, other: Best | None, count: int) -> Best:
        """The mean of `count` weights, which are these and those that `other` is the mean of;
        epoch, merit and whole numbers are these."""
        if other is None or count == 1:
            return self
        kept = other.weights
        weights = {
            name: kept[name] + (value - kept[name]) / count if value.is_floating_point() else value
            for name, value in self.weights.items()
        }
        return replace(self, weights=weights)


@dataclass(frozen=True)
class Checkpoint:
    """Everything from which a training continues as if it had never stopped.

    `epoch` epochs of `phase` are done. `twin` holds the float phase's best weights once the
    quantized phase has begun. `model`, `optimizer` and `scheduler` are state dicts, `shuffle` and
    `torch_rng` the states of the two random generators.
    """

    phase: Phase
    epoch: int
    model: Weights
    optimizer: dict[str, Any]
    scheduler: dict[str, Any]
    shuffle: Tensor
    torch_rng: Tensor
    best: Best
    twin: Weights | None
    history: tuple[Epoch, ...]
    seconds: float


class Saver:
    """Saves a folder's newest checkpoint now and then, and, as a context, when the run stops for
    whatever reason: of short epochs the saving would take a tenth. A killed process loses the last
    SECONDS at most."""

    SECONDS = 2.0

    def __init__(self, identity: str, folder: Path) -> None:
        self._identity, self._folder = identity, folder
        self._pending: Checkpoint | None = None
        self._last = -math.inf

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._flush()

    def keep(self, checkpoint: Checkpoint) -> None:
        """Take the state after an epoch, which must not change any more."""
        self._pending = checkpoint
        if time.monotonic() - self._last >= self.SECONDS:
            self._flush()

    def _flush(self) -> None:
        if self._pending is not None:
            save(self._pending, self._identity, self._folder)
            self._pending, self._last = None, time.monotonic()


def save(checkpoint: Checkpoint, identity: str, folder: Path) -> None:
    """Replace the folder's checkpoint; `identity` names the recipe and the data.

    Raises:
        OSError: the folder cannot be written.
    """
    plain = {
        "identity": identity,
        "version": VERSION,
        "phase": checkpoint.phase.value,
        "epoch": checkpoint.epoch,
        "model": checkpoint.model,
        "optimizer": checkpoint.optimizer,
        "scheduler": checkpoint.scheduler,
        "shuffle": checkpoint.shuffle,
        "torch_rng": checkpoint.torch_rng,
        "best": [checkpoint.best.epoch, checkpoint.best.merit, checkpoint.best.weights],
        "twin": checkpoint.twin,
        "history": [{**vars(row), "phase": row.phase.value} for row in checkpoint.history],
        "seconds": checkpoint.seconds,
    }
    content = io.BytesIO()
    torch.save(plain, content)
    replace_bytes(folder / CHECKPOINT, content.getvalue())


def load(identity: str, folder: Path) -> Checkpoint | None:
    """The folder's checkpoint of this very recipe and data; None, with a warning, if it is not
    usable."""
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        # A zip's checksums tell a damaged file from a whole one; torch itself skips them.
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"checksum of {damaged} is wrong")
        plain = torch.load(path, map_location="cpu", weights_only=True)
        if (plain["identity"], plain.get("version")) != (identity, VERSION):
            _log.warning("%s belongs to another recipe, data or version: starting over", path)
            return None
        return _from_plain(plain)
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RuntimeError,
        EOFError,
        pickle.UnpicklingError,
        zipfile.BadZipFile,
    ) as error:
        _log.warning("%s is damaged (%s): starting over", path, str(error).split("\n")[0])
        return None


def _from_plain(plain: dict[str, Any]) -> Checkpoint:
    return Checkpoint(
        phase=Phase(plain["phase"]),
        epoch=int(plain["epoch"]),
        model=dict(plain["model"]),
        optimizer=dict(plain["optimizer"]),
        scheduler=dict(plain["scheduler"]),
        shuffle=plain["shuffle"],
        torch_rng=plain["torch_rng"],
        best=Best(*plain["best"]),
        twin=plain["twin"],
        history=tuple(Epoch(**{**row, "phase": Phase(row["phase"])}) for row in plain["history"]),
        seconds=float(plain["seconds"]),
    )
