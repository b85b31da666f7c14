"""Chips against IBM's aihwkit, where its package is installed: the same trained network, the same
constants, and every chip programmed anew on both sides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from flow.interp import Interpreter
from flow.plan import Events, Request, Source
from flow.target import Trial
from targets.analog.chips import Question, hits_of
from targets.analog.device import device_text, read_device
from targets.analog.montecarlo import Wanted
from targets.analog.programmed import Compensation, Condition
from tests.targets.analog_nets import layers_of
from tests.targets.analog_peers import GET, AihwkitChips

pytestmark = [
    # Theirs, at import and at each tile.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
PCM = replace(read_device("pcm", device_text("pcm")), dac=None, adc=None, conversion=None)
DAY_S = 86_400.0
CHIPS = 400
LEAST_P = 0.001
Floats = NDArray[np.float64]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """digits_mlp, trained for a moment."""
    pytest.importorskip("aihwkit", reason=f"{GET}: aihwkit")
    options = {"epochs": "4", "float_epochs": "6"}
    runs = tmp_path_factory.mktemp("aihwkit")
    return Source(Request("digits_mlp", "", options, runs=runs), Events())


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def theirs(source: Source, compensated: bool, again: bool = True) -> Floats:
    """Accuracies of chips, (CHIPS,)."""
    assert source.reference is not None
    codes, labels = source.host.quantize(source.reference.x), source.reference.labels
    chips = AihwkitChips(source.imported.graph, DAY_S, compensated)
    exact = Interpreter(source.imported.graph).run(codes)
    assert np.array_equal(chips.run(codes), exact)  # before any programming
    found = np.empty(CHIPS)
    for chip in range(CHIPS):
        chips.program(again or chip == 0)
        found[chip] = (chips.run(codes).argmax(axis=1) == labels).mean()
    return found


def ours(source: Source, compensation: Compensation, state: Path) -> Floats:
    assert source.reference is not None and source.reference.labels is not None
    codes, labels = source.host.quantize(source.reference.x), source.reference.labels
    trial = Trial(codes, lambda y, rows: y.argmax(axis=1) == labels[rows], state)
    question = Question(Wanted(CHIPS), Condition(DAY_S, compensation=compensation), 1, 0.0)
    graph = source.imported.graph
    hits = hits_of(graph, layers_of(graph, PCM), PCM, question, trial)
    return hits.mean(axis=1)


def likely(one: Floats, other: Floats) -> tuple[float, ...]:
    """The p values of tests that mean (Welch), spread (Brown and Forsythe), and all (Kolmogorov and
    Smirnov) are the same."""
    found = (
        stats.ttest_ind(one, other, equal_var=False),
        stats.levene(one, other, center="median"),
        stats.ks_2samp(one, other),
    )
    return tuple(float(each.pvalue) for each in found)


@pytest.mark.parametrize("compensation", [Compensation.NONE, Compensation.GLOBAL])
def test_accuracies_are_distributed_as_aihwkits(
    source: Source, compensation: Compensation, tmp_path: Path
) -> None:
    own = ours(source, compensation, tmp_path)
    found = theirs(source, compensation is not Compensation.NONE)
    assert min(likely(own, found)) > LEAST_P
    assert 0.8 < own.std() / found.std() < 1.25


def test_negative_one_programming_for_all_chips_is_seen(source: Source, tmp_path: Path) -> None:
    """As tutorials have it: drifting alone programs nothing."""
    own = ours(source, Compensation.NONE, tmp_path)
    found = theirs(source, compensated=False, again=False)
    assert likely(own, found)[1] < LEAST_P and found.std() < 0.8 * own.std()


def test_negative_another_age_is_seen(source: Source, tmp_path: Path) -> None:
    """Chips that are an hour old are better than those of a day."""
    own = ours(source, Compensation.NONE, tmp_path)
    graph = source.imported.graph
    young = Condition(3600.0, compensation=Compensation.NONE)
    assert source.reference is not None and source.reference.labels is not None
    codes, labels = source.host.quantize(source.reference.x), source.reference.labels
    trial = Trial(codes, lambda y, rows: y.argmax(axis=1) == labels[rows], tmp_path)
    hits = hits_of(graph, layers_of(graph, PCM), PCM, Question(Wanted(CHIPS), young, 2, 0.0), trial)
    assert min(likely(own, hits.mean(axis=1))) < LEAST_P
