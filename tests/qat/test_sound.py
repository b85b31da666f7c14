"""Features of sound against scipy and closed forms; recordings read, split, or refused."""

from __future__ import annotations

import dataclasses
import struct
import wave
from pathlib import Path

import numpy as np
import pytest
import scipy.fft
import scipy.signal
import torch
from hypothesis import given
from hypothesis import strategies as st

from flow.errors import UsageError
from flow.features_snippet import GRID, FrontEnd, mel, read_wav
from flow.qat import data
from flow.qat.augment import displaced
from flow.qat.modules import Standardize
from models import MODELS

KWS = MODELS["kws_dscnn"]().front_end
AD = MODELS["ad_autoencoder"]().front_end
assert KWS is not None
assert AD is not None
SILENCE = np.zeros(8000, np.int16)


def tone(
    hertz: float, seconds: float = 1.0, amplitude: float = 0.5, rate: int = 8000
) -> np.ndarray:
    times = np.arange(round(seconds * rate)) / rate
    return (amplitude * 32767 * np.sin(2 * np.pi * hertz * times)).astype(np.int16)


def write_wav(
    path: Path, samples: np.ndarray, rate: int = 8000, channels: int = 1, width: int = 2
) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
    return path


def write_fsdd(folder: Path, speakers: tuple[str, ...] = ("ann", "bob"), count: int = 12) -> Path:
    """A small set in FSDD's own form: a tone for each digit, a length for each index."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for digit in range(10):
        for number, speaker in enumerate(speakers):
            for index in range(count):
                seconds = 0.3 + 0.02 * index
                samples = tone(300 + 300 * digit + 20 * number, seconds)
                noise = rng.integers(-300, 300, len(samples)).astype(np.int16)
                write_wav(folder / f"{digit}_{speaker}_{index}.wav", samples + noise)
    return folder


# Features ---------------------------------------------------------------------------------------


def independent(samples: np.ndarray, front_end: FrontEnd) -> np.ndarray:
    """The definition once more: scipy's window, spectrogram and DCT, triangles by interpolation."""
    real = np.zeros(front_end.samples)
    real[: len(samples)] = samples[: front_end.samples] / 32768.0
    _, _, spectra = scipy.signal.stft(
        real,
        fs=front_end.rate,
        window=scipy.signal.get_window("hann", front_end.window),
        nperseg=front_end.window,
        noverlap=front_end.window - front_end.hop,
        nfft=front_end.points,
        boundary=None,
        padded=False,
    )
    # scipy divides by the window's sum
    power = np.abs(spectra * (front_end.window / 2)).T ** 2
    bins = np.fft.rfftfreq(front_end.points, 1 / front_end.rate)
    places = 2595 * np.log10(1 + bins / 700)
    edges = np.linspace(mel(front_end.low), mel(front_end.high), front_end.filters + 2)
    hertz = 700 * (10 ** (edges / 2595) - 1)
    assert np.all(np.diff(places) > 0)
    energies = np.stack(
        [
            power @ np.interp(bins, hertz[i : i + 3], [0.0, 1.0, 0.0])
            for i in range(front_end.filters)
        ],
        axis=1,
    )
    logs = np.log(energies + front_end.floor)
    return scipy.fft.dct(logs, type=2, norm="ortho", axis=1)[:, : front_end.coefficients]


@pytest.mark.parametrize("length", [1, 2000, 8000, 9500])
def test_coefficients_are_those_of_an_independent_implementation(length: int) -> None:
    rng = np.random.default_rng(length)
    samples = (rng.normal(size=length) * 3000 + tone(700, 2)[:length]).astype(np.int16)
    found = KWS.frames(samples)
    wanted = independent(samples, KWS)
    assert found.shape == wanted.shape == (49, 10)
    assert np.abs(found - wanted).max() <= 0.5 / GRID + 1e-6


@pytest.mark.parametrize("hertz", [250.0, 1000.0, 3000.0])
def test_a_tone_is_where_the_mel_scale_has_it(hertz: float) -> None:
    """A full-scale tone on a bin: power (A N / 4)^2 there and a quarter of it on either side."""
    front_end = dataclasses.replace(KWS, window=256, points=256, coefficients=0, stack=1)
    frame = front_end.frames(tone(hertz, amplitude=1.0))[10]
    corners = np.linspace(mel(20), mel(4000), 42)
    assert abs(int(frame.argmax()) + 1 - np.argmin(np.abs(corners - mel(hertz)))) <= 1
    bins = round(hertz / 31.25) + np.arange(-1, 2)
    power = np.array([0.25, 1, 0.25]) * (256 / 4) ** 2
    energies = front_end.triangles[:, bins] @ power
    heard = energies > 1
    assert heard.any()
    assert np.abs(frame[heard] - np.log(energies[heard])).max() < 0.02  # 16-bit samples


