"""Train a recipe: the float twin first, then the quantized network that starts from it, then,
where that is asked for, this one again, through noise. A recipe's teacher comes before them all.

A run that is killed continues from its last epoch and ends with the same bits; a finished folder is
returned as it is.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import math
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from flow.artifact import locked
from flow.errors import FlowError, UsageError
from flow.qat import checkpoint as checkpoints
from flow.qat import data, hessian
from flow.qat.augment import displaced, distorted
from flow.qat.bops import Meter, bit_parameters
from flow.qat.checkpoint import Best, Checkpoint, Saver, Weights
from flow.qat.data import Split
from flow.qat.export import CHUNK, export
from flow.qat.formats import Format
from flow.qat.modules import Standardize, plain
from flow.qat.network import Network, float_network, frozen, quantized_network
from flow.qat.noise import noisy
from flow.qat.quantizers import quietly
from flow.qat.recipe import INPUT, Keep, Recipe
from flow.qat.result import (
    REFERENCE,
    TRAINING,
    Epoch,
    LayerCost,
    Phase,
    Progress,
    Reference,
    TrainResult,
    finished,
    write_result,
)
from flow.qat.teacher import divergence
from flow.qat.tuning import Tuning, averaged, digest_of
from flow.qat.twin import SAMPLES, twin_errors
from flow.roc import Roc

__all__ = ["Phase", "Progress", "TrainResult", "train"]

VALIDATION_PART = 0.1  # of the training split; chooses the epoch whose weights are kept
RANDOM_SAMPLES = (512, 1000)  # to fit and to test, for a network that is not trained
BITS_RATE = 10.0  # the learning rate of bit widths, in that of weights
QUANTIZED_COST = 4.0  # an epoch's time, in float epochs, until one was measured

Report = Callable[[Progress], None]


def train(
    recipe: Recipe,
    folder: Path,
    progress: Callable[[Progress], None] | None = None,
    split: Split | None = None,
    twins: Path | None = None,
    tuning: Tuning | None = None,
) -> TrainResult:
    """Train, or continue, or return what `folder` already holds for this very recipe.

    Leaves `model.onnx`, `reference.npz`, `checkpoint.pt` and, last, `training.json` in `folder`.
    The same recipe gives the same weights on one machine, interrupted or not: it goes on from the
    last epoch, or, where the process was killed, from one at most `Saver.SECONDS` before it.

    Args:
        split: the data, each sample of the recipe's input shape; by default the recipe's data set.
        progress: called after every epoch.
        twins: a folder where float twins are kept, for all recipes that differ in their
            quantization alone; whether one was there changes no bit of the result.
        tuning: what comes after the quantized phase, if something does.

    Raises:
        UsageError: the recipe's data set or layers do not fit.
        FlowError: the loss or a weight is no longer a number; the last good checkpoint stays.
        OSError: the folder cannot be written.
    """
    done = finished(recipe, folder, None if split is None else split.digest(), tuning)
    if done is not None:
        return done
    if recipe.untrained:
        split = _random_split(recipe)
    elif split is None:
        split = data.load(recipe.data, recipe.input_shape, front_end=recipe.front_end)
    task = _task(recipe, split)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TRAINING).unlink(missing_ok=True)
    with _reproducible(recipe.seed):
        return _Run(recipe, folder, task, progress, twins, tuning).finish()


@dataclass(frozen=True)
class _Task:
    """Samples (n, *input_shape) float32 and labels (n,) int64: to fit, to choose by, to report."""

    fit: tuple[Tensor, Tensor]
    validation: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    split: Split


def _random_split(recipe: Recipe) -> Split:
    """Samples for a network that is not trained: uniform on [0, 1), or normal if signed."""
    rng = np.random.default_rng(recipe.seed)
    draw = rng.standard_normal if recipe.standardize else rng.random
    train, test = (draw((n, *recipe.input_shape)).astype(np.float32) for n in RANDOM_SAMPLES)
    classes = recipe.summary()[-1].output_shape[0]
    labels = [np.arange(n) % classes for n in RANDOM_SAMPLES]
    held_out = np.arange(len(train)) % 10 == 0
    sound = recipe.front_end is not None
    return Split(train, labels[0], test, labels[1], sound=sound, held_out=held_out)


def _task(recipe: Recipe, split: Split) -> _Task:
    negative = recipe.standardize or recipe.input_format is Format.ASYMMETRIC
    for part, x in (("training", split.train_x), ("test", split.test_x)):
        if not bool(np.isfinite(x).all()) or not (negative or bool((x >= 0).all())):
            raise UsageError(
                f"data set {recipe.data!r}: a {part} sample holds a negative number or none at "
                f"all (NaN, infinity); inputs are quantized unsigned unless standardize=true or "
                f"input_format=asymmetric, so shift and scale them first"
            )
    if recipe.augment > 0 and split.image_shape is None and not recipe.untrained:
        raise UsageError(
            f"option augment: the samples of data set {recipe.data!r} are not images; set it to 0"
        )
    if recipe.reconstructs and not recipe.untrained and split.recordings is None:
        raise UsageError(
            f"data set {recipe.data!r}: its split must say which recordings its test samples are "
            f"parts of"
        )
    if split.held_out is None:
        fit, validation = train_test_split(
            np.arange(len(split.train_y)),
            test_size=VALIDATION_PART,
            stratify=split.train_y,
            random_state=recipe.seed,
        )
    else:
        fit, validation = np.flatnonzero(~split.held_out), np.flatnonzero(split.held_out)
    return _Task(
        fit=(torch.from_numpy(split.train_x[fit]), torch.from_numpy(split.train_y[fit])),
        validation=(
            torch.from_numpy(split.train_x[validation]),
            torch.from_numpy(split.train_y[validation]),
        ),
        test=(torch.from_numpy(split.test_x), torch.from_numpy(split.test_y)),
        split=split,
    )


@contextmanager
def _reproducible(seed: int) -> Iterator[None]:
    """Torch's random state and threads as this training needs them; restored afterwards."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]), quietly():
        torch.manual_seed(seed)
        # One thread adds in one order on any number of cores; these networks gain none from more.
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


