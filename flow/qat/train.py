"""Train a recipe: the float twin first, then the quantized network that starts from it.

A run that is killed continues from its last epoch and ends with the same bits; a finished folder is
returned as it is.
"""

from __future__ import annotations

import copy
import math
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

from flow.errors import FlowError, UsageError
from flow.qat import checkpoint as checkpoints
from flow.qat import data
from flow.qat.augment import distorted
from flow.qat.checkpoint import Best, Checkpoint, Weights
from flow.qat.export import export
from flow.qat.network import float_network, quantized_network
from flow.qat.recipe import Recipe
from flow.qat.result import (
    REFERENCE,
    TRAINING,
    Epoch,
    Phase,
    Progress,
    TrainResult,
    finished,
    write_result,
)

__all__ = ["Phase", "Progress", "TrainResult", "train"]

VALIDATION_PART = 0.1  # of the training split; chooses the epoch whose weights are kept
QUANTIZED_COST = 4.0  # an epoch's time, in float epochs, until one was measured

Report = Callable[[Progress], None]


def train(
    recipe: Recipe, folder: Path, progress: Callable[[Progress], None] | None = None
) -> TrainResult:
    """Train, or continue, or return what `folder` already holds for this very recipe.

    Leaves `model.onnx`, `reference.npz`, `checkpoint.pt` and, last, `training.json` in `folder`.
    The same recipe gives the same weights on one machine, interrupted or not.

    Args:
        progress: called after every epoch, when its checkpoint is on disk.

    Raises:
        UsageError: the recipe's data set or layers do not fit.
        FlowError: the loss or a weight is no longer a number; the last good checkpoint stays.
        OSError: the folder cannot be written.
    """
    done = finished(recipe, folder)
    if done is not None:
        return done
    task = _task(recipe)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TRAINING).unlink(missing_ok=True)
    with _reproducible(recipe.seed):
        return _Run(recipe, folder, task, progress).finish()


@dataclass(frozen=True)
class _Task:
    """Samples (n, *input_shape) float32 and labels (n,) int64: to fit, to choose by, to report."""

    fit: tuple[Tensor, Tensor]
    validation: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    image_shape: tuple[int, int, int] | None


def _task(recipe: Recipe) -> _Task:
    split = data.load(recipe.data, recipe.input_shape)
    for part, x in (("training", split.train_x), ("test", split.test_x)):
        if not bool((np.isfinite(x) & (x >= 0)).all()):
            raise UsageError(
                f"data set {recipe.data!r}: a {part} sample holds a negative number or none at "
                f"all (NaN, infinity); inputs are quantized unsigned, so shift and scale them first"
            )
    if recipe.augment > 0 and split.image_shape is None:
        raise UsageError(
            f"option augment: the samples of data set {recipe.data!r} are not images; set it to 0"
        )
    fit_x, validation_x, fit_y, validation_y = train_test_split(
        split.train_x,
        split.train_y,
        test_size=VALIDATION_PART,
        stratify=split.train_y,
        random_state=recipe.seed,
    )
    return _Task(
        fit=(torch.from_numpy(fit_x), torch.from_numpy(fit_y)),
        validation=(torch.from_numpy(validation_x), torch.from_numpy(validation_y)),
        test=(torch.from_numpy(split.test_x), torch.from_numpy(split.test_y)),
        image_shape=split.image_shape,
    )