def test_silence_is_the_floor_alone() -> None:
    frames = KWS.frames(SILENCE[:10])
    assert np.abs(frames[:, 0] - np.sqrt(40) * np.log(1e-4)).max() <= 0.5 / GRID
    assert not frames[:, 1:].any()


@given(st.integers(0, 3), st.integers(-3, 3))
def test_a_delay_of_whole_hops_moves_the_frames(hops: int, gain: int) -> None:
    samples = np.zeros(8000, np.int16)
    samples[320:4000] = np.random.default_rng(gain + 9).integers(-99, 99, 3680) * 2 ** (gain + 3)
    later = np.roll(samples, hops * KWS.hop)
    length = 49 - hops
    assert np.array_equal(KWS.frames(later)[hops:], KWS.frames(samples)[:length])


def test_filters_are_triangles_that_share_all_between_the_first_and_the_last() -> None:
    bins = np.arange(129) * 8000 / 256
    first, last = (
        700 * (10 ** (np.linspace(mel(20), mel(4000), 42)[i] / 2595) - 1) for i in (1, 40)
    )
    inside = (bins >= first) & (bins <= last)
    assert np.allclose(KWS.triangles.sum(axis=0)[inside], 1)
    assert KWS.triangles.min() == 0


def test_inputs_are_stacks_of_frames_one_frame_apart() -> None:
    samples = np.random.default_rng(0).integers(-999, 999, 16000).astype(np.int16)
    front_end = dataclasses.replace(AD, skip=0, samples=0)
    frames, inputs = front_end.frames(samples), front_end.inputs(samples)
    assert frames.shape == ((16000 - 1024) // 512 + 1, 128)
    assert inputs.shape == (len(frames) - 4, 5, 128)
    assert all(np.array_equal(inputs[i], frames[i : i + 5]) for i in range(len(inputs)))
    assert KWS.inputs(samples).shape == (1, 49, 10)


def test_features_do_not_hang_on_last_bits() -> None:
    frames = KWS.frames(tone(440))
    assert np.array_equal(np.rint(frames * GRID), frames * GRID)


@pytest.mark.parametrize(
    ("samples", "says"),
    [
        (np.zeros(8000), "int16"),
        (np.zeros((2, 8000), np.int16), "one axis"),
        (np.zeros(1024, np.int16), "5 frames"),
        (np.zeros(0, np.int16), "5 frames"),
    ],
)
def test_other_samples_are_refused(samples: np.ndarray, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        dataclasses.replace(AD, skip=0, samples=0).inputs(samples)


@pytest.mark.parametrize(
    "change",
    [
        {"window": 0},
        {"points": 128},
        {"coefficients": 41},
        {"high": 4001.0},
        {"floor": 0.0},
        {"hop": 1 << 30},
        {"samples": -1},
        {"skip": -1},
        {"skip": 1 << 30},
        {"scale": "bark"},
    ],
)
def test_impossible_settings_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must|need"):
        dataclasses.replace(KWS, **change)  # type: ignore[arg-type]


# Files ------------------------------------------------------------------------------------------


def test_a_wav_file_gives_its_samples(tmp_path: Path) -> None:
    samples = tone(440, 0.1)
    assert np.array_equal(read_wav(write_wav(tmp_path / "a.wav", samples), 8000), samples)


def bad_files(folder: Path) -> list[tuple[Path, str]]:
    samples = tone(440, 0.1)
    whole = write_wav(folder / "whole.wav", samples).read_bytes()
    contents = {
        "truncated.wav": (whole[:-100], "750 samples, not the 800"),
        "headless.wav": (whole[:20], "no .wav file"),
        "empty.wav": (b"", "no .wav file"),
        "text.wav": (b"hello" * 100, "no .wav file"),
        "huge.wav": (whole[:40] + struct.pack("<I", 0x7FFFFFFE) + whole[44:], "samples, not the"),
        "float.wav": (whole[:20] + struct.pack("<H", 3) + whole[22:], "no .wav file"),
    }
    found = []
    for name, (content, says) in contents.items():
        (folder / name).write_bytes(content)
        found.append((folder / name, says))
    stereo = write_wav(folder / "stereo.wav", samples, channels=2)
    rate = write_wav(folder / "rate.wav", samples, rate=16000)
    width = write_wav(folder / "width.wav", samples.astype(np.uint8), width=1)
    return [
        *found,
        (stereo, "not 2 of 16 bits"),
        (rate, "8000 samples a second, not.*16000"),
        (width, "not 1 of 8 bits"),
    ]


def test_other_files_are_refused(tmp_path: Path) -> None:
    for path, says in bad_files(tmp_path):
        with pytest.raises(ValueError, match=says):
            read_wav(path, 8000)
    with pytest.raises(OSError, match="nowhere"):
        read_wav(tmp_path / "nowhere.wav", 8000)


def test_a_damaged_recording_stops_the_loader_with_its_name(tmp_path: Path) -> None:
    folder = write_fsdd(tmp_path / "sounds", count=11)
    path = folder / "3_bob_7.wav"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UsageError, match=r"3_bob_7\.wav: holds"):
        data.load("fsdd", (1, 49, 10), folder, KWS)


@pytest.mark.parametrize("inner", ["", "recordings"])
def test_digits_are_split_as_their_collection_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inner: str
) -> None:
    """Index 0 to 4 for testing, 5 to 9 to choose by, of every speaker and digit; no other files."""
    folder = write_fsdd(tmp_path / "fsdd" / inner)
    (folder / "README.md").write_text("no sound")
    write_wav(folder / "noise.wav", SILENCE)
    monkeypatch.setenv("BITWRIGHT_DATA", str(tmp_path))
    split = data.load("fsdd", (1, 49, 10), None, KWS)
    assert split.train_x.shape == (2 * 10 * 7, 1, 49, 10)
    assert split.test_x.shape == (2 * 10 * 5, 1, 49, 10)
    assert split.held_out is not None
    assert split.held_out.sum() == 2 * 10 * 5
    for labels in (split.test_y, split.train_y[split.held_out], split.train_y[~split.held_out]):
        assert len(set(np.bincount(labels, minlength=10))) == 1  # every digit as often
    names = sorted(f"{d}_{s}_{i}" for d in range(10) for s in ("ann", "bob") for i in range(12))
    tested = [name for name in names if int(name.split("_")[2]) < 5]
    for x, y, name in zip(split.test_x, split.test_y, tested, strict=True):
        assert y == int(name[0])
        assert np.array_equal(x, KWS.wav(folder / f"{name}.wav"))


