"""What a training leaves behind, and whether it is already there; no torch.

A folder with a readable `training.json` whose files still have the recorded hashes is finished:
that file is written last, and at once.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from flow.artifact import replace_bytes
from flow.qat.recipe import Recipe
from flow.qat.tuning import Tuning, digest_of
from flow.roc import Roc

TRAINING = "training.json"
MODEL = "model.onnx"
REFERENCE = "reference.npz"

# Raise it when the same recipe would train to something else: finished folders are then redone.
METHOD = 3

_log = logging.getLogger(__name__)


class Phase(Enum):
    """The parts of a training; most have the float and the quantized one."""

    TEACHER = "teacher"
    FLOAT = "float"
    QUANTIZED = "quantized"
    TUNED = "tuned"


@dataclass(frozen=True)
class Progress:
    """One epoch is over: mean losses, validation accuracy (0 to 1; None without classes), seconds
    left overall."""

    phase: Phase
    epoch: int
    epochs: int
    loss: float
    validation_loss: float
    accuracy: float | None
    seconds_left: float


@dataclass(frozen=True)
class Epoch:
    """One row of the history; losses are mean cross-entropies, without classes mean squared errors;
    `accuracy` is of validation, None without classes."""

    phase: Phase
    epoch: int
    loss: float
    validation_loss: float
    accuracy: float | None


@dataclass(frozen=True)
class LayerCost:
    """A layer's weights that are not zero, output positions, and bits of weights and input."""

    layer: str
    weights: int
    positions: int
    weight_bits: int
    input_bits: int

    @property
    def bops(self) -> int:
        """Bit operations: the AND gates of the products, times the positions."""
        return self.weights * self.positions * self.weight_bits * self.input_bits


@dataclass(frozen=True)
class TwinError:
    """The root mean square difference between a module's outputs and the float twin's there, as a
    share of the root mean square of the twin's; None where the twin has only zeros."""

    module: str
    share: float | None


@dataclass(frozen=True)
class TrainResult:
    """A finished training; accuracies (0 to 1) are measured on the test split.

    `float_accuracy` is the float twin's, `accuracy` that of the reference outputs; both are None
    for a network that was only initialised, or has no classes: of such a one `float_roc` is the
    float twin's area under the ROC curve. `digest` is of the recipe and its tuning. `best_epoch` is
    the epoch of the last phase whose weights were kept, 0 for the initial ones. `seconds` is the
    time spent training, over all interrupted runs, the float twin's included where it was there
    already. `data` is the sha256 of the samples and labels. `twin_errors` are over the first
    `twin_samples` test samples; none for a training that was made before they were measured.
    """

    folder: Path
    recipe: str
    digest: str
    data: str
    seed: int
    float_accuracy: float | None
    accuracy: float | None
    test_samples: int
    best_epoch: int
    seconds: float
    costs: tuple[LayerCost, ...]
    twin_errors: tuple[TwinError, ...]
    twin_samples: int
    history: tuple[Epoch, ...]
    versions: tuple[tuple[str, str], ...]
    float_roc: Roc | None = None

    @property
    def bops(self) -> int:
        """Bit operations of one inference, over the layers with weights."""
        return sum(cost.bops for cost in self.costs)

    @property
    def model(self) -> Path:
        """The QONNX file."""
        return self.folder / MODEL

    @property
    def reference(self) -> Path:
        """The .npz that `Reference` reads."""
        return self.folder / REFERENCE


