"""Learning from another network: what is learned, and that it is as reproducible as all else."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flow.errors import UsageError
from flow.qat.checkpoint import load
from flow.qat.recipe import Dense, Recipe, Teacher
from flow.qat.result import Phase, Progress, TrainResult
from flow.qat.teacher import divergence
from flow.qat.train import train
from models import MODELS
from tests.qat.support import MLP
from tests.qat.test_train import Killed, assert_same_training, contents, kill_after

TEACHER = Teacher((Dense("wide", 32), Dense("last", 10)), float_epochs=1, networks=2)
TAUGHT = dataclasses.replace(MLP, name="taught", teacher=TEACHER)


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    return train(TAUGHT, tmp_path_factory.mktemp("taught"))


def logits(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 5 * torch.randn(7, 10, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_divergence_by_its_definition(temperature: float) -> None:
    softened = [np.exp(logits(seed).numpy() / temperature) for seed in (1, 2, 3)]
    q, one, other = (z / z.sum(axis=1, keepdims=True) for z in softened)
    p = (one + other) / 2
    wanted = temperature**2 * np.mean(np.sum(p * np.log(p / q), axis=1))
    found = divergence(logits(1), [logits(2), logits(3)], temperature).item()
    assert found == pytest.approx(wanted, rel=1e-12)


def test_a_hot_divergence_is_the_squared_difference_of_logits() -> None:
    """Equation 4 of the paper: of logits whose mean is 0, over classes and the number of them."""
    ours, theirs = (z - z.mean(1, keepdim=True) for z in (logits(1), logits(2)))
    wanted = ((ours - theirs) ** 2).sum(1).mean() / (2 * ours.shape[1])
    assert divergence(ours, [theirs], 1e4).item() == pytest.approx(wanted.item(), rel=1e-3)
    assert divergence(ours, [ours], 1e4).item() == pytest.approx(0, abs=1e-6)


def test_without_a_share_the_teacher_changes_no_bit(tmp_path: Path, taught: TrainResult) -> None:
    silent = dataclasses.replace(TAUGHT, teacher=dataclasses.replace(TEACHER, share=0.0))
    alone = train(dataclasses.replace(TAUGHT, teacher=None), tmp_path / "alone")
    assert contents(train(silent, tmp_path / "silent").folder) == contents(alone.folder)
    assert contents(taught.folder) != contents(alone.folder)


@pytest.mark.parametrize("epochs", [1, 3, 5])
def test_stopped_in_any_phase_it_ends_with_the_same_bits(
    epochs: int, tmp_path: Path, taught: TrainResult
) -> None:
    with pytest.raises(Killed):
        train(TAUGHT, tmp_path, kill_after(epochs))
    again: list[Progress] = []
    result = train(TAUGHT, tmp_path, again.append)
    assert (Phase.TEACHER in {epoch.phase for epoch in again}) == (epochs < TEACHER.networks)
    assert_same_training(result, taught)


def test_a_teacher_is_trained_once_for_all_its_students(
    tmp_path: Path, taught: TrainResult
) -> None:
    twins = tmp_path / "twins"
    recipe = dataclasses.replace(TAUGHT, layers=(Dense("fc1", 9), Dense("fc2", 10)), overrides=())
    train(recipe, tmp_path / "first", twins=twins)
    seen: list[Progress] = []
    second = train(TAUGHT, tmp_path / "second", seen.append, twins=twins)
    assert {epoch.phase for epoch in seen} == {Phase.FLOAT, Phase.QUANTIZED}
    assert_same_training(second, taught)


def test_teachers_are_twins_of_recipes_with_seeds_of_their_own(taught: TrainResult) -> None:
    first, second = TAUGHT.teachers
    assert first.seed == TAUGHT.seed != second.seed and first.layers == TEACHER.layers
    assert TAUGHT.teachers != dataclasses.replace(TAUGHT, seed=1).teachers
    for number, recipe in enumerate((first, second)):
        state = load(f"{recipe.digest()} {taught.data}", taught.folder / f"teacher{number}")
        assert state is not None and state.epoch == TEACHER.float_epochs


def test_a_teacher_is_part_of_what_decides_the_network() -> None:
    other = dataclasses.replace(TEACHER, layers=(Dense("wide", 33), Dense("last", 10)))
    one = dataclasses.replace(TEACHER, networks=1)
    kinds = [None, TEACHER, other, one, dataclasses.replace(TEACHER, temperature=2.0)]
    recipes = [dataclasses.replace(TAUGHT, teacher=kind) for kind in kinds]
    assert len({recipe.digest() for recipe in recipes}) == len(kinds)
    assert len({recipe.twin_digest() for recipe in recipes}) == len(kinds)
    assert "teacher" not in recipes[0].to_json()


@pytest.mark.parametrize(
    ("recipe", "layers", "message"),
    [
        (MLP, (Dense("last", 9),), r"its teacher's outputs must be of shape \(10,\), as its own"),
        (MODELS["ad_autoencoder"](), (Dense("last", 640),), "answers are scores of classes"),
    ],
    ids=["outputs", "no classes"],
)
def test_a_teacher_of_something_else_is_refused(
    recipe: Recipe, layers: tuple[Dense, ...], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        dataclasses.replace(recipe, teacher=Teacher(layers, float_epochs=1))


@pytest.mark.parametrize(
    "change", [{"share": 1.5}, {"share": -0.1}, {"temperature": 0.0}, {"networks": 0}]
)
def test_lessons_out_of_range_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(change))} of a teacher must be"):
        dataclasses.replace(TEACHER, **change)