def test_sound_that_is_not_there_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BITWRIGHT_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(UsageError, match=r"(?s)fsdd is not here.*Jakobovski.*untrained=true"):
        data.load("fsdd", (1, 49, 10), None, KWS)
    folder = write_fsdd(tmp_path / "few", count=5)
    with pytest.raises(UsageError, match="for choosing weights"):
        data.load("fsdd", (1, 49, 10), folder, KWS)
    with pytest.raises(UsageError, match="front_end"):
        data.load("fsdd", (1, 49, 10), folder)


def test_a_front_end_for_another_input_is_refused() -> None:
    with pytest.raises(UsageError, match=r"5 frames of 128"):
        dataclasses.replace(MODELS["kws_dscnn"](), front_end=AD)


def test_recipes_without_a_front_end_keep_their_digest() -> None:
    """Finished trainings are found by it."""
    assert "front_end" not in MODELS["mnist_cnn"]().to_json()
    kws = MODELS["kws_dscnn"]()
    other = dataclasses.replace(kws, front_end=dataclasses.replace(KWS, floor=1e-3))
    assert kws.digest() != other.digest()


# Training ---------------------------------------------------------------------------------------


def test_sound_is_standardized_by_coefficient() -> None:
    """A frame that is silent in nearly all recordings keeps the others' scale."""
    x = torch.randn(50, 1, 49, 10, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 11)
    x[1:, :, 40:] = 0
    y = Standardize.of(x, sound=True)(x)
    assert y.shape == x.shape
    assert torch.allclose(y.mean((0, 1, 2)), torch.zeros(10), atol=1e-5)
    assert torch.allclose(y.std((0, 1, 2), correction=0), torch.ones(10), atol=1e-5)


def test_displaced_sounds_keep_their_frames() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.zeros(200, 1, 49, 10)
    x[:, 0, 20] = torch.arange(1.0, 11.0)
    same = displaced(x, (1, 49, 10), 0.0, generator)
    assert torch.equal(same, x)
    moved = displaced(x, (1, 49, 10), 1.0, generator)
    loud = moved[:, 0, :, 9].argmax(1)
    assert 8 <= int(loud.min()) < 15 < 25 < int(loud.max()) <= 35  # 0.2 of 49, and 15 % faster
    assert len(loud.unique()) > 10
    assert torch.equal(x, displaced(x, (1, 49, 10), 0.0, generator))  # the original stays
