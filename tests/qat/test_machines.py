"""Sounds of machines: features against another implementation, recordings read, split, refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from flow.features_snippet import GRID, FrontEnd, mel
from models import MODELS
from tests.qat.test_sound import tone

FRONT_END = MODELS["ad_autoencoder"]().front_end
assert FRONT_END is not None
RATE = FRONT_END.rate


def decibels(samples: NDArray[np.int16]) -> NDArray[np.float64]:
    """MLPerf Tiny's features (128, frames) as librosa's definitions have them, written out: frames
    centred on every 512th sample, a DFT by its sum, Slaney's filters of area 1, 10 log10(e + eps),
    of which the frames 50 to 249 are taken."""
    real = np.concatenate([np.zeros(512), samples / 32768.0, np.zeros(512)])
    times = np.arange(1024)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * times / 1024)
    waves = np.exp(-2j * np.pi * np.outer(np.arange(513), times) / 1024)
    centred = [real[512 * i : 512 * i + 1024] for i in range(50, 250)]
    power = np.abs(waves @ (np.array(centred) * hann).T) ** 2
    places = np.linspace(0, 15 + 27 * np.log(8) / np.log(6.4), 130)
    edges = [
        200 * place / 3 if place < 15 else 1000 * 6.4 ** ((place - 15) / 27) for place in places
    ]
    bins = np.arange(513) * 16000 / 1024
    filters = [
        2 / (edges[i + 2] - edges[i]) * np.interp(bins, edges[i : i + 3], [0.0, 1.0, 0.0])
        for i in range(128)
    ]
    found: NDArray[np.float64] = 10 * np.log10(np.array(filters) @ power + 2.220446049250313e-16)
    return found


def test_log_energies_are_those_of_the_benchmark_but_for_a_constant_of_each_band() -> None:
    """Standardizing takes scale and constant away: the network sees what the benchmark's sees."""
    rng = np.random.default_rng(0)
    samples = (rng.normal(size=11 * RATE) * 2000 + tone(440, 11, 0.2, RATE)).astype(np.int16)
    frames = FRONT_END.frames(samples)
    assert frames.shape == (200, 128)
    wanted = decibels(samples).T * np.log(10) / 10
    gap = frames - wanted
    assert np.abs(gap - gap.mean(axis=0)).max() < 1 / GRID  # each is rounded by half of that
    assert FRONT_END.inputs(samples).shape == (196, 5, 128)


def test_the_mel_scales_are_even_below_and_geometric_above_one_kilohertz() -> None:
    assert [mel(f, "slaney") for f in (0, 200 / 3, 1000)] == pytest.approx([0, 1, 15])
    assert mel(6400, "slaney") == pytest.approx(42)
    assert mel(1000) == pytest.approx(1000, abs=0.1)  # HTK's is made for that
    assert mel(700 * 9) == pytest.approx(2595)


def test_what_is_skipped_is_not_heard_and_what_is_missing_is_not_made_up() -> None:
    needed = FRONT_END.skip + FRONT_END.samples
    samples = np.random.default_rng(1).integers(-999, 999, needed).astype(np.int16)
    other = samples.copy()
    other[: FRONT_END.skip] = 0
    longer = np.concatenate([samples, np.full(9999, 77, np.int16)])
    for same in (other, longer):
        assert np.array_equal(FRONT_END.inputs(same), FRONT_END.inputs(samples))
    with pytest.raises(ValueError, match=r"128000 samples or more: 1 are missing"):
        FRONT_END.inputs(samples[:-1])
    filled = dataclasses.replace(FRONT_END, fill=True)
    silent = np.concatenate([samples[:-1], np.zeros(1, np.int16)])
    assert np.array_equal(filled.inputs(samples[:-1]), FRONT_END.inputs(silent))


@pytest.mark.parametrize("name", ["kws_dscnn", "ad_autoencoder"])
def test_settings_come_back_from_json_and_defaults_are_not_in_it(name: str, tmp_path: Path) -> None:
    """Artifacts and trainings from before a setting was there stay what they were."""
    front_end = MODELS[name]().front_end
    assert front_end is not None
    (tmp_path / "host.json").write_text(json.dumps({"features": front_end.to_json()}))
    assert FrontEnd.load(tmp_path / "host.json") == front_end
    assert ("skip" in front_end.to_json()) == (name == "ad_autoencoder")
