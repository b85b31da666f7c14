"""Sounds of machines: features against another implementation, recordings read, split, refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from flow.errors import UsageError
from flow.features_snippet import GRID, FrontEnd, mel
from flow.qat import data, quantizers, sound
from flow.qat.formats import Format, Numbers, Scale
from models import MODELS
from tests.qat.test_sound import tone, write_wav

FRONT_END = MODELS["ad_autoencoder"]().front_end
assert FRONT_END is not None
RATE = FRONT_END.rate
SAMPLES = FRONT_END.skip + FRONT_END.samples


def hum(rng: np.random.Generator, whistles: bool) -> NDArray[np.int16]:
    """A motor of its own speed and loudness, 8 harmonics in noise; a broken one whistles."""
    times = np.arange(SAMPLES) / RATE
    speed, found = rng.uniform(95, 105), rng.normal(size=SAMPLES) * 0.004
    for number in range(1, 9):
        phase = 2 * np.pi * (speed * number * times + rng.random())
        found += 0.05 * rng.uniform(0.8, 1.2) / number * np.sin(phase)
    if whistles:
        for hertz in rng.uniform(2500, 7000, 3):
            found += 0.003 * np.sin(2 * np.pi * hertz * times)
    return (found * rng.uniform(0.9, 1.1) * 32767).astype(np.int16)


def write_machines(folder: Path, train: int = 12, test: int = 8) -> Path:
    """A small set in the form of DCASE's: of one machine recordings 0, 1, ... to train on, and to
    test recordings 3, 13, ... of each kind; with others that no evaluation set names. The first two
    anomalous ones sound like normal ones: nobody can tell them."""
    rng = np.random.default_rng(0)
    for part in ("train", "test"):
        (folder / part).mkdir(parents=True)
    for index in range(train):
        write_wav(folder / "train" / f"normal_id_01_{index:08d}.wav", hum(rng, False), RATE)
    for index in range(3, 10 * test, 10):
        for kind in ("normal", "anomaly"):
            path = folder / "test" / f"{kind}_id_01_{index:08d}.wav"
            write_wav(path, hum(rng, kind == "anomaly" and index > 13), RATE)
    write_wav(folder / "test" / "anomaly_id_01_00000004.wav", hum(rng, False), RATE)
    (folder / "test" / "README.md").write_text("no sound")
    return folder


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


# Files ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Few recordings of a kind; not to be changed."""
    folder = tmp_path_factory.mktemp("small") / "machines" / "dev_data" / "ToyCar"
    return write_machines(folder, train=11, test=2)


def test_recordings_are_split_by_file(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = small
    monkeypatch.setenv("BITWRIGHT_DATA", str(small.parents[2]))
    split = data.load("machines", (640,), None, FRONT_END)
    assert split.train_x.shape == (11 * 196, 640)
    assert split.test_x.shape == (4 * 196, 640)
    assert split.held_out is not None and split.recordings is not None
    names = sorted(path.name for path in (folder / "train").iterdir())
    held_out = split.held_out.reshape(11, 196)
    assert [names[i] for i in np.flatnonzero(held_out.all(axis=1))] == ["normal_id_01_00000009.wav"]
    assert held_out.any(axis=1).sum() == 1  # of no recording a part
    tested = [f"{kind}_id_01_{i:08d}.wav" for kind in ("anomaly", "normal") for i in (3, 13)]
    assert split.test_y.reshape(4, 196)[:, 0].tolist() == [1, 1, 0, 0]
    for number, name in enumerate(tested):
        mine = split.recordings == number
        assert set(split.test_y[mine]) == {int(name.startswith("anomaly"))}
        x = FRONT_END.wav(folder / "test" / name).reshape(-1, 640)
        assert np.array_equal(split.test_x[mine], x)
    assert not split.train_y.any()


@pytest.mark.parametrize("above", [0, 1, 2])
def test_recordings_are_found_below_the_folder_that_is_named(
    small: Path, monkeypatch: pytest.MonkeyPatch, above: int
) -> None:
    monkeypatch.setattr(sound, "_machine_split", lambda folder, *_: folder)
    assert sound.machines(((small, *small.parents)[above],), FRONT_END) == small


def _remove(pattern: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        for path in folder.glob(pattern):
            path.unlink()

    return damage


def _write(name: str, length: int = SAMPLES, **how: int) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        write_wav(folder / name, np.ones(length, np.int16), **{"rate": RATE, **how})

    return damage


def _cut(folder: Path) -> None:
    path = folder / "test" / "normal_id_01_00000003.wav"
    path.write_bytes(path.read_bytes()[:-100])


def _enlarge(folder: Path) -> None:
    with (folder / "train" / "normal_id_01_00000000.wav").open("ab") as file:
        file.truncate(65 << 20)


WRONG = {
    "no test": (_remove("test/*"), r"machines is not here.*3678171.*untrained=true"),
    "no anomalies": (_remove("test/anomaly*3.wav"), "normal and anomalous"),
    "nothing to choose by": (_remove("train/*9.wav"), "for choosing weights"),
    "nothing to train on": (_remove("train/*[0-8].wav"), "and for training"),
    "an anomaly to train on": (
        _write("train/anomaly_id_01_00000001.wav"),
        "train/anomaly_id_01_00000001.wav: only normal",
    ),
    "too short": (
        _write("train/normal_id_00_00000007.wav", SAMPLES - 9),
        r"train/normal_id_00_00000007.wav: .* 9 are missing",
    ),
    "another rate": (_write("train/normal_id_00_00000007.wav", rate=8000), "not .*, 8000"),
    "stereo": (_write("train/normal_id_00_00000007.wav", channels=2), "not 2 of 16 bits"),
    "cut": (_cut, "test/normal_id_01_00000003.wav: holds 127950 samples"),
    "too large": (_enlarge, "normal_id_01_00000000.wav: more than 64 MiB"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_other_collections_are_refused(small: Path, tmp_path: Path, kind: str) -> None:
    damage, says = WRONG[kind]
    folder = shutil.copytree(small, tmp_path / "ToyCar")
    damage(folder)
    with pytest.raises(UsageError, match=says):
        data.load("machines", (640,), tmp_path, FRONT_END)


def test_too_many_recordings_are_refused(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sound, "_MAX_MACHINE_FILES", 9)
    with pytest.raises(UsageError, match="more than 9 recordings"):
        data.load("machines", (640,), small, FRONT_END)


# Training ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("signed", "most", "wanted"), [(True, 4096, 1.0), (True, 2048, 2**-7), (False, 2048, 1.0)]
)
def test_of_very_many_inputs_every_second_or_so_sets_a_signed_scale(
    monkeypatch: pytest.MonkeyPatch, signed: bool, most: int, wanted: float
) -> None:
    """Every other sample is a hundred times as loud; unsigned inputs are never clipped."""
    monkeypatch.setattr(quantizers, "MOST_VALUES", most)
    x = torch.rand(8, 512, generator=torch.Generator().manual_seed(0)) * 0.9
    x[1::2] *= 100 if signed else 250
    module = quantizers.input_quantizer(Numbers(Format.INTEGER, 8, signed, Scale.PO2), x)
    assert float(module.act_quant.scale()) == wanted