@dataclass(frozen=True, eq=False)
class Reference:
    """The test split: x (n, *input_shape) float32, the float64 outputs y (n, classes), and labels
    (n,), None for a network that was not trained; `recordings` as in `Split`."""

    x: NDArray[np.float32]
    y: NDArray[np.float64]
    labels: NDArray[np.int64] | None
    recordings: NDArray[np.int64] | None = None

    @classmethod
    def load(cls, path: Path) -> Self:
        """From the file that training wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            marks = [arrays[name] if name in arrays else None for name in ("labels", "recordings")]
            return cls(arrays["x"], arrays["y"], *marks)


def finished(
    recipe: Recipe, folder: Path, data: str | None = None, tuning: Tuning | None = None
) -> TrainResult | None:
    """The result of this very recipe, tuned as said, when `folder` holds it complete and unchanged,
    else None. With `data`, also None unless it was trained on the data with this sha256.

    A damaged or altered folder is logged as a warning; it is not an error, as training again
    repairs it.
    """
    path = folder / TRAINING
    if not path.exists():
        return None
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        if (fields["digest"], fields["method"]) != (digest_of(recipe, tuning), METHOD):
            return None
        if data is not None and fields["data"] != data:
            _log.warning("%s was trained on other data: training again", folder)
            return None
        hashes = {name: str(fields["sha256"][name]) for name in (MODEL, REFERENCE)}
        result = _from_json(folder, fields)
    except (OSError, ValueError, KeyError, TypeError) as error:
        _log.warning("%s cannot be read (%r): training again", path, error)
        return None
    for name, digest in hashes.items():
        if not (folder / name).is_file() or _sha256(folder / name) != digest:
            _log.warning("%s is missing or was changed: training again", folder / name)
            return None
    return result


def write_result(result: TrainResult) -> None:
    """Write `training.json` at once, after the files it vouches for.

    Raises:
        OSError: the model, the reference or the folder cannot be read or written.
    """
    fields = {f.name: getattr(result, f.name) for f in dataclasses.fields(result)}
    del fields["folder"]
    fields["float_roc"] = result.float_roc and dataclasses.asdict(result.float_roc)
    fields["method"] = METHOD
    fields["history"] = [
        {**dataclasses.asdict(row), "phase": row.phase.value} for row in result.history
    ]
    fields["costs"] = [dataclasses.asdict(cost) for cost in result.costs]
    fields["twin_errors"] = {error.module: error.share for error in result.twin_errors}
    fields["versions"] = dict(result.versions)
    fields["sha256"] = {name: _sha256(result.folder / name) for name in (MODEL, REFERENCE)}
    replace_bytes(result.folder / TRAINING, json.dumps(fields, indent=1).encode() + b"\n")


def _from_json(folder: Path, fields: dict[str, Any]) -> TrainResult:
    return TrainResult(
        folder=folder,
        recipe=str(fields["recipe"]),
        digest=str(fields["digest"]),
        data=str(fields["data"]),
        seed=int(fields["seed"]),
        float_accuracy=_share(fields["float_accuracy"]),
        accuracy=_share(fields["accuracy"]),
        test_samples=int(fields["test_samples"]),
        best_epoch=int(fields["best_epoch"]),
        seconds=float(fields["seconds"]),
        costs=tuple(
            LayerCost(
                layer=str(row["layer"]),
                weights=int(row["weights"]),
                positions=int(row["positions"]),
                weight_bits=int(row["weight_bits"]),
                input_bits=int(row["input_bits"]),
            )
            for row in fields["costs"]
        ),
        twin_errors=tuple(
            TwinError(str(module), _share(share))
            for module, share in fields.get("twin_errors", {}).items()
        ),
        twin_samples=int(fields.get("twin_samples", 0)),
        history=tuple(
            Epoch(
                phase=Phase(row["phase"]),
                epoch=int(row["epoch"]),
                loss=float(row["loss"]),
                validation_loss=float(row["validation_loss"]),
                accuracy=_share(row["accuracy"]),
            )
            for row in fields["history"]
        ),
        versions=tuple((str(k), str(v)) for k, v in fields["versions"].items()),
        float_roc=_roc(fields.get("float_roc")),
    )


def _share(value: float | None) -> float | None:
    return None if value is None else float(value)


def _roc(row: dict[str, Any] | None) -> Roc | None:
    if row is None:
        return None
    return Roc(float(row["area"]), int(row["normal"]), int(row["anomalous"]))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
