"""Data sets that come as files: found, read, fetched, or refused with what to do."""

from __future__ import annotations

import dataclasses
import functools
import gzip
import hashlib
import http.server
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from flow.driver import compile_model
from flow.errors import UsageError
from flow.plan import Events, Request
from flow.qat import data, download
from flow.qat.download import MNIST_FILES, download_mnist
from flow.qat.result import finished
from flow.qat.train import train
from models import MODELS
from tests.qat.support import MLP, run_qonnx

FEATURES, CLASSES = 16, ("g", "q", "t", "w", "z")


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_mnist(folder: Path, seed: int = 0, train: int = 40, test: int = 12) -> Path:
    """A small set in MNIST's own form, gzipped: each class is a bright row of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for part, count in (("train", train), ("t10k", test)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        images = rng.integers(0, 60, (count, 28, 28), dtype=np.uint8)
        images[np.arange(count), 2 * labels + 4] = 250
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            content = gzip.compress(idx_bytes(array), mtime=0)
            (folder / f"{part}-{name}-ubyte.gz").write_bytes(content)
    return folder


def write_jets(folder: Path, seed: int = 0, count: int = 600) -> Path:
    """Clusters in the form of OpenML's file: 16 numbers and a nominal class, on unlike scales."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, len(CLASSES), count)
    centres = rng.normal(size=(len(CLASSES), FEATURES))
    x = (centres[labels] + rng.normal(size=(count, FEATURES)) / 4) * 10.0 ** rng.integers(
        -3, 3, FEATURES
    )
    lines = ["@RELATION jets", *(f"@ATTRIBUTE f{i} REAL" for i in range(FEATURES))]
    lines += [f"@ATTRIBUTE class {{{','.join(CLASSES)}}}", "@DATA"]
    lines += [
        ",".join([*(f"{v:.6g}" for v in row), CLASSES[label]])
        for row, label in zip(x, labels, strict=True)
    ]
    (folder / data.JETS_FILE).write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No data set is on this machine, and none can be fetched."""
    monkeypatch.setenv("BITWRIGHT_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "MIRROR", "http://127.0.0.1:9")


@pytest.mark.parametrize("given", [True, False])
def test_mnist_is_read_from_the_named_folder_or_the_usual_one(tmp_path: Path, given: bool) -> None:
    folder = write_mnist(tmp_path / "data" / "mnist")
    split = data.load("mnist", (784,), folder if given else None)
    assert (split.train_x.shape, split.test_x.shape) == ((40, 784), (12, 784))
    assert split.image_shape == (1, 28, 28)
    assert split.test_y.tolist() == [*range(10), 0, 1]
    rows = split.test_x.reshape(-1, 28, 28).mean(axis=2).argmax(axis=1)
    assert ((rows - 4) // 2).tolist() == split.test_y.tolist()
    assert split.train_x.max() == np.float32(250 / 255)


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[str]:
    """A server of small idx files in the place of the real one."""
    folder = write_mnist(tmp_path / "served")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    handler.log_message = lambda *args: None  # type: ignore[attr-defined]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_mnist_is_fetched_once_and_kept(
    tmp_path: Path, mirror: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in MNIST_FILES:
        content = (tmp_path / "served" / name).read_bytes()
        monkeypatch.setitem(MNIST_FILES, name, hashlib.md5(content).hexdigest())
    folder = download_mnist(data.places("mnist", None), mirror)
    assert sorted(p.name for p in folder.iterdir()) == sorted(MNIST_FILES)
    assert data.load("mnist", (1, 28, 28)).train_x.shape == (40, 1, 28, 28)  # without the server


def test_a_fetched_file_that_is_another_is_not_kept(tmp_path: Path, mirror: str) -> None:
    with pytest.raises(UsageError, match=r"train-images.*md5"):
        download_mnist(data.places("mnist", None), mirror)
    assert not list((tmp_path / "cache" / "bitwright" / "mnist").iterdir())


def test_missing_data_says_where_it_was_looked_for_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"(?s)mnist is not here.*cannot be downloaded.*DATA="):
        download_mnist(data.places("mnist", None), "http://127.0.0.1:9")
    with pytest.raises(UsageError, match="four idx files"):
        data.load("mnist", (784,), tmp_path)
    with pytest.raises(UsageError, match=r"42468.*BITWRIGHT_DATA/jets.*untrained=true"):
        data.load("jets", (16,))
    with pytest.raises(UsageError, match="built in"):
        data.load("digits", (64,), tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "not an arff file",
        "@RELATION r\n@ATTRIBUTE a REAL\n@ATTRIBUTE c {x,y}\n@DATA\n1,x\n2,y\n",
        "@RELATION r\n@ATTRIBUTE a REAL\n@DATA\n1\n",
        "@RELATION r\n@ATTRIBUTE a STRING\n@DATA\nhello\n",
    ],
)
def test_another_arff_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / data.JETS_FILE).write_text(text)
    with pytest.raises(UsageError, match="jets"):
        data.load("jets", (16,), tmp_path)


def test_the_jet_tagger_standardizes_on_the_host_and_compiles_exactly(tmp_path: Path) -> None:
    """Raw features of any size go in; the file, QONNX's executor and the artifact agree."""
    write_jets(tmp_path / "data" / "jets")
    options = {"float_epochs": "30", "epochs": "10", "batch_size": "64"}
    request = Request("jet_mlp", "hls4ml", options, tmp_path / "out", tmp_path)
    report = compile_model(request, Events())
    assert report.agreement.matches
    assert report.accuracy["float"].value > 0.9  # clusters that far apart
    assert report.accuracy["quantized"].value > 0.9
    assert report.accuracy["integer"] == dataclasses.replace(
        report.accuracy["quantized"], name="accuracy integer"
    )
    (reference,) = (tmp_path / "models").glob("jet_mlp-*/reference.npz")
    with np.load(reference) as arrays:
        assert np.abs(arrays["x"]).max() > 50  # nobody standardized them on the way in
        assert np.array_equal(
            run_qonnx(reference.with_name("model.onnx"), arrays["x"]), arrays["y"]
        )


