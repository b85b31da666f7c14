"""Training through noise: what the network computes then, what it learns, and that it goes on where
it was."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from flow.ops import IntArray
from flow.qat import checkpoint
from flow.qat import train as training
from flow.qat.formats import Format
from flow.qat.network import Network, float_network, quantized_network
from flow.qat.noise import noisy
from flow.qat.quantizers import quietly
from flow.qat.recipe import Recipe
from flow.qat.result import Phase, Progress, TrainResult, finished
from flow.qat.train import train
from flow.qat.tuning import Tuning, digest_of
from flow.target import Noise
from tests.qat.support import MLP, SEPARABLE
from tests.qat.test_train import Killed, assert_same_training, contents, digits_of, kill_after

SMALL = dataclasses.replace(MLP, float_epochs=1)


def errors(layer: str, weights: IntArray, seed: int, number: int) -> NDArray[np.float64]:
    rng = np.random.default_rng([seed, number, *weights.shape, *layer.encode()])
    return weights + rng.normal(0, 0.3, weights.shape)


NOISE = Noise("normal errors", errors)
NONE = Noise("none", lambda _, weights, __, ___: weights.astype(np.float64))


def network_of(recipe: Recipe) -> Network:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        x = torch.from_numpy(digits_of(recipe).train_x[:200])
        return quantized_network(recipe, float_network(recipe).eval(), x).eval()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    return train(SMALL, tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def tuned(plain: TrainResult, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    return train(SMALL, tmp_path_factory.mktemp("tuned"), tuning=Tuning(NOISE, plain.folder))


@pytest.mark.parametrize("recipe", [MLP, SEPARABLE], ids=["dense", "convolutions"])
def test_a_layer_computes_with_noisy_weights_and_learns_through_them(recipe: Recipe) -> None:
    """Against torch's own layers with those weights; the gradient is theirs."""
    network = network_of(recipe)
    weighted = [row.name for row in recipe.summary() if row.weight is not None]
    with torch.no_grad():
        for name in weighted:
            network.get_submodule(name).bias.zero_()
    inputs: dict[str, torch.Tensor] = {}

    def see(name: str, _: nn.Module, given: tuple[Any, ...]) -> None:
        inputs[name] = getattr(given[0], "value", given[0]).detach()

    with noisy(network, NOISE, 7, 3):
        found = network.values(torch.from_numpy(digits_of(recipe).test_x[:20]), see)
    for name in weighted:
        module: Any = network.get_submodule(name)
        exact = module.quant_weight()
        codes = torch.round(exact.value / exact.scale).long()
        groups = getattr(module, "groups", 1)
        held = errors(name, codes.numpy().reshape(groups, len(codes) // groups, -1), 7, 3)
        noise = torch.from_numpy(held.reshape(codes.shape)).float()
        weight = (noise * exact.scale).detach().requires_grad_()
        made = getattr(found[name], "value", found[name])
        expected = output(module, inputs[name], weight)
        assert torch.allclose(made, expected, atol=1e-5)
        assert not torch.allclose(made, output(module, inputs[name], exact.value), atol=1e-4)
        (wanted,) = torch.autograd.grad(expected.square().sum(), weight)
        (learned,) = torch.autograd.grad(made.square().sum(), module.weight, retain_graph=True)
        clipped = codes.abs() == codes.abs().max()  # some of them, which then learn nothing
        assert torch.allclose(learned[~clipped], wanted[~clipped], rtol=1e-3, atol=1e-3)
    quiet = network(torch.from_numpy(digits_of(recipe).test_x[:20]))
    assert not torch.allclose(quiet, list(found.values())[-1])


def output(module: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    if weight.ndim == 2:
        return nn.functional.linear(x, weight)
    return nn.functional.conv2d(
        x, weight, None, module.stride, module.padding, module.dilation, module.groups
    )


def test_the_scale_learns_what_the_noise_does_in_its_steps() -> None:
    """Noise is of codes: its derivative by the scale is the noise itself."""
    network = network_of(MLP)
    slopes = []
    for number in (0, 1):
        layer: Any = network.get_submodule("fc1")
        with noisy(network, NOISE, 0, number):
            weight = layer.quant_weight()
        (slope,) = torch.autograd.grad(weight.value.sum(), weight.scale, retain_graph=True)
        slopes.append(slope.item())
    codes = torch.round(layer.quant_weight().value / layer.quant_weight().scale).long().numpy()
    sums = [float((errors("fc1", codes[None], 0, number) - codes).sum()) for number in (0, 1)]
    assert slopes[1] - slopes[0] == pytest.approx(sums[1] - sums[0], rel=1e-3)


# --- going on


def test_noise_that_is_none_is_training_on(plain: TrainResult, tmp_path: Path) -> None:
    """Bit for bit; noise changes the weights, and a training without tuning is untouched."""
    control = train(SMALL, tmp_path / "control", tuning=Tuning(None, plain.folder))
    quiet = train(SMALL, tmp_path / "quiet", tuning=Tuning(NONE, plain.folder))
    assert control.history == quiet.history and contents(control.folder) == contents(quiet.folder)
    assert [row.phase for row in control.history] == [
        *(row.phase for row in plain.history),
        *[Phase.TUNED] * SMALL.epochs,
    ]
    assert control.history[: len(plain.history)] == plain.history
    assert contents(control.folder) != contents(plain.folder)
    assert finished(SMALL, plain.folder) == plain


def test_noise_changes_what_is_learned(plain: TrainResult, tuned: TrainResult) -> None:
    assert tuned.digest == digest_of(SMALL, Tuning(NOISE)) != plain.digest == SMALL.digest()
    assert contents(tuned.folder) != contents(plain.folder)


@pytest.mark.parametrize("epochs", [1, 4, 5])
def test_tuning_keeps_the_mean_of_its_last_half_whatever_they_are_rated(
    epochs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without noise they are not rated for what they learn."""
    seen: list[checkpoint.Checkpoint] = []
    monkeypatch.setattr(checkpoint.Saver, "keep", lambda _, state: seen.append(state))
    rated = iter(range(100, 0, -1))
    monkeypatch.setattr(training._Run, "_evaluate", lambda *_: (1.0, next(rated) / 100))
    recipe = dataclasses.replace(SMALL, epochs=epochs)
    result = train(recipe, tmp_path, tuning=Tuning(None))
    assert result.best_epoch == epochs
    tuned = [state for state in seen if state.phase is Phase.TUNED]
    half = tuned[epochs // 2 :]
    assert len(tuned) == epochs and len(half) == -(-epochs // 2)
    for name, kept in tuned[-1].best.weights.items():
        values = torch.stack([state.model[name] for state in half]).double()
        assert torch.allclose(kept.double(), values.mean(0), rtol=1e-5, atol=1e-6)
    weights = tuned[-1].best.weights["fc1.weight"]
    assert torch.equal(weights, tuned[-1].model["fc1.weight"]) == (epochs == 1)
    assert train(recipe, tmp_path / "plain").best_epoch == 1


def test_statistics_are_of_the_mean_that_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a BatchNorm stays, as before signs: no epoch had those weights."""
    networks: list[Network] = []
    export = training.export

    def see(network: Network, *rest: Any) -> None:
        networks.append(network)
        export(network, *rest)

    monkeypatch.setattr(training, "export", see)
    recipe = dataclasses.replace(SMALL, overrides=(("fc1", "act_format", Format.BINARY),))
    train(recipe, tmp_path, tuning=Tuning(NOISE))
    x, _ = training._task(recipe, digits_of(recipe)).fit
    norm: Any = networks[0].get_submodule("fc1_bn")
    with torch.no_grad(), quietly():
        sums = getattr(made := networks[0].values(x)["fc1"], "value", made)
    means = [part.mean(0) for part in torch.split(sums, recipe.batch_size)]
    assert torch.allclose(norm.running_mean, torch.stack(means).mean(0), atol=1e-5)


@pytest.mark.parametrize("known", [True, False], ids=["from its start", "from nothing"])
def test_tuning_killed_after_any_epoch_ends_with_the_same_bits(
    known: bool, plain: TrainResult, tuned: TrainResult, tmp_path: Path
) -> None:
    """Whether the training before it is there or not."""
    tuning = Tuning(NOISE, plain.folder if known else None)
    epochs = SMALL.epochs if known else len(tuned.history)
    seen: list[Progress] = []
    for _ in range(epochs):
        with pytest.raises(Killed):
            train(SMALL, tmp_path, kill_after(1), tuning=tuning)
        assert finished(SMALL, tmp_path, tuning=tuning) is None
    result = train(SMALL, tmp_path, seen.append, tuning=tuning)
    assert seen == []
    assert_same_training(result, tuned)


def test_another_tuning_is_another_training(plain: TrainResult, tuned: TrainResult) -> None:
    other = Tuning(dataclasses.replace(NOISE, identity="other"))
    assert finished(SMALL, tuned.folder, tuning=Tuning(NOISE)) == tuned
    for wrong in (None, Tuning(None), other):
        assert finished(SMALL, tuned.folder, tuning=wrong) is None
    assert finished(SMALL, plain.folder, tuning=Tuning(NOISE)) is None


def test_every_batch_sees_another_piece(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []

    def draw(layer: str, weights: IntArray, seed: int, number: int) -> NDArray[np.float64]:
        seen.append((layer, seed, number))
        return errors(layer, weights, seed, number)

    recipe = dataclasses.replace(SMALL, seed=5, epochs=2)
    train(recipe, tmp_path, tuning=Tuning(Noise("seen", draw)))
    assert len(set(seen)) == len(seen)
    assert {layer for layer, _, _ in seen} == {"fc1", "fc2"} and {s for _, s, _ in seen} == {5}
    batches = -(-1260 // SMALL.batch_size)
    assert len(seen) == 2 * 2 * batches