class _Run:
    """One call of `train`: the state that its phases share."""

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        task: _Task,
        progress: Report | None,
        twins: Path | None,
        tuning: Tuning | None,
    ) -> None:
        self.recipe = recipe
        self.tuning = tuning
        self.folder = folder
        self.task = task
        self.progress = progress
        self.shuffle = torch.Generator().manual_seed(recipe.seed)
        standardize = Standardize.of(task.fit[0], task.split.sound) if recipe.standardize else None
        self.twin = float_network(recipe, standardize)
        self.history: tuple[Epoch, ...] = ()
        self.twins = twins
        self.data = task.split.digest()
        self.identity = f"{digest_of(recipe, tuning)} {self.data}"
        self.twin_identity = f"{recipe.twin_digest()} {self.data}"
        self.twin_folder: Path | None = None
        if twins is not None:
            name = hashlib.sha256(self.twin_identity.encode()).hexdigest()[:12]
            self.twin_folder = twins / name
        self.resumed = (
            checkpoints.load(self.identity, folder) or self._known_start() or self._known_twin()
        )
        self.spent = self.resumed.seconds if self.resumed else 0.0
        self.started = time.monotonic()
        self.teachers: list[Network] = []

    def finish(self) -> TrainResult:
        """All phases, the export, and the record of it all."""
        recipe = self.recipe
        best_epoch = 0
        if recipe.untrained:
            network = self._initialised()
        else:
            network, best_epoch = self._trained()
        export(network, recipe, self.task.split, self.folder)
        labelled = not recipe.untrained and not recipe.reconstructs
        compared = self.task.test[0][: recipe.at_once(SAMPLES)]
        result = TrainResult(
            folder=self.folder,
            recipe=recipe.name,
            digest=digest_of(recipe, self.tuning),
            data=self.data,
            seed=recipe.seed,
            float_accuracy=self._evaluate(self.twin, self.task.test)[1] if labelled else None,
            accuracy=_exported_accuracy(self.folder) if labelled else None,
            test_samples=len(self.task.test[1]),
            best_epoch=best_epoch,
            seconds=self._seconds(),
            costs=self._costs(network),
            twin_errors=twin_errors(recipe, self.twin, network, compared),
            twin_samples=len(compared),
            history=self.history,
            versions=_versions(),
            float_roc=None if recipe.untrained or labelled else self._twin_roc(),
        )
        write_result(result)
        return result

    def _trained(self) -> tuple[Network, int]:
        """The trained network and the epoch that its weights are from."""
        resumed = self.resumed
        self.teachers = self._taught()
        if resumed is not None and resumed.twin is not None:
            twin_weights = resumed.twin
            self.twin.load_state_dict(twin_weights)
        else:
            twin_weights = self._fit_twin()
        self.twin.eval()
        network = quantized_network(self.recipe, self.twin, self.task.fit[0])
        tuned = resumed is not None and resumed.phase is Phase.TUNED
        phases = [] if tuned else [Phase.QUANTIZED]
        phases += [] if self.tuning is None else [Phase.TUNED]
        for phase in phases:
            best = self._phase(phase, network, twin_weights)
            network.load_state_dict(best.weights)
            if phase is Phase.TUNED:
                # No epoch had the mean's weights, so that no statistics are theirs yet.
                x = self.task.fit[0]
                update_bn((x[rows] for rows in self._batches(torch.arange(len(x)))), network)
        return network.eval(), best.epoch

    def _fit_twin(self) -> Weights:
        """Train the float twin, or go on; the weights that it then has."""
        weights = self._phase(Phase.FLOAT, self.twin, None).weights
        self.twin.load_state_dict(weights)
        return weights

    def _taught(self) -> list[Network]:
        """The recipe's teachers, trained now or earlier: they are float twins of recipes, and the
        same whether they are trained here or for those."""
        told, teachers = self.progress, []

        def progress(epoch: Progress) -> None:
            if told is not None:
                told(dataclasses.replace(epoch, phase=Phase.TEACHER))

        for number, recipe in enumerate(self.recipe.teachers):
            folder = self.folder / f"{Phase.TEACHER.value}{number}"
            folder.mkdir(exist_ok=True)
            task = _task(recipe, self.task.split)  # its seed chooses what it is validated by
            with _reproducible(recipe.seed):
                run = _Run(recipe, folder, task, progress, self.twins, None)
                run._fit_twin()
            teachers.append(run.twin.eval().requires_grad_(False))
        return teachers

    def _known_start(self) -> Checkpoint | None:
        """The end of the training without tuning, where that is known."""
        if self.tuning is None or self.tuning.start is None:
            return None
        return checkpoints.load(f"{self.recipe.digest()} {self.data}", self.tuning.start)

    def _known_twin(self) -> Checkpoint | None:
        """The end of the float phase, where another training had the same one."""
        if self.twin_folder is None or self.recipe.untrained:
            return None
        return checkpoints.load(self.twin_identity, self.twin_folder)

    def _keep_twin(self, state: Checkpoint) -> None:
        folder = self.twin_folder
        if folder is None:
            return
        with locked(folder):  # another training may have the same twin
            folder.mkdir(exist_ok=True)
            try:
                checkpoints.save(state, self.twin_identity, folder)
            finally:
                for part in folder.glob("*.part"):
                    part.unlink()
                if not any(folder.iterdir()):
                    folder.rmdir()

    def _initialised(self) -> Network:
        """The network as it starts, with BatchNorm statistics of the random samples."""
        self.twin.train()
        for module in self.twin.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.momentum = None  # the mean over all batches that were seen
        with torch.no_grad():
            for rows in self._batches(torch.arange(len(self.task.fit[0]))):
                self.twin(self.task.fit[0][rows])
        return quantized_network(self.recipe, self.twin.eval(), self.task.fit[0]).eval()

    def _phase(self, phase: Phase, network: Network, twin: Weights | None) -> Best:
        """Fit `network` for the phase's epochs; its best weights on the validation split."""
        epochs = _epochs(self.recipe, phase)
        steps = len(self._batches(torch.arange(len(self.task.fit[0]))))
        first = 0
        best: Best | None = None
        resumed = self.resumed if self.resumed and self.resumed.phase is phase else None
        if resumed is not None:
            # Before the optimizer: Brevitas makes its parameters anew whenever a state is loaded.
            network.load_state_dict(resumed.model)
        optimizer = torch.optim.Adam(_groups(network, _rate(self.recipe, phase)))
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * steps)
        if resumed is not None:
            optimizer.load_state_dict(resumed.optimizer)
            scheduler.load_state_dict(resumed.scheduler)
            self.shuffle.set_state(resumed.shuffle)
            torch.set_rng_state(resumed.torch_rng)
            self.history = resumed.history
            first, best = resumed.epoch, resumed.best
        began = time.monotonic()
        with Saver(self.identity, self.folder) as saver:
            for epoch in range(first + 1, epochs + 1):
                if phase is Phase.QUANTIZED and epoch > 1 and (epoch - 1) % hessian.EVERY == 0:
                    self._set_deltas(epoch, network)
                moving = self._bits_move(phase, epoch, network)
                loss = self._epoch(phase, epoch, network, optimizer, scheduler)
                validation_loss, accuracy = self._evaluate(network, self.task.validation)
                _require_finite(phase, f"validation after epoch {epoch}", validation_loss)
                weights = {name: value.clone() for name, value in network.state_dict().items()}
                _require_finite_weights(phase, f"validation after epoch {epoch}", weights)
                merit = -validation_loss if accuracy is None else accuracy
                found = Best(epoch, merit, weights)
                if phase is Phase.TUNED:  # merit, without noise, is not what that is for
                    best = found.averaged(best, averaged(epoch, epochs))
                else:
                    # While bit widths still fall, merit alone would keep the dearest network.
                    newest = moving or self.recipe.keep is Keep.LAST
                    best = found.or_better(None if newest else best)
                self.history += (Epoch(phase, epoch, loss, validation_loss, accuracy),)
                state = Checkpoint(
                    phase=phase,
                    epoch=epoch,
                    model=weights,
                    optimizer=copy.deepcopy(optimizer.state_dict()),
                    scheduler=copy.deepcopy(scheduler.state_dict()),
                    shuffle=self.shuffle.get_state(),
                    torch_rng=torch.get_rng_state(),
                    best=best,
                    twin=twin,
                    history=self.history,
                    seconds=self._seconds(),
                )
                saver.keep(state)
                if phase is Phase.FLOAT and epoch == epochs:
                    self._keep_twin(state)
                if self.progress is not None:
                    pace = (time.monotonic() - began) / (epoch - first)
                    left = pace * (epochs - epoch)
                    if phase is Phase.FLOAT:
                        left += pace * QUANTIZED_COST * self.recipe.epochs
                    if phase is Phase.QUANTIZED and self.tuning is not None:
                        left += pace * self.recipe.epochs
                    self.progress(
                        Progress(phase, epoch, epochs, loss, validation_loss, accuracy, left)
                    )
        assert best is not None  # a recipe has at least one epoch in each phase
        return best

    def _epoch(
        self,
        phase: Phase,
        epoch: int,
        network: Network,
        optimizer: torch.optim.Optimizer,
        scheduler: torch.optim.lr_scheduler.LRScheduler,
    ) -> float:
        """One pass over the samples to fit; the mean loss."""
        network.train()
        x, y = self.task.fit
        shape = self.task.split.image_shape
        if self.recipe.augment > 0 and shape is not None:
            change = displaced if self.task.split.sound else distorted
            x = change(x, shape, self.recipe.augment, self.shuffle)
        total = 0.0
        batches = self._batches(torch.randperm(len(x), generator=self.shuffle))
        for step, rows in enumerate(batches, start=1):
            with self._noise(phase, network, epoch * len(batches) + step):
                loss = self._loss(phase, network, x[rows], y[rows])
            _require_finite(phase, f"step {step} of epoch {epoch}", loss.item())
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            scheduler.step()
            total += loss.item() * len(rows)
        return total / len(x)

    def _loss(self, phase: Phase, network: Network, x: Tensor, y: Tensor) -> Tensor:
        weight = self.recipe.bops_weight
        if phase is Phase.FLOAT or weight == 0:
            return self._error(network.values(x), x, y)
        meter = Meter(self.recipe)
        return self._error(network.values(x, meter.see), x, y) + weight * meter.share()

    def _error(self, values: dict[str, Any], x: Tensor, y: Tensor) -> Tensor:
        """What training makes small, of a network's `values` for the samples x."""
        *_, output = values.values()
        if self.recipe.reconstructs:
            return nn.functional.mse_loss(output, plain(values[INPUT]))
        labels = nn.functional.cross_entropy(output, y)
        lessons = self.recipe.teacher
        if lessons is None:
            return labels
        with torch.no_grad():
            answers = [teacher(x) for teacher in self.teachers]
        taught = divergence(plain(output), answers, lessons.temperature)
        return (1 - lessons.share) * labels + lessons.share * taught

    def _bits_move(self, phase: Phase, epoch: int, network: Network) -> bool:
        """Whether bit widths are learned in this epoch: they are in the phase's first half."""
        moving = phase is Phase.QUANTIZED and 2 * epoch <= self.recipe.epochs
        parameters = bit_parameters(network)
        for parameter in parameters:
            parameter.requires_grad_(moving)
            if not moving:
                parameter.grad = None  # Adam moves what has one, by momentum alone
        return moving and bool(parameters)

    def _costs(self, network: Network) -> tuple[LayerCost, ...]:
        meter = Meter(self.recipe)
        x = self.task.test[0][:1]
        with torch.no_grad():
            frozen(network, x).values(x, meter.see)
        return tuple(meter.costs)

    def _set_deltas(self, epoch: int, network: Network) -> None:
        # A generator of its own: a resumed run draws the same.
        generator = torch.Generator().manual_seed(self.recipe.seed + 1_000_003 * epoch)
        x, y = self.task.fit
        batches = self._batches(torch.randperm(len(x), generator=generator))
        network.eval()  # statistics of BatchNorm are not for this

        def loss(number: int) -> Tensor:
            rows = batches[number % len(batches)]
            return self._error(network.values(x[rows]), x[rows], y[rows])

        hessian.set_deltas(network, loss, generator)

    def _batches(self, order: Tensor) -> list[Tensor]:
        # BatchNorm cannot learn from one sample; shuffling leaves out another one each time.
        return [rows for rows in torch.split(order, self.recipe.batch_size) if len(rows) > 1]

    def _noise(self, phase: Phase, network: Network, number: int) -> AbstractContextManager[None]:
        """The network on that piece of hardware, in tuning with noise."""
        if phase is not Phase.TUNED or self.tuning is None or self.tuning.noise is None:
            return nullcontext()
        return noisy(network, self.tuning.noise, self.recipe.seed, number)

    def _evaluate(
        self, network: Network, samples: tuple[Tensor, Tensor]
    ) -> tuple[float, float | None]:
        """Mean loss and, of classes, accuracy (0 to 1) in eval mode."""
        x, y = samples
        if self.recipe.reconstructs:
            return self._squares(network, x).mean().item(), None
        network.eval()
        with torch.no_grad():
            parts = torch.split(x, self.recipe.at_once(CHUNK))
            output = torch.cat([network(part) for part in parts])
            loss = nn.functional.cross_entropy(output, y).item()
        return loss, float((output.argmax(1) == y).double().mean())

    def _squares(self, network: Network, x: Tensor) -> Tensor:
        """Mean squared difference (n,) float64 of each sample's output and input, in eval mode."""
        network.eval()
        found = []
        with torch.no_grad():
            for part in torch.split(x, self.recipe.at_once(CHUNK)):
                values = network.values(part)
                *_, output = values.values()
                found.append((output - plain(values[INPUT])).double().square().mean(1))
        return torch.cat(found)

    def _twin_roc(self) -> Roc:
        recordings = self.task.split.recordings
        assert recordings is not None  # the task was refused without
        x, y = self.task.test
        return Roc.of_parts(self._squares(self.twin, x).numpy(), y.numpy(), recordings)

    def _seconds(self) -> float:
        return self.spent + time.monotonic() - self.started


def _exported_accuracy(folder: Path) -> float:
    """Of the file's constants in exact enough arithmetic, which float32 at many bits is not."""
    reference = Reference.load(folder / REFERENCE)
    return float((reference.y.argmax(1) == reference.labels).mean())


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


def _groups(network: Network, rate: float) -> list[dict[str, Any]]:
    """Bit widths have whole bits to go, weights fractions of one: they learn faster."""
    bits = bit_parameters(network)
    chosen = {id(parameter) for parameter in bits}
    others = [p for p in network.parameters() if id(p) not in chosen]
    groups: list[dict[str, Any]] = [{"params": others, "lr": rate}]
    return [*groups, {"params": bits, "lr": BITS_RATE * rate}] if bits else groups


def _epochs(recipe: Recipe, phase: Phase) -> int:
    return recipe.float_epochs if phase is Phase.FLOAT else recipe.epochs


def _rate(recipe: Recipe, phase: Phase) -> float:
    return recipe.learning_rate if phase is Phase.FLOAT else recipe.learning_rate / 2


def _versions() -> tuple[tuple[str, str], ...]:
    packages = ("torch", "brevitas", "numpy", "onnx", "qonnx")
    return (("python", platform.python_version()), *((name, version(name)) for name in packages))