def test_other_data_are_trained_on_anew(tmp_path: Path) -> None:
    recipe = dataclasses.replace(MODELS["jet_mlp"](), float_epochs=1, epochs=1)
    first, second = (
        data.load("jets", (16,), write_jets(tmp_path / str(seed), seed)) for seed in (1, 2)
    )
    folder = tmp_path / "training"
    one = train(recipe, folder, split=first)
    assert finished(recipe, folder) is not None
    assert finished(recipe, folder, first.digest()) is not None
    assert finished(recipe, folder, second.digest()) is None
    two = train(recipe, folder, split=second)  # and its checkpoint is not the first one's
    assert (one.data, two.data) == (first.digest(), second.digest())
    assert one.history != two.history


def test_an_untrained_model_needs_no_data_and_says_what_it_is(tmp_path: Path) -> None:
    request = Request("jet_mlp", "hls4ml", {"untrained": "true"}, tmp_path / "out", tmp_path)
    report = compile_model(request, Events())
    assert report.agreement.matches
    assert not report.accuracy
    assert any("untrained" in warning for warning in report.warnings)
    again = compile_model(request, Events())
    assert again.up_to_date


@pytest.mark.parametrize("name", MODELS)
def test_every_output_has_the_name_of_its_class(name: str) -> None:
    recipe = MODELS[name]()
    if not recipe.reconstructs:
        names = data.CLASSES[recipe.data]
        assert recipe.summary()[-1].output_shape == (len(names),)
        assert len(set(names)) == len(names)


def test_untrained_weights_follow_the_seed(tmp_path: Path) -> None:
    recipe = dataclasses.replace(MLP, untrained=True)
    files = [
        train(dataclasses.replace(recipe, seed=seed), tmp_path / name).model.read_bytes()
        for seed, name in ((0, "a"), (0, "b"), (1, "c"))
    ]
    assert files[0] == files[1] != files[2]


def test_untrained_with_data_is_refused(tmp_path: Path) -> None:
    options = {"untrained": "true"}
    request = Request("jet_mlp", "hls4ml", options, None, tmp_path, write_jets(tmp_path / "jets"))
    with pytest.raises(UsageError, match="untrained"):
        compile_model(request, Events())