@contextmanager
def _reproducible(seed: int) -> Iterator[None]:
    """Torch's random state and threads as this training needs them; restored afterwards."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # One thread adds in one order on any number of cores; these networks gain none from more.
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


class _Run:
    """One call of `train`: the state that its two phases share."""

    def __init__(self, recipe: Recipe, folder: Path, task: _Task, progress: Report | None) -> None:
        self.recipe = recipe
        self.folder = folder
        self.task = task
        self.progress = progress
        self.shuffle = torch.Generator().manual_seed(recipe.seed)
        self.twin = float_network(recipe)
        self.history: tuple[Epoch, ...] = ()
        self.resumed = checkpoints.load(recipe, folder)
        self.spent = self.resumed.seconds if self.resumed else 0.0
        self.started = time.monotonic()

    def finish(self) -> TrainResult:
        """Both phases, the export, and the record of it all."""
        recipe, resumed = self.recipe, self.resumed
        if resumed is not None and resumed.twin is not None:
            twin_weights = resumed.twin
        else:
            twin_weights = self._phase(Phase.FLOAT, self.twin, None).weights
        self.twin.load_state_dict(twin_weights)
        self.twin.eval()
        network = quantized_network(recipe, self.twin, self.task.fit[0])
        best = self._phase(Phase.QUANTIZED, network, twin_weights)
        network.load_state_dict(best.weights)
        network.eval()
        export(network, recipe, self.folder)
        result = TrainResult(
            folder=self.folder,
            recipe=recipe.name,
            digest=recipe.digest(),
            seed=recipe.seed,
            float_accuracy=_evaluate(self.twin, self.task.test)[1],
            accuracy=_exported_accuracy(self.folder),
            test_samples=len(self.task.test[1]),
            best_epoch=best.epoch,
            seconds=self._seconds(),
            history=self.history,
            versions=_versions(),
        )
        write_result(result)
        return result

    def _phase(self, phase: Phase, network: nn.Sequential, twin: Weights | None) -> Best:
        """Fit `network` for the phase's epochs; its best weights on the validation split."""
        epochs = _epochs(self.recipe, phase)
        steps = len(self._batches(torch.arange(len(self.task.fit[0]))))
        optimizer = torch.optim.Adam(network.parameters(), lr=_rate(self.recipe, phase))
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * steps)
        first = 0
        best: Best | None = None
        resumed = self.resumed
        if resumed is not None and resumed.phase is phase:
            network.load_state_dict(resumed.model)
            optimizer.load_state_dict(resumed.optimizer)
            scheduler.load_state_dict(resumed.scheduler)
            self.shuffle.set_state(resumed.shuffle)
            torch.set_rng_state(resumed.torch_rng)
            self.history = resumed.history
            first, best = resumed.epoch, resumed.best
        began = time.monotonic()
        for epoch in range(first + 1, epochs + 1):
            loss = self._epoch(phase, epoch, network, optimizer, scheduler)
            validation_loss, accuracy = _evaluate(network, self.task.validation)
            _require_finite(phase, f"validation after epoch {epoch}", validation_loss)
            weights = copy.deepcopy(network.state_dict())
            _require_finite_weights(phase, f"validation after epoch {epoch}", weights)
            best = Best(epoch, accuracy, weights).or_better(best)
            self.history += (Epoch(phase, epoch, loss, validation_loss, accuracy),)
            checkpoints.save(
                Checkpoint(
                    phase=phase,
                    epoch=epoch,
                    model=weights,
                    optimizer=optimizer.state_dict(),
                    scheduler=scheduler.state_dict(),
                    shuffle=self.shuffle.get_state(),
                    torch_rng=torch.get_rng_state(),
                    best=best,
                    twin=twin,
                    history=self.history,
                    seconds=self._seconds(),
                ),
                self.recipe,
                self.folder,
            )
            if self.progress is not None:
                pace = (time.monotonic() - began) / (epoch - first)
                left = pace * (epochs - epoch)
                if phase is Phase.FLOAT:
                    left += pace * QUANTIZED_COST * self.recipe.epochs
                self.progress(Progress(phase, epoch, epochs, loss, accuracy, left))
        assert best is not None  # a recipe has at least one epoch in each phase
        return best

    def _epoch(
        self,
        phase: Phase,
        epoch: int,
        network: nn.Sequential,
        optimizer: torch.optim.Optimizer,
        scheduler: torch.optim.lr_scheduler.LRScheduler,
    ) -> float:
        """One pass over the samples to fit; the mean loss."""
        network.train()
        x, y = self.task.fit
        if self.recipe.augment > 0 and self.task.image_shape is not None:
            x = distorted(x, self.task.image_shape, self.recipe.augment, self.shuffle)
        total = 0.0
        order = torch.randperm(len(x), generator=self.shuffle)
        for step, rows in enumerate(self._batches(order), start=1):
            loss = nn.functional.cross_entropy(network(x[rows]), y[rows])
            _require_finite(phase, f"step {step} of epoch {epoch}", loss.item())
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            scheduler.step()
            total += loss.item() * len(rows)
        return total / len(x)

    def _batches(self, order: Tensor) -> list[Tensor]:
        # BatchNorm cannot learn from one sample; shuffling leaves out another one each time.
        return [rows for rows in torch.split(order, self.recipe.batch_size) if len(rows) > 1]

    def _seconds(self) -> float:
        return self.spent + time.monotonic() - self.started


def _evaluate(network: nn.Sequential, samples: tuple[Tensor, Tensor]) -> tuple[float, float]:
    """Mean cross-entropy and accuracy (0 to 1) in eval mode."""
    x, y = samples
    network.eval()
    with torch.no_grad():
        output = network(x)
        loss = nn.functional.cross_entropy(output, y).item()
    return loss, float((output.argmax(1) == y).double().mean())


def _exported_accuracy(folder: Path) -> float:
    """Of the file's constants in exact enough arithmetic, which float32 at many bits is not."""
    with np.load(folder / REFERENCE) as reference:
        return float((reference["y"].argmax(1) == reference["labels"]).mean())


def _require_finite(phase: Phase, where: str, loss: float) -> None:
    if not math.isfinite(loss):
        raise _diverged(phase, where, f"the loss is {loss}")


def _require_finite_weights(phase: Phase, where: str, weights: Weights) -> None:
    # An overflowed BatchNorm statistic hides from the loss: its channel only falls silent.
    for name, value in weights.items():
        if not bool(torch.isfinite(value).all()):
            raise _diverged(phase, where, f"{name} holds infinity or NaN")


def _diverged(phase: Phase, where: str, what: str) -> FlowError:
    return FlowError(
        f"training, {phase.value} phase, {where}: {what}; try a lower learning_rate, and check "
        f"that the data's range is moderate (the checkpoint of the last good epoch is kept)"
    )


def _epochs(recipe: Recipe, phase: Phase) -> int:
    return recipe.float_epochs if phase is Phase.FLOAT else recipe.epochs


def _rate(recipe: Recipe, phase: Phase) -> float:
    return recipe.learning_rate if phase is Phase.FLOAT else recipe.learning_rate / 2


def _versions() -> tuple[tuple[str, str], ...]:
    packages = ("torch", "brevitas", "numpy", "onnx", "qonnx")
    return (("python", platform.python_version()), *((name, version(name)) for name in packages))
